package import Kernels
package import ModelConfiguration
import Tensors

/// The feed-forward half computed in this process.
package struct LocalFeedForward: FeedForward, ~Copyable, Sendable {
  /// The layers.
  package let layers: [FeedForwardLayer]
  private let compute: Compute
  private var scratch: FeedForwardScratch
  /// Experts of a layer that reading was asked for; empty where all weights are in memory.
  private var asked: [Bool]

  /// Holds the layers' feed-forward weights and scratch for `tokenLimit` rows. With `readsAhead`
  /// the experts that tokens chose are read from the file together, before the first is computed.
  package init(
    layers: [FeedForwardLayer], tokenLimit: Int, configuration: TextConfiguration,
    activation: ActivationType, compute: Compute, readsAhead: Bool = false
  ) {
    self.layers = layers
    self.compute = compute
    var formats: WeightMatrix.FormatSet = []
    for layer in layers { formats.formUnion(layer.formats) }
    scratch = FeedForwardScratch(
      tokenLimit: tokenLimit, configuration: configuration, activation: activation,
      compute: compute, formats: formats)
    asked = Array(repeating: false, count: readsAhead ? configuration.expertCount : 0)
  }

  /// Asks for what has to be read; the work is done by `collect`.
  package mutating func submit(
    _ layer: LayerIndex, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) {
    guard !asked.isEmpty, case .mixture(let mixture) = layers[layer.value] else { return }
    for expert in asked.indices { asked[expert] = false }
    let count = microBatch.tokens.count * microBatch.routing.expertsPerToken
    for pair in 0..<count {
      let expert = Int(microBatch.routing.experts[pair])
      if asked[expert] { continue }
      asked[expert] = true
      mixture.experts[expert].readAhead()
    }
  }

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
