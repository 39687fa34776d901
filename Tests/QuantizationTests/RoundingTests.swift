import Kernels
import Tensors
import TestSupport
import Testing

/// Rounding against the best that exists, and packing against another implementation; see
/// Tests/Fixtures/quantization.
@Suite struct RoundingTests {
  private let golden: CheckpointFiles
  private let rounding = WeightRounding(team: WorkTeam(workerCount: 2))

  init() throws { golden = try CheckpointFiles(directory: Fixtures.path("quantization")) }

  private func number(_ name: String) throws -> Double {
    try golden.tensor(name).bytes.load(Double.self, at: 0)
  }

  @Test(
    "integers lose at most 5 % more than the best factors and zero points do",
    arguments: [
      ("int4.32", 4, 32, false), ("int4.32.zeros", 4, 32, true), ("int4.64.zeros", 4, 64, true),
      ("int4.128", 4, 128, false), ("int8.128", 8, 128, false), ("int8.32", 8, 32, false),
    ])
  func integers(name: String, bits: Int, size: Int, zeros: Bool) throws {
    let rounded = rounding.integers(
      try golden.tensor("weights"), bits: bits, .columns(size), zeros: zeros, inputs: nil)
    let best = try number("error." + name)
    #expect(rounded.loss.error <= 1.05 * best)
    #expect(rounded.loss.error >= 0.999 * best)
  }

  @Test("E4M3 loses at most 5 % more than the best factor does")
  func e4m3() throws {
    let rounded = rounding.e4m3(try golden.tensor("block"), inputs: nil)
    let best = try number("error.e4m3")
    #expect(rounded.loss.error <= 1.05 * best)
    #expect(rounded.loss.error >= 0.98 * best)
  }

  @Test("what is written stands for what the loss says", arguments: [false, true])
  func lossIsTrue(zeros: Bool) throws {
    let tensor = try golden.tensor("weights")
    let weights = try #require(tensor.floats())
    let rounded = rounding.integers(
      tensor, bits: 4, .columns(32), zeros: zeros, inputs: nil)
    let factors = IntegerFactors(
      ByteRegion(copying: rounded.factors), .bfloat16, .columns(32),
      zeros: zeros ? ByteRegion(copying: rounded.zeros) : nil, rows: 16, columns: 128)
    let matrix = WeightMatrix.int4(
      ByteRegion(copying: rounded.elements), factors, rows: 16, columns: 128)
    let values = try widened(matrix)
    var error = 0.0
    for (a, b) in zip(values, weights) { error += Double(a - b) * Double(a - b) }
    #expect(abs(error - rounded.loss.error) < 1e-6 * error)
  }

  /// Inputs that go together, as those of real layers do: few directions and some noise.
  private func correlatedInputs(_ columns: Int) -> [[Float]] {
    var state: UInt64 = 7
    func uniform() -> Float {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Float(state >> 40) / Float(1 << 23) - 1
    }
    let directions = (0..<12).map { _ in (0..<columns).map { _ in uniform() } }
    return (0..<500).map { _ in
      let shares = directions.map { _ in uniform() }
      return (0..<columns).map { k in
        zip(shares, directions).reduce(0.2 * uniform()) { $0 + $1.0 * $1.1[k] }
      }
    }
  }

  @Test(
    "fed back rounding errors leave products closer, and are what the loss says",
    arguments: [(bits: 4, zeros: true), (4, false), (8, false), (0, false)])
  func feedback(kind: (bits: Int, zeros: Bool)) throws {
    let tensor = try golden.tensor("weights")
    let weights = try #require(tensor.floats())
    let rows = correlatedInputs(128)
    var sums = [Float](repeating: 0, count: 128 * 128)
    for row in rows {
      for i in 0..<128 { for j in 0..<128 { sums[i * 128 + j] += row[i] * row[j] } }
    }
    // The loss counts inputs of their own that damping adds to every column.
    let damping = 0.5 * (0..<128).reduce(0.0) { $0 + Double(sums[129 * $1]) } / 128
    func error(
      _ inputs: InputProducts?
    ) throws -> (products: Double, damped: Double, loss: RoundingLoss) {
      let rounded =
        kind.bits == 0
        ? rounding.e4m3(tensor, inputs: inputs)
        : rounding.integers(
          tensor, bits: kind.bits, .columns(32), zeros: kind.zeros, inputs: inputs)
      let values = try widened(matrix(rounded, kind))
      var error = 0.0
      for n in 0..<16 {
        for row in rows {
          var sum = 0.0
          for k in 0..<128 { sum += Double((values[128 * n + k] - weights[128 * n + k]) * row[k]) }
          error += sum * sum
        }
      }
      let squares = zip(values, weights).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
      return (error, error + damping * squares, rounded.loss)
    }
    let plain = try error(nil)
    let fed = try error(InputProducts(sums: sums, columns: 128))
    #expect(fed.products < 0.5 * plain.products)
    #expect(abs(fed.loss.error - fed.damped) < 0.02 * fed.damped)
  }

  private func matrix(_ rounded: RoundedMatrix, _ kind: (bits: Int, zeros: Bool)) -> WeightMatrix {
    let elements = ByteRegion(copying: rounded.elements)
    let factors = ByteRegion(copying: rounded.factors)
    if kind.bits == 0 {
      return .e4m3(elements, scaleInverse: factors, rows: 16, columns: 128)
    }
    let integers = IntegerFactors(
      factors, .bfloat16, .columns(32),
      zeros: kind.zeros ? ByteRegion(copying: rounded.zeros) : nil, rows: 16, columns: 128)
    return kind.bits == 4
      ? .int4(elements, integers, rows: 16, columns: 128)
      : .int8(elements, integers, rows: 16, columns: 128)
  }

  @Test(
    "groups of zeros take nothing from tiny weights beside them", arguments: KernelSet.available,
    [(bits: 4, zeros: false), (bits: 4, zeros: true), (bits: 8, zeros: false)])
  func emptyGroups(set: KernelSet, kind: (bits: Int, zeros: Bool)) throws {
    // A small multiple of the identity, as of projections that a norm follows.
    let (rows, columns) = (40, 576)
    let tiny: Float = 0x1p-16
    let weights = (0..<rows * columns).map { $0 / columns == $0 % columns ? tiny : 0 }
    let bytes = weights.flatMap { weight in
      (0..<4).map { UInt8(truncatingIfNeeded: weight.bitPattern >> UInt32(8 * $0)) }
    }
    let tensor = Tensor(
      name: "identity", elementType: .float32, shape: [rows, columns],
      bytes: ByteRegion(copying: bytes))
    let rounded = rounding.integers(
      tensor, bits: kind.bits, .columns(32), zeros: kind.zeros, inputs: nil)
    let factors = IntegerFactors(
      ByteRegion(copying: rounded.factors), .bfloat16, .columns(32),
      zeros: kind.zeros ? ByteRegion(copying: rounded.zeros) : nil, rows: rows, columns: columns)
    let elements = ByteRegion(copying: rounded.elements)
    let matrix: WeightMatrix =
      kind.bits == 4
      ? .int4(elements, factors, rows: rows, columns: columns)
      : .int8(elements, factors, rows: rows, columns: columns)
    let x = (0..<columns).map { Float(($0 * 37 + 11) % 101 + 20) / 40 }
    let compute = Compute(kernels: set, threadCount: 1)
    for activation in [ActivationType.bfloat16, .float32] {
      var input = LinearInput(
        kernels: set, activation: activation, maxTokens: 1, maxColumns: columns,
        formats: matrix.formats)
      compute.prepare(&input, from: Buffer<Float>(x), rowCount: 1, columns: columns)
      var output = Buffer<Float>(count: rows)
      compute.linear(matrix, input, into: &output)
      for (index, found) in output.array(0..<rows).enumerated() {
        let expected = x[index] * tiny
        #expect(abs(found - expected) < 0.006 * expected, "\(activation) \(index)")
      }
    }
  }

  @Test("packed INT4 with zero points stands for what compressed-tensors says")
  func packing() throws {
    let expected = try #require(try golden.tensor("unpacked").floats())
    var found: [Float] = []
    for index in 0..<2 {
      let factors = IntegerFactors(
        try golden.tensor("scales").slice(index).bytes, .bfloat16, .columns(32),
        zeros: try golden.tensor("packed_zeros").slice(index).bytes, rows: 12, columns: 64)
      found += try widened(
        .int4(
          try golden.tensor("packed").slice(index).bytes, factors, rows: 12, columns: 64))
    }
    #expect(found == expected)
  }

  private func widened(_ matrix: WeightMatrix) throws -> [Float] {
    let compute = Compute(kernels: try KernelSet.select(.reference), threadCount: 1)
    var output = Buffer<Float>(count: matrix.rows * matrix.columns)
    compute.lookUp(matrix, rows: (0..<Int32(matrix.rows)).map { $0 }, into: &output)
    return output.array(0..<output.count)
  }
}
