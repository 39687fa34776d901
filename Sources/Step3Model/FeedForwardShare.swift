package import Kernels
package import Tensors

/// What one process holds of a layer's feed-forward half: a range of slices, and of those all
/// experts, or a subtree of the routed ones, or the shared one.
///
/// Shares compute partial sums that add up, over the same trees, to the very bits that one process
/// would have computed.
package struct FeedForwardShare: Sendable {
  /// Which experts a share holds.
  package enum Experts: Sendable, Hashable {
    /// All of them and the shared one; of a dense layer, its only one.
    case all
    /// The shared one.
    case shared
    /// The routed ones of a range that is a subtree of `ExpertTree`.
    case routed(Range<Int>)
  }

  /// The experts that it holds.
  package let experts: Experts
  /// Which of the layer's slices; a subtree: one, an aligned pair, or all.
  package let slices: Range<Int>
  /// E of the layer; 0 where it is dense.
  package let expertCount: Int

  private let shared: SwiGLU?
  private let routed: [SwiGLU]

  /// The part of `layer` that holds `experts` and `slices`.
  package init(of layer: FeedForwardLayer, experts: Experts, slices: Range<Int>) {
    let count = layer.sliceCount
    precondition(
      ExpertTree.isSubtree(slices, of: count), "slices \(slices) are no subtree of \(count)")
    func part(_ mlp: SwiGLU) -> SwiGLU {
      slices.count == count ? mlp : mlp.slices(slices, of: count)
    }
    self.experts = experts
    self.slices = slices
    switch (layer, experts) {
    case (.dense(let mlp), .all):
      (shared, routed, expertCount) = (part(mlp), [], 0)
    case (.mixture(let mixture), .all):
      shared = part(mixture.sharedExpert)
      routed = mixture.experts.map(part)
      expertCount = mixture.experts.count
    case (.mixture(let mixture), .shared):
      (shared, routed, expertCount) = (part(mixture.sharedExpert), [], mixture.experts.count)
    case (.mixture(let mixture), .routed(let range)):
      expertCount = mixture.experts.count
      precondition(
        ExpertTree.isSubtree(range, of: expertCount),
        "experts \(range) are no subtree of \(expertCount)")
      (shared, routed) = (nil, mixture.experts[range].map(part))
    case (.dense, _): preconditionFailure("a dense layer has no experts to share")
    }
  }

  /// The whole layer, without copying anything.
  init(whole layer: FeedForwardLayer) {
    experts = .all
    slices = 0..<layer.sliceCount
    switch layer {
    case .dense(let mlp): (shared, routed, expertCount) = (mlp, [], 0)
    case .mixture(let mixture):
      (shared, routed, expertCount) = (
        mixture.sharedExpert, mixture.experts, mixture.experts.count
      )
    }
  }

  /// P, the partial sums that it has for each token: one where it holds all experts, otherwise one
  /// for each of its slices, since slices are added last.
  package var planeCount: Int { experts == .all ? 1 : slices.count }

  /// Computes the partial sums of `tokenCount` rows; rows that visit none of the experts are zero.
  ///
  /// - Shape: `normed` [T, D], routing [T, K] → `output` [P, T, D].
  package func forward(
    _ normed: borrowing Buffer<Float>, _ routing: borrowing Routing, tokenCount: Int,
    scratch: inout FeedForwardScratch, compute: Compute, into output: inout Buffer<Float>
  ) {
    switch experts {
    case .all where expertCount == 0, .shared: scratch.plan.planAll(tokenCount: tokenCount)
    case .all: plan(routing, tokenCount, 0..<expertCount, &scratch)
    case .routed(let range): plan(routing, tokenCount, range, &scratch)
    }
    compute.feedForward(
      shared: shared, experts: routed, sliceCount: slices.count, keepsSlices: experts != .all,
      normed, scratch: &scratch, into: &output)
  }

  private func plan(
    _ routing: borrowing Routing, _ tokenCount: Int, _ held: Range<Int>,
    _ scratch: inout FeedForwardScratch
  ) {
    scratch.plan.plan(
      experts: routing.experts, weights: routing.weights, tokenCount: tokenCount,
      expertsPerToken: routing.expertsPerToken, expertCount: expertCount, held: held,
      shared: shared != nil)
  }
}
