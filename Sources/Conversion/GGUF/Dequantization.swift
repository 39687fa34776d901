// Decoding of ggml's block formats to Float32, in the order of operations of the format's
// reference, so that the results are the same to the last bit. Blocks of 32 hold one scale (and a
// minimum in the `_1` types); the K types, in KQuants.swift, hold 256 elements with scales of
// their own for groups of 16 or 32. Within a byte of packed 4-bit values the low half belongs to
// the first half of the group, the high half to the second.

/// Decodes whole blocks of `type` into Float32 values.
///
/// - Precision: scales are widened from Float16 exactly; products and sums in Float32, unfused.
/// - Source: ggml's block formats, checked against the Python package `gguf`.
package func dequantize(_ type: BlockType, _ bytes: [UInt8]) -> [Float] {
  precondition(
    bytes.count % type.bytesPerBlock == 0,
    "\(bytes.count) bytes are not whole blocks of \(type.name)")
  let blockCount = bytes.count / type.bytesPerBlock
  return [Float](capacity: blockCount * type.elementsPerBlock) { out in
    let source = bytes.span
    for block in 0..<blockCount {
      let start = block * type.bytesPerBlock
      switch type {
      case .float32:
        let low = UInt32(short(source, start))
        out.append(Float(bitPattern: low | UInt32(short(source, start + 2)) << 16))
      case .float16: out.append(half(source, start))
      case .bfloat16: out.append(Float(bitPattern: UInt32(short(source, start)) << 16))
      case .q8_0: decodeQ8_0(source, start, &out)
      case .q4_0: decodeQ4(source, start, hasMinimum: false, &out)
      case .q4_1: decodeQ4(source, start, hasMinimum: true, &out)
      case .q5_0: decodeQ5(source, start, hasMinimum: false, &out)
      case .q5_1: decodeQ5(source, start, hasMinimum: true, &out)
      case .q2K: decodeQ2K(source, start, &out)
      case .q3K: decodeQ3K(source, start, &out)
      case .q4K: decodeQ4K(source, start, &out)
      case .q5K: decodeQ5K(source, start, &out)
      case .q6K: decodeQ6K(source, start, &out)
      }
    }
  }
}

/// The little-endian 16-bit number at `offset`.
func short(_ source: borrowing Span<UInt8>, _ offset: Int) -> UInt16 {
  UInt16(source[offset]) | UInt16(source[offset + 1]) << 8
}

/// The Float16 at `offset`, widened.
func half(_ source: borrowing Span<UInt8>, _ offset: Int) -> Float {
  Float(Float16(bitPattern: short(source, offset)))
}

/// d: Float16, then 32 signed bytes.
private func decodeQ8_0(
  _ source: borrowing Span<UInt8>, _ start: Int, _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start)
  for i in 0..<32 { out.append(Float(Int8(bitPattern: source[start + 2 + i])) * scale) }
}

/// d (and m): Float16, then 16 bytes of two 4-bit values; d·(q − 8), or d·q + m.
private func decodeQ4(
  _ source: borrowing Span<UInt8>, _ start: Int, hasMinimum: Bool,
  _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start)
  let values = start + (hasMinimum ? 4 : 2)
  let minimum = hasMinimum ? half(source, start + 2) : 0
  for shift: UInt8 in [0, 4] {
    for i in 0..<16 {
      let code = Int32(source[values + i] >> shift & 15)
      out.append(hasMinimum ? scale * Float(code) + minimum : scale * Float(code - 8))
    }
  }
}

/// d (and m): Float16, 32 fifth bits, then 16 bytes of two 4-bit values; d·(q − 16), or d·q + m.
private func decodeQ5(
  _ source: borrowing Span<UInt8>, _ start: Int, hasMinimum: Bool,
  _ out: inout OutputSpan<Float>
) {
  let scale = half(source, start)
  let bits = start + (hasMinimum ? 4 : 2)
  let minimum = hasMinimum ? half(source, start + 2) : 0
  let fifth = UInt32(short(source, bits)) | UInt32(short(source, bits + 2)) << 16
  for i in 0..<32 {
    let low = source[bits + 4 + i % 16] >> (i < 16 ? 0 : 4) & 15
    let code = Int32(low) | Int32(fifth >> UInt32(i) & 1) << 4
    out.append(hasMinimum ? scale * Float(code) + minimum : scale * Float(code - 16))
  }
}
