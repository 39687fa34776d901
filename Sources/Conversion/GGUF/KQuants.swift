// The K types: blocks of 256 elements with 4- or 6-bit scales for groups of 16 or 32 elements,
// relative to one Float16 scale (and one for the minima) per block.

/// scales[16] (4-bit scale, 4-bit minimum), 64 bytes of 2-bit values, d, dmin.
func decodeQ2K(
  _ source: borrowing Span<UInt8>, _ start: Int, _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start + 80)
  let minimum = half(source, start + 82)
  for group in 0..<16 {
    let packed = source[start + group]
    let d = scale * Float(packed & 15)
    let m = minimum * Float(packed >> 4)
    for i in 0..<16 {
      out.append(d * Float(twoBits(source, start + 16, group, i)) - m)
    }
  }
}

/// hmask[32] (third bits), 64 bytes of 2-bit values, scales[12] (16 of 6 bits), d.
///
/// The third bit set means no offset, clear means minus 4.
func decodeQ3K(
  _ source: borrowing Span<UInt8>, _ start: Int, _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start + 108)
  for group in 0..<16 {
    let low = source[start + 96 + group % 8] >> (group < 8 ? 0 : 4) & 15
    let high = source[start + 104 + group % 4] >> UInt8(2 * (group / 4)) & 3
    let d = scale * Float(Int32(low | high << 4) - 32)
    for i in 0..<16 {
      let position = 16 * group + i
      let third = source[start + position % 32] >> UInt8(position / 32) & 1
      let code = Int32(twoBits(source, start + 32, group, i)) - (third == 1 ? 0 : 4)
      out.append(d * Float(code))
    }
  }
}

/// d, dmin, scales[12] (8 scales and 8 minima of 6 bits), 128 bytes of two 4-bit values.
func decodeQ4K(
  _ source: borrowing Span<UInt8>, _ start: Int, _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start)
  let minimum = half(source, start + 2)
  for group in 0..<8 {
    let (s, m) = scaleAndMinimum(source, start + 4, group)
    let d = scale * Float(s)
    let dm = minimum * Float(m)
    for i in 0..<32 {
      let code = source[start + 16 + 32 * (group / 2) + i] >> (group % 2 == 0 ? 0 : 4) & 15
      out.append(d * Float(code) - dm)
    }
  }
}

/// As Q4_K, with 32 bytes of fifth bits before the values: bit `group` of byte `i`.
func decodeQ5K(
  _ source: borrowing Span<UInt8>, _ start: Int, _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start)
  let minimum = half(source, start + 2)
  for group in 0..<8 {
    let (s, m) = scaleAndMinimum(source, start + 4, group)
    let d = scale * Float(s)
    let dm = minimum * Float(m)
    for i in 0..<32 {
      let low = source[start + 48 + 32 * (group / 2) + i] >> (group % 2 == 0 ? 0 : 4) & 15
      let fifth = source[start + 16 + i] >> UInt8(group) & 1
      out.append(d * Float(low | fifth << 4) - dm)
    }
  }
}

/// 128 bytes of low 4 bits, 64 bytes of high 2 bits, 16 signed scales, d; d·scale·(q − 32).
func decodeQ6K(
  _ source: borrowing Span<UInt8>, _ start: Int, _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start + 208)
  for group in 0..<16 {
    let d = scale * Float(Int8(bitPattern: source[start + 192 + group]))
    for i in 0..<16 {
      let position = 16 * group + i
      let (part, inside) = (position / 128, position % 128)
      let low = source[start + 64 * part + inside % 64] >> (inside < 64 ? 0 : 4) & 15
      let high = source[start + 128 + 32 * part + inside % 32] >> UInt8(2 * (inside / 32)) & 3
      out.append(d * Float(Int32(low | high << 4) - 32))
    }
  }
}

/// The 2-bit value `i` of a group of 16: 32 bytes hold four planes of 32 values.
private func twoBits(
  _ source: borrowing Span<UInt8>, _ values: Int, _ group: Int, _ i: Int
) -> UInt8 {
  let position = 16 * group + i
  let byte = source[values + 32 * (position / 128) + position % 32]
  return byte >> UInt8(2 * (position % 128 / 32)) & 3
}

/// The 6-bit scale and minimum of a group of 32 in Q4_K and Q5_K.
private func scaleAndMinimum(
  _ source: borrowing Span<UInt8>, _ scales: Int, _ group: Int
) -> (UInt8, UInt8) {
  if group < 4 { return (source[scales + group] & 63, source[scales + 4 + group] & 63) }
  let shared = source[scales + 4 + group]
  return (
    shared & 15 | source[scales + group - 4] >> 2 & 48,
    shared >> 4 | source[scales + group] >> 2 & 48
  )
}
