// The network on one page. A layer is two halves with a cut between them:
//
//     hidden += attention(norm(hidden))             attend
//     hidden += feedForward(norm(hidden), routing)  submit … collect
//
// Whatever lies beyond the cut (this process, or experts on other machines) is a `FeedForward`.

package import KVCaching
import Kernels
import ModelConfiguration
import Tensors

extension TextDecoder {
  /// Runs every layer over the step's micro-batches; `normed` then holds the output head's input.
  ///
  /// They are staggered: while the feed-forward of one is in flight, the attention of the next is
  /// computed. With one micro-batch and a local feed-forward this is the plain layer loop.
  package func forward<FFN: FeedForward & ~Copyable>(
    _ step: inout Step, cache: inout KVStore, through feedForward: inout FFN
  ) throws(FeedForwardError) {
    for m in 0..<step.microBatchCount { embed(&step.microBatches[m]) }
    for layer in 0..<layers.count {
      for m in 0..<step.microBatchCount {
        if layer > 0 { try finish(layer - 1, &step.microBatches[m], &feedForward) }
        attend(layer, &step.microBatches[m], &cache) { feedForward.progress() }
        try feedForward.submit(LayerIndex(layer), step.microBatches[m])
      }
    }
    for m in 0..<step.microBatchCount {
      try finish(layers.count - 1, &step.microBatches[m], &feedForward)
      normalize(finalNorm, &step.microBatches[m])
    }
  }

  /// Looks up the embedding rows, but where they are given; there is no scale and no position
  /// embedding.
  private func embed(_ batch: inout MicroBatch) {
    compute.lookUp(embedding, rows: batch.tokens, into: &batch.hidden)
    for given in batch.embedded {
      compute.copyRows(
        given.features.values, from: given.first, count: given.count,
        columns: configuration.hiddenSize, into: &batch.hidden, at: given.row)
    }
  }

  /// The attention half: norm, MFA, residual, norm, route.
  private func attend(
    _ layer: Int, _ batch: inout MicroBatch, _ cache: inout KVStore, between: () -> Void
  ) {
    let weights = layers[layer]
    normalize(weights.inputNorm, &batch)
    attention(weights.attention, layer: layer, &batch, &cache)
    between()
    compute.add(batch.attentionProjection, count: valueCount(batch), into: &batch.hidden)
    normalize(weights.postAttentionNorm, &batch)
    if let router = weights.router { route(router, layer: layer, &batch) }
  }

  /// The residual sum after the feed-forward half.
  private func finish<FFN: FeedForward & ~Copyable>(
    _ layer: Int, _ batch: inout MicroBatch, _ feedForward: inout FFN
  ) throws(FeedForwardError) {
    try feedForward.collect(LayerIndex(layer), into: &batch)
    compute.add(batch.feedForwardOutput, count: valueCount(batch), into: &batch.hidden)
  }

  private func valueCount(_ batch: borrowing MicroBatch) -> Int {
    batch.tokens.count * configuration.hiddenSize
  }
}
