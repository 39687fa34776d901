package import Kernels
import KVCaching
import ModelConfiguration
import Tensors

/// Multi-matrix Factorization Attention: low-rank queries, one key head and one value head.
package struct AttentionWeights: Sendable {
  /// D → Q, shared by all heads.
  package let queryDown: WeightMatrix
  /// Norm between the two query matrices, [Q].
  package let queryNorm: NormWeight
  /// Q → H·d.
  package let queryUp: WeightMatrix
  /// D → d.
  package let key: WeightMatrix
  /// D → d.
  package let value: WeightMatrix
  /// H·d → D.
  package let output: WeightMatrix
}

extension TextDecoder {
  /// Computes MFA for one micro-batch and stores its keys and values.
  ///
  ///     q = queryUp(norm(queryDown(x)))     [T, H·d]     the norm spans all Q dimensions
  ///     k = key(x), v = value(x)            [T, d]       one head, not normed
  ///     q, k rotated by position; k cached rotated
  ///     out = output(softmax(q·k / √d) v)   [T, D]
  ///
  /// - Shape: `normed` [T, D] → `attentionProjection` [T, D].
  /// - Source: model.layers.*.self_attn of the published checkpoint.
  func attention(
    _ weights: AttentionWeights, layer: Int, _ batch: inout MicroBatch, _ cache: inout KVStore
  ) {
    let tokenCount = batch.tokens.count
    let (heads, headDimension) = (configuration.headCount, configuration.headDimension)
    compute.prepare(
      &batch.input, from: batch.normed, rowCount: tokenCount, columns: configuration.hiddenSize,
      for: [weights.queryDown.formats, weights.key.formats, weights.value.formats])
    compute.linear(weights.queryDown, batch.input, into: &batch.queryDown)
    compute.linear(weights.key, batch.input, into: &batch.keys)
    compute.linear(weights.value, batch.input, into: &batch.values)

    let width = configuration.sharedQueryDimension
    compute.rmsNorm(
      batch.queryDown, weight: weights.queryNorm.values, epsilon: epsilon, rowCount: tokenCount,
      columns: width, into: &batch.queryDownNormed)
    compute.prepare(
      &batch.queryInput, from: batch.queryDownNormed, rowCount: tokenCount, columns: width,
      for: weights.queryUp.formats)
    compute.linear(weights.queryUp, batch.queryInput, into: &batch.queries)

    rotate(&batch.queries, heads: heads, batch.positions)
    rotate(&batch.keys, heads: 1, batch.positions)
    let memory = cache.layer(layer)
    compute.storeKeysValues(
      keys: batch.keys, values: batch.values, slots: batch.slots, into: memory)
    compute.attend(
      queries: batch.queries, heads: heads, spans: batch.spans, blockTables: batch.blockTables,
      memory: memory, scale: scale, into: &batch.attentionOutput)

    compute.prepare(
      &batch.outputInput, from: batch.attentionOutput, rowCount: tokenCount,
      columns: heads * headDimension, for: weights.output.formats)
    compute.linear(weights.output, batch.outputInput, into: &batch.attentionProjection)
  }

  private func rotate(_ x: inout Buffer<Float>, heads: Int, _ positions: [Int32]) {
    compute.rotate(
      &x, heads: heads, headDimension: configuration.headDimension, positions: positions,
      cosines: rotaryTable.cosines, sines: rotaryTable.sines)
  }
}
