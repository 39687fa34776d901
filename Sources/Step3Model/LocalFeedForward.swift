package import Kernels
package import ModelConfiguration

/// The feed-forward half computed in this process.
package struct LocalFeedForward: FeedForward, ~Copyable, Sendable {
  /// The layers.
  package let layers: [FeedForwardLayer]
  private let compute: Compute
  private var scratch: FeedForwardScratch

  /// Holds the layers' feed-forward weights and scratch for `tokenLimit` rows.
  package init(
    layers: [FeedForwardLayer], tokenLimit: Int, configuration: TextConfiguration,
    activation: ActivationType, compute: Compute
  ) {
    self.layers = layers
    self.compute = compute
    var formats: WeightMatrix.FormatSet = []
    for layer in layers { formats.formUnion(layer.formats) }
    scratch = FeedForwardScratch(
      tokenLimit: tokenLimit, configuration: configuration, activation: activation,
      compute: compute, formats: formats)
  }

  /// Does nothing: the work is done by `collect`.
  package mutating func submit(
    _ layer: LayerIndex, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) {}

  /// Computes the layer in place.
  package mutating func collect(
    _ layer: LayerIndex, into microBatch: inout MicroBatch
  ) throws(FeedForwardError) {
    let tokenCount = microBatch.tokens.count
    layers[layer.value].forward(
      microBatch.normed, microBatch.routing, tokenCount: tokenCount, scratch: &scratch,
      compute: compute, into: &microBatch.feedForwardOutput)
  }
}
