import Kernels
import Tensors
import Testing

/// One matrix product to try: shapes with every kind of tail, and addresses without alignment.
struct LinearCase: Sendable, CustomTestStringConvertible {
  var format: WeightMatrix.Format
  var activation: ActivationType
  var rows: Int
  var columns: Int
  var tokens: Int
  var offset: Int

  var testDescription: String {
    "\(format) \(activation.rawValue) [\(rows), \(columns)] × \(tokens) at +\(offset)"
  }

  static let all: [LinearCase] = {
    var cases: [LinearCase] = []
    let shapes = [
      (1, 1, 1), (3, 2, 1), (5, 17, 7), (64, 64, 1), (33, 63, 13), (130, 129, 2), (257, 300, 9),
      (7, 1000, 50), (20, 2600, 40), (30, 285, 24), (129, 4097, 3), (512, 384, 61),
    ]
    for (index, (rows, columns, tokens)) in shapes.enumerated() {
      for format in WeightMatrix.Format.floatingPoint {
        for activation in [ActivationType.bfloat16, .float32] {
          cases.append(
            LinearCase(
              format: format, activation: activation, rows: rows, columns: columns,
              tokens: tokens, offset: index % 2 == 0 ? 0 : 2 * index))
        }
      }
    }
    return cases
  }()
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

@Suite struct LinearTests {
  @Test("every set computes the product", arguments: KernelSet.available, LinearCase.all)
  func matchesDouble(set: KernelSet, one: LinearCase) {
    var numbers = TestNumbers(seed: 7)
    let matrix = TestMatrix(
      one.format, rows: one.rows, columns: one.columns, offset: one.offset, using: &numbers)
    let x = numbers.floats(one.tokens * one.columns)
    let compute = Compute(kernels: set, threadCount: 1)
    let found = product(compute, matrix.weights, x, tokens: one.tokens, one.activation)
    var worst = 0.0
    for token in 0..<one.tokens {
      for row in 0..<one.rows {
        var sum = 0.0
        var magnitude = 0.0
        for k in 0..<one.columns {
          let activation = x[token * one.columns + k]
          let factor = Double(one.activation == .bfloat16 ? rounded(activation) : activation)
          let term = Double(matrix.values[row * one.columns + k]) * factor
          sum += term
          magnitude += abs(term)
        }
        let error = abs(Double(Float(bitPattern: found[token * one.rows + row])) - sum)
        worst = max(worst, error / max(magnitude, 1e-30))
      }
    }
    // A pair of BF16 leaves up to 2^-17 of each activation.
    #expect(worst < (one.activation == .bfloat16 ? 2e-6 : 1e-5))
  }

  @Test(
    "bits depend on neither threads nor the number of tokens", arguments: KernelSet.available,
    LinearCase.all)
  func sameBits(set: KernelSet, one: LinearCase) {
    var numbers = TestNumbers(seed: 11)
    let matrix = TestMatrix(
      one.format, rows: one.rows, columns: one.columns, offset: one.offset, using: &numbers)
    let x = numbers.floats(one.tokens * one.columns)
    let single = Compute(kernels: set, threadCount: 1)
    let whole = product(single, matrix.weights, x, tokens: one.tokens, one.activation)
    let team = Compute(kernels: set, threadCount: 3)
    #expect(product(team, matrix.weights, x, tokens: one.tokens, one.activation) == whole)
    var first = 0
    while first < one.tokens {
      let count = min(one.tokens - first, numbers.int(1..<9))
      let part = Array(x[first * one.columns..<(first + count) * one.columns])
      #expect(
        product(team, matrix.weights, part, tokens: count, one.activation)
          == Array(whole[first * one.rows..<(first + count) * one.rows]))
      first += count
    }
  }

  @Test("every E4M3 code is widened exactly", arguments: KernelSet.available)
  func allCodes(set: KernelSet) {
    // One column per code and activations that pick one of them: a product is a code's value.
    let codes = (0..<256).map { UInt8($0) }
    let weights = WeightMatrix.e4m3(
      ByteRegion(copying: codes), scaleInverse: ByteRegion(copying: bytes([Float(1), 2])),
      rows: 1, columns: 256)
    let compute = Compute(kernels: set, threadCount: 1)
    for code in 0..<256 where code & 0x7F != 0x7F {
      let clean = WeightMatrix.e4m3(
        ByteRegion(copying: codes.map { $0 & 0x7F == 0x7F ? 0 : $0 }),
        scaleInverse: ByteRegion(copying: bytes([Float(1), 2])), rows: 1, columns: 256)
      var x = [Float](repeating: 0, count: 256)
      x[code] = 1
      let found = product(compute, clean, x, tokens: 1, .bfloat16)
      #expect(Float(bitPattern: found[0]) == float(e4m3: UInt8(code)) * (code < 128 ? 1 : 2))
    }
    var widened = Buffer<Float>(count: 256)
    compute.lookUp(weights, rows: [0], into: &widened)
    for code in 0..<256 {
      let expected = float(e4m3: UInt8(code)) * (code < 128 ? 1 : 2)
      let found = widened[code]
      #expect(found == expected || (found.isNaN && expected.isNaN))
    }
  }

  @Test(
    "a NaN weight or activation reaches its outputs and no others", arguments: KernelSet.available)
  func notANumber(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 1)
    var numbers = TestNumbers(seed: 3)
    for format in WeightMatrix.Format.floatingPoint {
      for activation in [ActivationType.bfloat16, .float32] {
        let matrix = TestMatrix(
          format, rows: 9, columns: 70, notANumberAt: 4 * 70 + 33, using: &numbers)
        var x = numbers.floats(3 * 70)
        // Behind a token without: nothing may read beyond a row's end.
        x[70] = .nan
        x[140 + 69] = .infinity
        let found = product(compute, matrix.weights, x, tokens: 3, activation).map {
          Float(bitPattern: $0)
        }
        for row in 0..<9 {
          #expect(found[row].isNaN == (row == 4))
          #expect(found[9 + row].isNaN)
          #expect(!found[18 + row].isFinite)
        }
      }
    }
  }

  @Test("gathered rows give the same bits as their own", arguments: KernelSet.available)
  func gather(set: KernelSet) {
    var numbers = TestNumbers(seed: 5)
    let compute = Compute(kernels: set, threadCount: 2)
    let matrix = TestMatrix(.bfloat16, rows: 20, columns: 50, using: &numbers)
    let x = numbers.floats(6 * 50)
    let whole = product(compute, matrix.weights, x, tokens: 6, .bfloat16)
    var input = LinearInput(
      kernels: set, activation: .bfloat16, maxTokens: 6, maxColumns: 50, formats: .init(.bfloat16))
    let source = Buffer<Float>(x)
    compute.prepare(&input, from: source, rows: [5, 0, 2], columns: 50)
    var output = Buffer<Float>(count: 60)
    compute.linear(matrix.weights, input, into: &output)
    let wanted = Array(whole[100..<120]) + Array(whole[0..<20]) + Array(whole[40..<60])
    let found = bits(output)
    #expect(found == wanted)
  }
}
