package import Kernels
package import ModelConfiguration
package import Tensors

/// The weight of an RMSNorm, widened to Float32.
package final class NormWeight: Sendable {
  /// One factor per column.
  package let values: Buffer<Float>

  package init(_ values: [Float]) { self.values = Buffer(values) }
}

/// The attention half of one decoder layer.
package struct DecoderLayer: Sendable {
  /// [D].
  package let inputNorm: NormWeight
  package let attention: AttentionWeights
  /// [D].
  package let postAttentionNorm: NormWeight
  /// D → E in mixture layers, nil in dense ones.
  package let router: WeightMatrix?
}

/// The text network without its feed-forward halves, which lie beyond the cut.
package struct TextDecoder: Sendable {
  /// Every dimension.
  package let configuration: TextConfiguration
  /// What the arithmetic rounds activations to.
  package let activation: ActivationType
  /// [V, D].
  package let embedding: WeightMatrix
  package let layers: [DecoderLayer]
  /// [D].
  package let finalNorm: NormWeight
  /// [V, D].
  package let outputHead: WeightMatrix
  /// Whether the head is the embedding.
  package let isTied: Bool
  /// Cosines and sines for every position of the context.
  package let rotaryTable: RotaryTable
  package let compute: Compute

  /// Bytes of every matrix of this half.
  package var weightByteCount: Int {
    var count = embedding.byteCount + (isTied ? 0 : outputHead.byteCount)
    for layer in layers {
      let a = layer.attention
      count += a.queryDown.byteCount + a.queryUp.byteCount + a.key.byteCount
      count += a.value.byteCount + a.output.byteCount + (layer.router?.byteCount ?? 0)
    }
    return count
  }

  /// The softmax scale, 1/√d.
  var scale: Float { 1 / Float(configuration.headDimension).squareRoot() }
  var epsilon: Float { Float(configuration.normEpsilon) }

  /// Norms the residual stream of a micro-batch into `normed`.
  func normalize(_ weight: NormWeight, _ batch: inout MicroBatch) {
    compute.rmsNorm(
      batch.hidden, weight: weight.values, epsilon: epsilon, rowCount: batch.tokens.count,
      columns: configuration.hiddenSize, into: &batch.normed)
  }

  /// Computes the logits of some rows of a micro-batch after `forward`.
  ///
  /// - Shape: `rows` [R] of the batch → `logits` [R, V].
  package func logits(
    of rows: [Int32], _ batch: borrowing MicroBatch, scratch: inout OutputScratch,
    into logits: inout Buffer<Float>
  ) {
    precondition(rows.count <= scratch.rowLimit, "\(rows.count) rows of logits at once")
    compute.prepare(
      &scratch.input, from: batch.normed, rows: rows, columns: configuration.hiddenSize)
    compute.linear(outputHead, scratch.input, into: &logits)
  }
}

/// Scratch of the output head for up to `rowLimit` rows at once.
package struct OutputScratch: ~Copyable, Sendable {
  /// Most rows per call.
  package let rowLimit: Int
  var input: LinearInput

  package init(rowLimit: Int, decoder: TextDecoder) {
    self.rowLimit = rowLimit
    let width = decoder.configuration.hiddenSize
    input = LinearInput(
      kernels: decoder.compute.kernels, activation: decoder.activation, maxTokens: rowLimit,
      maxColumns: width)
  }
}
