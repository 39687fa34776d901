#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

// Values on their way to another process: Float32 rows as they are, rounded to BF16, or as E4M3
// with a factor for every 128 values. Plain loops that the compiler vectorises.

/// How values are written where they leave a process.
package enum PackedType: Sendable, Equatable, CaseIterable {
  case float32
  case bfloat16
  /// One byte per value, and after all values of a row one Float32 factor per 128 of them.
  case e4m3

  /// Bytes of one row of `columns` values; rows begin at multiples of 4.
  package func rowByteCount(_ columns: Int) -> Int {
    switch self {
    case .float32: 4 * columns
    case .bfloat16: (2 * columns + 3) / 4 * 4
    case .e4m3: (columns + 3) / 4 * 4 + 4 * ((columns + 127) / 128)
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
      case .e4m3: unsafe packE4M3(x, y, columns)
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
      case .e4m3:
        let codes = unsafe x.assumingMemoryBound(to: UInt8.self)
        let factors = unsafe (x + (columns + 3) / 4 * 4).assumingMemoryBound(to: Float.self)
        unsafe e4m3Values.withUnsafeBufferPointer { values in
          for index in 0..<columns {
            unsafe y[index] = values[Int(codes[index])] * factors[index / 128]
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
    precondition(type != .e4m3, "results are never E4M3")
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

/// The value of every E4M3 code.
private let e4m3Values: [Float] = (0..<256).map { float(e4m3: UInt8($0)) }

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

private func packE4M3(
  _ x: UnsafePointer<Float>, _ target: UnsafeMutableRawPointer, _ columns: Int
) {
  let y = unsafe target.assumingMemoryBound(to: UInt8.self)
  let factors = unsafe (target + (columns + 3) / 4 * 4).assumingMemoryBound(to: Float.self)
  var first = 0
  while first < columns {
    let last = min(columns, first + 128)
    var largest: Float = 0
    for index in first..<last { unsafe largest = max(largest, abs(x[index])) }
    let factor = largest > 0 && largest.isFinite ? largest / 448 : 1
    unsafe factors[first / 128] = factor
    let inverse = 1 / factor
    for index in first..<last { unsafe y[index] = e4m3Code(x[index] * inverse) }
    first = last
  }
}

/// The nearest E4M3 code, ties to even; larger values than 448 become 448, NaN stays NaN.
package func e4m3Code(_ value: Float) -> UInt8 {
  let sign = UInt8(truncatingIfNeeded: value.bitPattern >> 24) & 0x80
  let magnitude = abs(value)
  if magnitude.isNaN { return sign | 0x7F }
  if magnitude >= 448 { return sign | 0x7E }
  if magnitude < 0x1p-6 {
    // Subnormal: multiples of 2^-9; rounding up from the last gives the smallest normal code.
    return sign | UInt8((magnitude * 512).rounded(.toNearestOrEven))
  }
  let bits = magnitude.bitPattern
  let rounded = bits &+ 0x7FFFF &+ (bits >> 20 & 1)
  let code = (rounded >> 20) &- (120 << 3)
  return sign | UInt8(truncatingIfNeeded: min(code, 0x7E))
}
