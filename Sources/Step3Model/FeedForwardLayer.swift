package import Kernels
package import ModelConfiguration
package import Tensors

/// The shared expert, which every token visits, and the routed experts.
package struct MixtureOfExperts: Sendable {
  /// Added with weight 1.
  package let sharedExpert: SwiGLU
  /// E experts, each a slice of the checkpoint's stacked tensors.
  package let experts: [SwiGLU]

  /// Experts of one hidden size.
  package init(sharedExpert: SwiGLU, experts: [SwiGLU]) {
    self.sharedExpert = sharedExpert
    self.experts = experts
    let all = experts.map(\.downProjection.sliceCount) + [sharedExpert.downProjection.sliceCount]
    sliceCount = all.min() ?? 1
  }

  /// S, the slices that every down projection's columns are cut into.
  package let sliceCount: Int
}

/// The feed-forward half of one layer.
///
/// Its sum has one order for every batch, and for every way to share the layer among processes:
///
///     out = Σₛ ( sharedₛ + Σₑ weightₑ · downₛ(hₑ) )
///
/// The columns of all down projections are cut in S equal slices (`WeightMatrix.sliceCount`).
/// The sum over slices is the binary tree (s₀ + s₁) + (s₂ + s₃); that over the experts that a token
/// chose is the tree of `ExpertTree`, where an absent side is left out. A dense layer is the sum
/// over slices alone.
package enum FeedForwardLayer: Sendable {
  case dense(SwiGLU)
  case mixture(MixtureOfExperts)

  /// S.
  package var sliceCount: Int {
    switch self {
    case .dense(let mlp): mlp.downProjection.sliceCount
    case .mixture(let mixture): mixture.sliceCount
    }
  }
}

extension FeedForwardLayer {
  /// The formats of all its weights.
  package var formats: WeightMatrix.FormatSet {
    switch self {
    case .dense(let mlp): mlp.formats
    case .mixture(let mixture):
      mixture.experts.reduce(into: mixture.sharedExpert.formats) { $0.formUnion($1.formats) }
    }
  }
}

extension FeedForwardLayer {
  /// Reads the weights of some routed experts from the checkpoint, and returns when they are there.
  package func read(experts: [Int]) {
    guard case .mixture(let mixture) = self else { return }
    for expert in experts { mixture.experts[expert].read() }
  }
}

extension FeedForwardScratch {
  /// Scratch for `tokenLimit` rows, allocated once for the widest layer.
  package init(
    tokenLimit: Int, configuration: TextConfiguration, activation: ActivationType,
    compute: Compute, formats: WeightMatrix.FormatSet = .all
  ) {
    self.init(
      kernels: compute.kernels, activation: activation, tokenLimit: tokenLimit,
      hiddenSize: configuration.hiddenSize,
      denseWidth: configuration.denseWidth,
      expertWidth: max(configuration.expertWidth, configuration.sharedExpertWidth),
      expertsPerToken: configuration.expertsPerToken, formats: formats)
  }
}

extension FeedForwardLayer {
  /// Computes the half for `tokenCount` rows: the arithmetic does not know who called.
  ///
  /// - Shape: `normed` [T, D], routing [T, K] → `output` [T, D].
  package func forward(
    _ normed: borrowing Buffer<Float>, _ routing: borrowing Routing, tokenCount: Int,
    scratch: inout FeedForwardScratch, compute: Compute, into output: inout Buffer<Float>
  ) {
    FeedForwardShare(whole: self).forward(
      normed, routing, tokenCount: tokenCount, scratch: &scratch, compute: compute, into: &output)
  }
}
