package import Kernels
package import ModelConfiguration
package import Tensors

/// The rows that go through the network together, and every buffer they need on the way.
///
/// Rows are tokens of one or many sequences, in prefill or decode: the network does not tell them
/// apart. All memory is allocated once for `tokenLimit` rows.
package struct MicroBatch: ~Copyable, Sendable {
  /// Largest number of rows.
  package let tokenLimit: Int
  /// Its place in the step, which names its slots beyond the cut.
  package let index: Int

  // What to compute, set by the caller before each step.

  /// Token ids, one per row.
  package var tokens: [Int32] = []
  /// Absolute position of each row in its sequence.
  package var positions: [Int32] = []
  /// Where each row's key and value are kept: block · P + offset.
  package var slots: [Int32] = []
  /// Runs of rows that belong to one sequence.
  package var spans: [AttentionSpan] = []
  /// The block tables that the spans refer to, one after the other.
  package var blockTables: [Int32] = []

  /// Rows whose embeddings are given and not looked up: the features of images.
  package var embedded: [EmbeddedRows] = []

  // What crosses the attention/FFN cut.

  /// The residual stream, [T, D].
  package var hidden: Buffer<Float>
  /// Input of either half after its norm, [T, D].
  package var normed: Buffer<Float>
  /// Where each token goes in a mixture layer.
  package var routing: Routing
  /// How many tokens each expert of each layer was chosen for since the start, [layers, E].
  package internal(set) var expertTokenCounts: [Int]
  /// Result of the feed-forward half, [T, D].
  package var feedForwardOutput: Buffer<Float>

  // Scratch of the attention half.

  var input: LinearInput
  var queryDown: Buffer<Float>
  var queryDownNormed: Buffer<Float>
  var queryInput: LinearInput
  var queries: Buffer<Float>
  var keys: Buffer<Float>
  var values: Buffer<Float>
  var attentionOutput: Buffer<Float>
  var outputInput: LinearInput
  var attentionProjection: Buffer<Float>
  var routerInput: LinearInput
  var routerLogits: Buffer<Float>

  /// Allocates all buffers for `tokenLimit` rows of the model.
  package init(
    tokenLimit: Int, configuration: TextConfiguration, activation: ActivationType,
    compute: Compute, index: Int = 0
  ) {
    precondition(tokenLimit > 0)
    self.tokenLimit = tokenLimit
    self.index = index
    let width = configuration.hiddenSize
    let heads = configuration.headCount * configuration.headDimension
    hidden = Buffer(count: tokenLimit * width)
    normed = Buffer(count: tokenLimit * width)
    routing = Routing(
      tokenLimit: tokenLimit, expertsPerToken: configuration.expertsPerToken)
    expertTokenCounts = Array(
      repeating: 0, count: configuration.layerCount * configuration.expertCount)
    feedForwardOutput = Buffer(count: tokenLimit * width)
    input = LinearInput(
      kernels: compute.kernels, activation: activation, maxTokens: tokenLimit, maxColumns: width)
    queryDown = Buffer(count: tokenLimit * configuration.sharedQueryDimension)
    queryDownNormed = Buffer(count: tokenLimit * configuration.sharedQueryDimension)
    queryInput = LinearInput(
      kernels: compute.kernels, activation: activation, maxTokens: tokenLimit,
      maxColumns: configuration.sharedQueryDimension)
    queries = Buffer(count: tokenLimit * heads)
    keys = Buffer(count: tokenLimit * configuration.headDimension)
    values = Buffer(count: tokenLimit * configuration.headDimension)
    attentionOutput = Buffer(count: tokenLimit * heads)
    outputInput = LinearInput(
      kernels: compute.kernels, activation: activation, maxTokens: tokenLimit, maxColumns: heads)
    attentionProjection = Buffer(count: tokenLimit * width)
    // The router sees unrounded activations: a rounded input could flip a near-tie of experts.
    routerInput = LinearInput(
      kernels: compute.kernels, activation: .float32, maxTokens: tokenLimit, maxColumns: width)
    routerLogits = Buffer(count: tokenLimit * configuration.expertCount)
  }
}

extension MicroBatch {
  /// Whether a sequence has more than one row: then its rows can wait for those of decoding.
  package var isPrefill: Bool { spans.contains { $0.rowCount > 1 } }
}

/// Consecutive rows of a batch that stand for features of an image.
package struct EmbeddedRows: Sendable {
  let row: Int
  let count: Int
  let features: VisionFeatures
  let first: Int

  /// Rows `row ..< row + count` take the features from `first` on.
  package init(row: Int, count: Int, features: VisionFeatures, first: Int) {
    self.row = row
    self.count = count
    self.features = features
    self.first = first
  }
}

/// One step's micro-batches.
package struct Step: ~Copyable, Sendable {
  /// The micro-batches; only the first `microBatchCount` take part.
  package var microBatches: FixedArray<MicroBatch>
  /// How many of them hold rows in this step.
  package var microBatchCount: Int

  /// A step of one micro-batch.
  package init(
    tokenLimit: Int, configuration: TextConfiguration, activation: ActivationType,
    compute: Compute
  ) {
    self.init(
      tokenLimits: [tokenLimit], configuration: configuration, activation: activation,
      compute: compute)
  }

  /// A step of as many micro-batches as there are limits of their rows.
  package init(
    tokenLimits: [Int], configuration: TextConfiguration, activation: ActivationType,
    compute: Compute
  ) {
    microBatches = FixedArray(count: tokenLimits.count) { index in
      MicroBatch(
        tokenLimit: tokenLimits[index], configuration: configuration, activation: activation,
        compute: compute, index: index)
    }
    microBatchCount = 1
  }
}
