import Kernels
import Tensors

/// Numbers that depend on a seed alone, so that a failing case can be run again.
struct TestNumbers {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 0x1234_5678_9ABC_DEF1
  }

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }

  /// In -1 ..< 1.
  mutating func float() -> Float {
    Float(Int64(bitPattern: next()) >> 40) / Float(1 << 23)
  }

  mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in float() } }

  mutating func int(_ range: Range<Int>) -> Int {
    range.lowerBound + Int(next() >> 33) % range.count
  }
}

/// The little-endian bytes of integers.
func bytes(_ values: [some FixedWidthInteger]) -> [UInt8] {
  values.flatMap { value in
    (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}

func bytes(_ values: [Float]) -> [UInt8] { bytes(values.map(\.bitPattern)) }

func widened(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

func rounded(_ value: Float) -> Float { widened(bfloat16Bits(value)) }

func bits(_ buffer: borrowing Buffer<Float>) -> [UInt32] {
  buffer.array(0..<buffer.count).map(\.bitPattern)
}

/// A region that begins `offset` bytes after an aligned address.
func region(_ content: [UInt8], offset: Int) -> ByteRegion {
  ByteRegion(copying: [UInt8](repeating: 0xFF, count: offset) + content)[
    offset..<offset + content.count]
}

extension WeightMatrix.Format {
  static let floatingPoint: [WeightMatrix.Format] = [.float32, .bfloat16, .e4m3]
}

/// Random weights of one format, and what they stand for.
struct TestMatrix {
  let weights: WeightMatrix
  let values: [Float]

  init(
    _ format: WeightMatrix.Format, rows: Int, columns: Int, offset: Int = 0,
    notANumberAt place: Int? = nil, using numbers: inout TestNumbers
  ) {
    switch format {
    case .float32:
      var drawn = numbers.floats(rows * columns)
      if let place { drawn[place] = .nan }
      values = drawn
      weights = .float32(region(bytes(values), offset: offset), rows: rows, columns: columns)
    case .bfloat16:
      var stored = numbers.floats(rows * columns).map(bfloat16Bits)
      if let place { stored[place] = 0xFFFF }
      values = stored.map(widened)
      weights = .bfloat16(region(bytes(stored), offset: offset), rows: rows, columns: columns)
    case .e4m3:
      var codes: [UInt8] = []
      for _ in 0..<rows * columns {
        let code = UInt8(truncatingIfNeeded: numbers.next() >> 20)
        codes.append(code & 0x7F == 0x7F ? 0x38 : code)
      }
      if let place { codes[place] = 0x7F }
      let across = WeightMatrix.scaleBlockCount(columns)
      let scales = (0..<WeightMatrix.scaleBlockCount(rows) * across).map { _ in
        (numbers.float() + 2) / 400
      }
      values = (0..<rows * columns).map { index in
        float(e4m3: codes[index])
          * scales[index / columns / 128 * across + index % columns / 128]
      }
      weights = .e4m3(
        region(codes, offset: offset), scaleInverse: region(bytes(scales), offset: offset),
        rows: rows, columns: columns)
    case .int8, .int4:
      // INT4 has whole groups only; other widths take INT8.
      let isFour = format == .int4 && columns % 32 == 0
      let matrix = TestIntegerMatrix(
        IntegerCase(
          format: isFour ? .int4 : .int8, grouping: isFour ? .columns(32) : .row,
          hasZeros: isFour, rows: rows, columns: columns, tokens: 1, offset: offset),
        using: &numbers)
      (weights, values) = (matrix.weights, matrix.values)
    }
  }
}
