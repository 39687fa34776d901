package import Kernels
package import ModelConfiguration
package import Tensors

/// `down(silu(gate(x)) · up(x))`.
package struct SwiGLU: Sendable {
  /// D → F.
  package let gateProjection: WeightMatrix
  /// D → F.
  package let upProjection: WeightMatrix
  /// F → D.
  package let downProjection: WeightMatrix

  /// F.
  var width: Int { gateProjection.rows }
}

/// The shared expert, which every token visits, and the routed experts.
package struct MixtureOfExperts: Sendable {
  /// Added with weight 1.
  package let sharedExpert: SwiGLU
  /// E experts, each a slice of the checkpoint's stacked tensors.
  package let experts: [SwiGLU]
}

/// The feed-forward half of one layer.
package enum FeedForwardLayer: Sendable {
  case dense(SwiGLU)
  case mixture(MixtureOfExperts)
}

/// Scratch of one SwiGLU, wide enough for every layer.
struct SwiGLUScratch: ~Copyable, Sendable {
  var input: LinearInput
  var gate: Buffer<Float>
  var up: Buffer<Float>
  var product: Buffer<Float>
  var productInput: LinearInput

  init(
    tokenLimit: Int, configuration: TextConfiguration, activation: ActivationType,
    compute: Compute
  ) {
    let width = max(
      configuration.denseWidth, configuration.sharedExpertWidth, configuration.expertWidth)
    input = LinearInput(
      kernels: compute.kernels, activation: activation, maxTokens: tokenLimit,
      maxColumns: configuration.hiddenSize)
    gate = Buffer(count: tokenLimit * width)
    up = Buffer(count: tokenLimit * width)
    product = Buffer(count: tokenLimit * width)
    productInput = LinearInput(
      kernels: compute.kernels, activation: activation, maxTokens: tokenLimit, maxColumns: width)
  }
}

/// Scratch of the feed-forward half, allocated once for the widest layer.
package struct FeedForwardScratch: ~Copyable, Sendable {
  var swiGLU: SwiGLUScratch
  var expertOutput: Buffer<Float>
  /// Token rows by expert: the rows of expert e are `rows[starts[e]..<starts[e + 1]]`.
  var starts: [Int]
  var rows: [Int32]
  var weights: [Float]

  package init(
    tokenLimit: Int, configuration: TextConfiguration, activation: ActivationType,
    compute: Compute
  ) {
    swiGLU = SwiGLUScratch(
      tokenLimit: tokenLimit, configuration: configuration, activation: activation,
      compute: compute)
    expertOutput = Buffer(count: tokenLimit * configuration.hiddenSize)
    starts = Array(repeating: 0, count: configuration.expertCount + 1)
    rows = Array(repeating: 0, count: tokenLimit * configuration.expertsPerToken)
    weights = Array(repeating: 0, count: tokenLimit * configuration.expertsPerToken)
  }

  /// Sorts the (token, choice) pairs by expert, tokens in order within an expert.
  mutating func group(_ routing: borrowing Routing, tokenCount: Int, expertCount: Int) {
    let pairCount = tokenCount * routing.expertsPerToken
    for expert in 0...expertCount { starts[expert] = 0 }
    for pair in 0..<pairCount { starts[Int(routing.experts[pair]) + 1] += 1 }
    for expert in 0..<expertCount { starts[expert + 1] += starts[expert] }
    // Place pairs, moving each expert's start on; then move the starts back.
    for pair in 0..<pairCount {
      let expert = Int(routing.experts[pair])
      rows[starts[expert]] = Int32(pair / routing.expertsPerToken)
      weights[starts[expert]] = routing.weights[pair]
      starts[expert] += 1
    }
    for expert in (0..<expertCount).reversed() { starts[expert + 1] = starts[expert] }
    starts[0] = 0
  }
}

extension FeedForwardLayer {
  /// Computes the half for `tokenCount` rows: the arithmetic does not know who called.
  ///
  /// Sums run in one order whatever the batch: the shared expert first, then the token's experts by
  /// ascending index.
  ///
  /// - Shape: `normed` [T, D], routing [T, K] → `output` [T, D].
  package func forward(
    _ normed: borrowing Buffer<Float>, _ routing: borrowing Routing, tokenCount: Int,
    scratch: inout FeedForwardScratch, compute: Compute, into output: inout Buffer<Float>
  ) {
    switch self {
    case .dense(let mlp):
      prepare(&scratch, normed, tokenCount, mlp.gateProjection.columns, compute)
      mlp.forward(&scratch.swiGLU, compute, into: &output)
    case .mixture(let mixture):
      let columns = mixture.sharedExpert.gateProjection.columns
      prepare(&scratch, normed, tokenCount, columns, compute)
      mixture.sharedExpert.forward(&scratch.swiGLU, compute, into: &output)
      scratch.group(routing, tokenCount: tokenCount, expertCount: mixture.experts.count)
      for expert in 0..<mixture.experts.count {
        mixture.add(expert, normed, scratch: &scratch, compute, into: &output)
      }
    }
  }
}

extension FeedForwardLayer {
  private func prepare(
    _ scratch: inout FeedForwardScratch, _ normed: borrowing Buffer<Float>, _ tokenCount: Int,
    _ columns: Int, _ compute: Compute
  ) {
    compute.prepare(&scratch.swiGLU.input, from: normed, rowCount: tokenCount, columns: columns)
  }
}

extension MixtureOfExperts {
  /// Adds one expert's weighted output to the rows that chose it.
  fileprivate func add(
    _ expert: Int, _ normed: borrowing Buffer<Float>, scratch: inout FeedForwardScratch,
    _ compute: Compute, into output: inout Buffer<Float>
  ) {
    let range = scratch.starts[expert]..<scratch.starts[expert + 1]
    if range.isEmpty { return }
    let rows = Array(scratch.rows[range])
    compute.prepare(
      &scratch.swiGLU.input, from: normed, rows: rows,
      columns: experts[expert].gateProjection.columns)
    experts[expert].forward(&scratch.swiGLU, compute, into: &scratch.expertOutput)
    compute.addScaled(
      scratch.expertOutput, rows: rows, weights: Array(scratch.weights[range]),
      columns: experts[expert].downProjection.rows, into: &output)
  }
}

extension SwiGLU {
  /// Computes the rows prepared in `scratch.input` → `output`, [T, D].
  fileprivate func forward(
    _ scratch: inout SwiGLUScratch, _ compute: Compute, into output: inout Buffer<Float>
  ) {
    let tokenCount = scratch.input.tokenCount
    compute.linear(gateProjection, scratch.input, into: &scratch.gate)
    compute.linear(upProjection, scratch.input, into: &scratch.up)
    compute.swiglu(
      gate: scratch.gate, up: scratch.up, count: tokenCount * width, into: &scratch.product)
    compute.prepare(
      &scratch.productInput, from: scratch.product, rowCount: tokenCount, columns: width)
    compute.linear(downProjection, scratch.productInput, into: &output)
  }
}
