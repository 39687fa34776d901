/// A set of Unicode scalar values, as sorted, disjoint, non-adjacent ranges without surrogates.
struct ScalarSet: Hashable, Sendable {
  private(set) var ranges: [ClosedRange<UInt32>]

  static let all = ScalarSet([0...0x10FFFF])
  static let none = ScalarSet([])

  init(_ ranges: [ClosedRange<UInt32>]) {
    var merged: [ClosedRange<UInt32>] = []
    for range in Self.withoutSurrogates(ranges).sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = merged.last, range.lowerBound <= last.upperBound + 1 {
        merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        merged.append(range)
      }
    }
    self.ranges = merged
  }

  init(_ scalars: Unicode.Scalar...) {
    self.init(scalars.map { $0.value...$0.value })
  }

  private static func withoutSurrogates(
    _ ranges: [ClosedRange<UInt32>]
  ) -> [ClosedRange<UInt32>] {
    ranges.flatMap { range -> [ClosedRange<UInt32>] in
      var parts: [ClosedRange<UInt32>] = []
      if range.lowerBound < 0xD800 {
        parts.append(range.lowerBound...min(range.upperBound, 0xD7FF))
      }
      if range.upperBound > 0xDFFF {
        parts.append(max(range.lowerBound, 0xE000)...range.upperBound)
      }
      return parts
    }
  }

  var isEmpty: Bool { ranges.isEmpty }

  /// The scalars that are not in the set.
  var complement: ScalarSet {
    var gaps: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges {
      if range.lowerBound > next { gaps.append(next...range.lowerBound - 1) }
      next = range.upperBound + 1
    }
    if next <= 0x10FFFF { gaps.append(next...0x10FFFF) }
    return ScalarSet(gaps)
  }

  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

  func intersection(_ other: ScalarSet) -> ScalarSet {
    complement.union(other.complement).complement
  }

  func subtracting(_ other: ScalarSet) -> ScalarSet { intersection(other.complement) }

  static let digits = ScalarSet([0x30...0x39])
  static let word = ScalarSet([0x30...0x39, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A])
  static let space = ScalarSet([
    0x09...0x0D, 0x20...0x20, 0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A, 0x2028...0x2029,
    0x202F...0x202F, 0x205F...0x205F, 0x3000...0x3000, 0xFEFF...0xFEFF,
  ])
  static let lineBreaks = ScalarSet([0x0A...0x0A, 0x0D...0x0D, 0x2028...0x2029])
}

/// A run of byte ranges: one way to write the scalars of a range in UTF-8.
typealias ByteRun = [ClosedRange<UInt8>]

extension ScalarSet {
  /// Byte runs that together match exactly the UTF-8 encodings of the set.
  var byteRuns: [ByteRun] {
    var runs: [ByteRun] = []
    for range in ranges {
      for limits in [0...0x7F, 0x80...0x7FF, 0x800...0xFFFF, 0x10000...0x10FFFF]
        as [ClosedRange<UInt32>]
      {
        let low = max(range.lowerBound, limits.lowerBound)
        let high = min(range.upperBound, limits.upperBound)
        if low <= high { Self.split(low, high, into: &runs) }
      }
    }
    return runs
  }

  /// Splits a range whose ends encode to equally many bytes until each part is a product of ranges.
  private static func split(_ low: UInt32, _ high: UInt32, into runs: inout [ByteRun]) {
    let first = encode(low)
    let last = encode(high)
    for tail in 1..<max(first.count, 1) {
      let size = UInt32(1) << (6 * UInt32(tail))  // scalars below one value of the byte before
      if low / size == high / size { continue }
      if low % size != 0 {
        split(low, low / size * size + size - 1, into: &runs)
        split(low / size * size + size, high, into: &runs)
        return
      }
      if high % size != size - 1 {
        split(low, high / size * size - 1, into: &runs)
        split(high / size * size, high, into: &runs)
        return
      }
    }
    runs.append(zip(first, last).map { $0...$1 })
  }

  static func encode(_ scalar: UInt32) -> [UInt8] {
    switch scalar {
    case 0..<0x80: [UInt8(scalar)]
    case 0x80..<0x800: [UInt8(0xC0 | scalar >> 6), UInt8(0x80 | scalar & 63)]
    case 0x800..<0x10000:
      [UInt8(0xE0 | scalar >> 12), UInt8(0x80 | scalar >> 6 & 63), UInt8(0x80 | scalar & 63)]
    default:
      [
        UInt8(0xF0 | scalar >> 18), UInt8(0x80 | scalar >> 12 & 63),
        UInt8(0x80 | scalar >> 6 & 63), UInt8(0x80 | scalar & 63),
      ]
    }
  }
}
