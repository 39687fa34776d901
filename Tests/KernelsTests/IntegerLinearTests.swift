import Kernels
import Tensors
import Testing

/// Random INT8 or INT4 weights, and what they stand for.
struct TestIntegerMatrix {
  let weights: WeightMatrix
  let values: [Float]

  init(_ one: IntegerCase, using numbers: inout TestNumbers) {
    let (rows, columns) = (one.rows, one.columns)
    let groups = IntegerFactors.groupCount(one.grouping, columns)
    let size = columns / groups
    let drawn = (0..<rows * groups).map { _ in (numbers.float() + 2) / 100 }
    let factors: [Float]
    let factorBytes: [UInt8]
    switch one.factorType {
    case .float32: (factors, factorBytes) = (drawn, bytes(drawn))
    case .bfloat16:
      let stored = drawn.map(bfloat16Bits)
      (factors, factorBytes) = (stored.map(widened), bytes(stored))
    case .float16:
      let stored = drawn.map { Float16($0) }
      (factors, factorBytes) = (stored.map { Float($0) }, bytes(stored.map(\.bitPattern)))
    }
    var zeros = [Int](repeating: one.format == .int4 ? 8 : 0, count: rows * groups)
    var words = [UInt32](repeating: 0, count: (rows + 7) / 8 * groups)
    if one.hasZeros {
      for row in 0..<rows {
        for group in 0..<groups {
          let zero = numbers.int(0..<16)
          zeros[row * groups + group] = zero
          words[row / 8 * groups + group] |= UInt32(zero) << UInt32(4 * (row % 8))
        }
      }
    }
    let stored = (0..<rows * columns).map { _ in
      one.format == .int4 ? numbers.int(0..<16) : numbers.int(-128..<128)
    }
    let content =
      one.format == .int8
      ? stored.map { UInt8(bitPattern: Int8($0)) }
      : stride(from: 0, to: stored.count, by: 2).map { UInt8(stored[$0] | stored[$0 + 1] << 4) }
    values = stored.indices.map { index in
      let place = index / columns * groups + index % columns / size
      return Float(stored[index] - zeros[place]) * factors[place]
    }
    let description = IntegerFactors(
      region(factorBytes, offset: one.offset), one.factorType, one.grouping,
      zeros: one.hasZeros ? region(bytes(words), offset: one.offset) : nil, rows: rows,
      columns: columns)
    let elements = region(content, offset: one.offset)
    weights =
      one.format == .int8
      ? .int8(elements, description, rows: rows, columns: columns)
      : .int4(elements, description, rows: rows, columns: columns)
  }
}

/// One product to try: every kind of group, tail and factor, and addresses without alignment.
struct IntegerCase: Sendable, CustomTestStringConvertible {
  var format: WeightMatrix.Format
  var grouping: IntegerFactors.Grouping
  var hasZeros = false
  var factorType = IntegerFactors.ElementType.bfloat16
  var rows: Int
  var columns: Int
  var tokens: Int
  var offset = 0

  var testDescription: String {
    "\(format) \(grouping)\(hasZeros ? " with zeros" : "") \(factorType) "
      + "[\(rows), \(columns)] × \(tokens) at +\(offset)"
  }

  static let all: [IntegerCase] = [
    IntegerCase(format: .int8, grouping: .row, rows: 1, columns: 1, tokens: 1),
    IntegerCase(format: .int8, grouping: .row, rows: 5, columns: 17, tokens: 7, offset: 3),
    IntegerCase(format: .int8, grouping: .row, rows: 33, columns: 300, tokens: 1),
    IntegerCase(
      format: .int8, grouping: .row, factorType: .float32, rows: 70, columns: 1111, tokens: 50,
      offset: 1),
    IntegerCase(format: .int8, grouping: .row, rows: 9, columns: 16_500, tokens: 2),
    IntegerCase(format: .int8, grouping: .columns(32), rows: 11, columns: 288, tokens: 20),
    IntegerCase(
      format: .int8, grouping: .columns(64), factorType: .float16, rows: 6, columns: 576,
      tokens: 5),
    IntegerCase(format: .int8, grouping: .columns(128), rows: 21, columns: 2176, tokens: 1),
    IntegerCase(format: .int4, grouping: .columns(32), rows: 1, columns: 32, tokens: 1),
    IntegerCase(
      format: .int4, grouping: .columns(32), rows: 130, columns: 288, tokens: 61, offset: 5),
    IntegerCase(
      format: .int4, grouping: .columns(32), hasZeros: true, rows: 19, columns: 2272, tokens: 1),
    IntegerCase(
      format: .int4, grouping: .columns(64), hasZeros: true, factorType: .float16, rows: 37,
      columns: 576, tokens: 9, offset: 2),
    IntegerCase(
      format: .int4, grouping: .columns(128), hasZeros: true, factorType: .float32, rows: 8,
      columns: 2688, tokens: 18),
    IntegerCase(format: .int4, grouping: .columns(128), rows: 9, columns: 12_800, tokens: 1),
    IntegerCase(format: .int4, grouping: .columns(64), rows: 5, columns: 17_024, tokens: 17),
  ]
}

/// The activations as a set sees them: on a grid for every 128 columns, or rounded to BF16.
private func seen(
  _ row: ArraySlice<Float>, _ activation: ActivationType, by set: KernelSet
) -> [Double] {
  if !set.name.hasPrefix("avx512") && activation != .int8 {
    return row.map { Double(activation == .bfloat16 ? rounded($0) : $0) }
  }
  let limit: Float = activation == .int8 ? 127 : activation == .bfloat16 ? 32639 : 8_355_000
  return stride(from: row.startIndex, to: row.endIndex, by: 128).flatMap { start in
    let block = row[start..<min(start + 128, row.endIndex)]
    let largest = block.map(abs).max() ?? 0
    if largest == 0 { return block.map { _ in 0.0 } }
    return block.map { value in
      Double((value * (limit / largest)).rounded(.toNearestOrEven)) * Double(largest / limit)
    }
  }
}

private func product(
  _ compute: Compute, _ weights: WeightMatrix, _ x: [Float], tokens: Int,
  _ activation: ActivationType
) -> [UInt32] {
  var input = LinearInput(
    kernels: compute.kernels, activation: activation, maxTokens: tokens,
    maxColumns: weights.columns, formats: weights.formats)
  let source = Buffer<Float>(x)
  compute.prepare(&input, from: source, rowCount: tokens, columns: weights.columns)
  var output = Buffer<Float>(count: tokens * weights.rows)
  compute.linear(weights, input, into: &output)
  return bits(output)
}

@Suite struct IntegerLinearTests {
  @Test("every set computes the product", arguments: KernelSet.available, IntegerCase.all)
  func matchesDouble(set: KernelSet, one: IntegerCase) {
    var numbers = TestNumbers(seed: 17)
    let matrix = TestIntegerMatrix(one, using: &numbers)
    let x = numbers.floats(one.tokens * one.columns)
    let compute = Compute(kernels: set, threadCount: 1)
    for activation in ActivationType.allCases {
      let found = product(compute, matrix.weights, x, tokens: one.tokens, activation)
      var worst = 0.0
      for token in 0..<one.tokens {
        let row = seen(
          x[token * one.columns..<(token + 1) * one.columns], activation, by: set)
        for n in 0..<one.rows {
          var (sum, magnitude) = (0.0, 0.0)
          for k in 0..<one.columns {
            let term = Double(matrix.values[n * one.columns + k]) * row[k]
            sum += term
            magnitude += abs(term)
          }
          let value = Double(Float(bitPattern: found[token * one.rows + n]))
          worst = max(worst, abs(value - sum) / max(magnitude, 1e-30))
        }
      }
      #expect(worst < 2e-6, "\(activation)")
    }
  }

  @Test(
    "bits depend on neither threads nor the number of tokens", arguments: KernelSet.available,
    IntegerCase.all)
  func sameBits(set: KernelSet, one: IntegerCase) {
    var numbers = TestNumbers(seed: 19)
    let matrix = TestIntegerMatrix(one, using: &numbers)
    let x = numbers.floats(one.tokens * one.columns)
    let team = Compute(kernels: set, threadCount: 3)
    for activation in ActivationType.allCases {
      let single = Compute(kernels: set, threadCount: 1)
      let whole = product(single, matrix.weights, x, tokens: one.tokens, activation)
      #expect(product(team, matrix.weights, x, tokens: one.tokens, activation) == whole)
      var first = 0
      while first < one.tokens {
        let count = first == 0 ? 1 : min(one.tokens - first, numbers.int(1..<9))
        let part = Array(x[first * one.columns..<(first + count) * one.columns])
        #expect(
          product(team, matrix.weights, part, tokens: count, activation)
            == Array(whole[first * one.rows..<(first + count) * one.rows]))
        first += count
      }
    }
  }

  @Test("rows are widened to what they stand for", arguments: KernelSet.available)
  func lookUp(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 1)
    var numbers = TestNumbers(seed: 23)
    for one in IntegerCase.all where one.columns < 3000 {
      let matrix = TestIntegerMatrix(one, using: &numbers)
      var output = Buffer<Float>(count: one.columns)
      compute.lookUp(matrix.weights, rows: [Int32(one.rows - 1)], into: &output)
      let found = output.array(0..<one.columns)
      #expect(found == Array(matrix.values.suffix(one.columns)))
    }
  }

  @Test(
    "an activation that is not finite spoils its own token alone", arguments: KernelSet.available)
  func notANumber(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 1)
    var numbers = TestNumbers(seed: 29)
    for one in IntegerCase.all where one.tokens >= 5 && one.columns < 3000 {
      let matrix = TestIntegerMatrix(one, using: &numbers)
      var x = numbers.floats(one.tokens * one.columns)
      x[one.columns - 1] = .infinity
      x[3 * one.columns + 2] = .nan
      for activation in ActivationType.allCases {
        let found = product(compute, matrix.weights, x, tokens: one.tokens, activation)
        for (index, value) in found.enumerated() {
          let spoiled = index / one.rows == 0 || index / one.rows == 3
          // An element of zero times infinity is nothing a kernel has to notice.
          if !spoiled { #expect(Float(bitPattern: value).isFinite) }
          if index / one.rows == 3 { #expect(Float(bitPattern: value).isNaN) }
        }
        #expect(found[0..<one.rows].contains { !Float(bitPattern: $0).isFinite })
      }
    }
  }
}
