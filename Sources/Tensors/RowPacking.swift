#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

// Values on their way to another process: Float32 rows as they are, rounded to BF16, or as E3M4
// with a factor for every 64 values. Plain loops that the compiler vectorises.
//
// Why E3M4 and not the E4M3 of weights: with a factor for every few values the range of E4M3 is not
// used, and one more bit of mantissa halves the error. Of normal values it leaves 1.2 % instead of
// 2.6 % (root mean square), also where one value in 500 is 40 times as large; steps of one size
// (INT8, E2M5) do better without such outliers and worse with them.

/// How values are written where they leave a process.
package enum PackedType: Sendable, Equatable, CaseIterable {
  case float32
  case bfloat16
  /// One byte per value, and after all values of a row one Float32 factor per 64 of them.
  case e3m4

  /// Bytes of one row of `columns` values; rows begin at multiples of 4.
  package func rowByteCount(_ columns: Int) -> Int {
    switch self {
    case .float32: 4 * columns
    case .bfloat16: (2 * columns + 3) / 4 * 4
    case .e3m4: (columns + 3) / 4 * 4 + 4 * ((columns + e3m4Block - 1) / e3m4Block)
    }
  }
}

extension Buffer where Element == Float {
  /// Writes `columns` elements from `offset` on as one row at byte `target` of `region`.
  package func pack(
    at offset: Int, columns: Int, as type: PackedType, into region: MutableByteRegion,
    at target: Int
  ) {
    precondition(
      offset >= 0 && columns >= 0 && offset + columns <= count, "elements outside the buffer")
    checkRow(type, columns, region.byteCount, target)
    unsafe withUnsafePointer { base in
      let x = unsafe base + offset
      let y = unsafe region.base + target
      switch type {
      case .float32: unsafe memcpy(y, x, 4 * columns)
      case .bfloat16: unsafe packBFloat16(x, y, columns)
      case .e3m4: unsafe packE3M4(x, y, columns)
      }
    }
  }

  /// Reads one row at byte `source` of `region` into the `columns` elements from `offset` on.
  package mutating func unpack(
    _ type: PackedType, from region: MutableByteRegion, at source: Int, columns: Int,
    to offset: Int
  ) {
    precondition(
      offset >= 0 && columns >= 0 && offset + columns <= count, "elements outside the buffer")
    checkRow(type, columns, region.byteCount, source)
    unsafe withUnsafeMutablePointer { base in
      let y = unsafe base + offset
      let x = unsafe UnsafeRawPointer(region.base + source)
      switch type {
      case .float32: unsafe memcpy(y, x, 4 * columns)
      case .bfloat16:
        let codes = unsafe x.assumingMemoryBound(to: UInt16.self)
        for index in 0..<columns {
          unsafe y[index] = Float(bitPattern: UInt32(codes[index]) << 16)
        }
      case .e3m4:
        let codes = unsafe x.assumingMemoryBound(to: UInt8.self)
        let factors = unsafe (x + (columns + 3) / 4 * 4).assumingMemoryBound(to: Float.self)
        unsafe e3m4Values.withUnsafeBufferPointer { values in
          for index in 0..<columns {
            unsafe y[index] = values[Int(codes[index])] * factors[index / e3m4Block]
          }
        }
      }
    }
  }

  /// Adds one row at byte `source` of `region` to the `columns` elements from `offset` on.
  package mutating func addUnpacked(
    _ type: PackedType, from region: MutableByteRegion, at source: Int, columns: Int,
    to offset: Int
  ) {
    precondition(type != .e3m4, "results are never E3M4")
    precondition(
      offset >= 0 && columns >= 0 && offset + columns <= count, "elements outside the buffer")
    checkRow(type, columns, region.byteCount, source)
    unsafe withUnsafeMutablePointer { base in
      let y = unsafe base + offset
      let x = unsafe UnsafeRawPointer(region.base + source)
      if type == .float32 {
        let values = unsafe x.assumingMemoryBound(to: Float.self)
        for index in 0..<columns { unsafe y[index] += values[index] }
      } else {
        let codes = unsafe x.assumingMemoryBound(to: UInt16.self)
        for index in 0..<columns {
          unsafe y[index] += Float(bitPattern: UInt32(codes[index]) << 16)
        }
      }
    }
  }

  /// Adds the `columns` elements from `source` on to those from `target` on; they are apart.
  package mutating func addWithin(from source: Int, to target: Int, columns: Int) {
    precondition(
      min(source, target) >= 0 && max(source, target) + columns <= count
        && abs(source - target) >= columns, "elements outside the buffer")
    unsafe withUnsafeMutablePointer { base in
      let (x, y) = unsafe (base + source, base + target)
      for index in 0..<columns { unsafe y[index] += x[index] }
    }
  }

  /// Adds `count` elements from `source` of another buffer to the first ones here.
  package mutating func add(_ other: borrowing Buffer<Float>, from source: Int, count: Int) {
    precondition(
      source >= 0 && source + count <= other.count && count <= self.count,
      "elements outside the buffer")
    unsafe other.withUnsafePointer { base in
      let x = unsafe base + source
      unsafe withUnsafeMutablePointer { y in
        for index in 0..<count { unsafe y[index] += x[index] }
      }
    }
  }

  /// Copies `columns` elements from `source` of another buffer to `target` here.
  package mutating func copy(
    _ other: borrowing Buffer<Float>, from source: Int, to target: Int, columns: Int
  ) {
    precondition(
      min(source, target) >= 0 && source + columns <= other.count && target + columns <= count,
      "elements outside the buffer")
    unsafe other.withUnsafePointer { x in
      unsafe withUnsafeMutablePointer { y in
        _ = unsafe memcpy(y + target, x + source, 4 * columns)
      }
    }
  }
}

/// Values that share a factor.
private let e3m4Block = 64
/// The largest E3M4 value; there are no codes for infinity or NaN.
private let e3m4Largest: Float = 31
/// The value of every E3M4 code.
private let e3m4Values: [Float] = (0..<256).map { float(e3m4: UInt8($0)) }

private func checkRow(_ type: PackedType, _ columns: Int, _ byteCount: Int, _ offset: Int) {
  precondition(
    offset >= 0 && offset % 4 == 0 && offset + type.rowByteCount(columns) <= byteCount,
    "a row of \(columns) at \(offset) outside a region of \(byteCount)")
}

private func packBFloat16(
  _ x: UnsafePointer<Float>, _ target: UnsafeMutableRawPointer, _ columns: Int
) {
  let y = unsafe target.assumingMemoryBound(to: UInt16.self)
  for index in 0..<columns { unsafe y[index] = bfloat16Bits(x[index]) }
}

private func packE3M4(
  _ x: UnsafePointer<Float>, _ target: UnsafeMutableRawPointer, _ columns: Int
) {
  let y = unsafe target.assumingMemoryBound(to: UInt8.self)
  let factors = unsafe (target + (columns + 3) / 4 * 4).assumingMemoryBound(to: Float.self)
  var first = 0
  while first < columns {
    let last = min(columns, first + e3m4Block)
    // As integers magnitudes keep their order, and infinity and NaN are the largest.
    var bits: UInt32 = 0
    for index in first..<last { unsafe bits = max(bits, x[index].bitPattern & 0x7FFF_FFFF) }
    let largest = Float(bitPattern: bits)
    // A value that is none makes its whole block none, so that it is noticed on the other side.
    let isFinite = largest.isFinite
    let factor = largest < 0x1p-100 ? 1 : isFinite ? largest / e3m4Largest : .nan
    unsafe factors[first / e3m4Block] = factor
    let inverse = isFinite ? 1 / factor : 0
    for index in first..<last { unsafe y[index] = e3m4Code(x[index] * inverse) }
    first = last
  }
}

/// The nearest E3M4 code, ties to even; what is beyond 31 becomes 31.
package func e3m4Code(_ value: Float) -> UInt8 {
  let sign = value.bitPattern >> 24 & 0x80
  let magnitude = abs(value)
  // Without branches, so that loops become vectors. Small values are multiples of 2^-6 (rounding up
  // from the last gives the smallest normal code); adding 2^23 rounds to whole ones.
  let small = (magnitude * 64 + 0x1p23).bitPattern & 0x1F
  let bits = magnitude.bitPattern
  let rounded = (bits &+ 0x3FFFF &+ (bits >> 19 & 1)) >> 19
  let normal = min(rounded &- (124 << 4), 0x7F)
  return UInt8(truncatingIfNeeded: sign | (magnitude < 0x1p-2 ? small : normal))
}

/// The value of an E3M4 code: a sign, three bits of exponent, four of mantissa.
package func float(e3m4 code: UInt8) -> Float {
  let exponent = Int(code >> 4 & 7)
  let mantissa = Float(code & 15) / 16
  let magnitude =
    exponent == 0
    ? mantissa * 0x1p-2
    : (1 + mantissa) * Float(sign: .plus, exponent: exponent - 3, significand: 1)
  return code & 0x80 == 0 ? magnitude : -magnitude
}
