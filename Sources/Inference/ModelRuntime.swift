package import KVCaching
import Kernels
import ModelConfiguration
package import Step3Model
import Tensors

/// A loaded model with all the memory that its steps need.
///
/// One thread owns it. It knows rows, positions and cache slots, and nothing of requests.
package struct ModelRuntime: ~Copyable {
  /// The network.
  package let decoder: TextDecoder
  /// The choices it was loaded with.
  package let options: EngineOptions
  /// Longest context that requests may use.
  package let contextLength: Int
  /// Warnings of the loader: tensors in the files that the network does not use.
  package let unusedTensors: [String]
  /// The rows of the next step, filled by the caller.
  package var step: Step
  /// The paged keys and values.
  package var cache: KVStore
  private var feedForward: LocalFeedForward
  private var output: OutputScratch
  private var logitsBuffer: Buffer<Float>

  /// Loads a model. Weights stay in the file's mapping; the cost does not depend on their size.
  package init(
    _ folder: borrowing ModelFolder, options: EngineOptions, logitRowLimit: Int
  ) throws(InferenceError) {
    let text = folder.configuration.text
    let context = options.contextLength ?? text.contextLength
    guard context <= text.contextLength else {
      throw .contextTooLong(requested: context, contextLength: text.contextLength)
    }
    let kernels: KernelSet
    do { kernels = try KernelSet.select(options.kernels) } catch { throw .kernels(error) }
    let compute = Compute(kernels: kernels, team: WorkTeam(workerCount: options.threads))
    let weightByteCount = folder.textByteCount
    let activation = options.resolvedActivation(weightByteCount: weightByteCount)
    let layout = CachePlan(options: options, text: text, activation: activation)
    try MemoryPlan(
      weightByteCount: weightByteCount, cacheByteCount: layout.byteCount,
      scratchByteCount: Self.scratchByteCount(text, options, logitRowLimit)
    ).check()

    var loader = ModelLoader(files: folder.files, configuration: text)
    let halves: (decoder: TextDecoder, feedForward: [FeedForwardLayer])
    do {
      halves = try loader.load(
        activation: activation, compute: compute, positionCount: context)
    } catch { throw .weights(error) }
    cache = try layout.makeStore()
    decoder = halves.decoder
    feedForward = LocalFeedForward(
      layers: halves.feedForward, tokenLimit: options.batchedTokenLimit, configuration: text,
      activation: activation, compute: compute)
    unusedTensors = loader.unusedNames
    step = Step(
      tokenLimit: options.batchedTokenLimit, configuration: text, activation: activation,
      compute: compute)
    output = OutputScratch(rowLimit: logitRowLimit, decoder: decoder)
    logitsBuffer = Buffer(count: logitRowLimit * text.vocabularySize)
    self.options = options
    contextLength = context
  }

  /// What steps of this model read and compute.
  package var traffic: ModelTraffic {
    ModelTraffic(decoder: decoder, feedForward: feedForward.layers)
  }

  /// Most rows whose logits one call gives.
  package var logitRowLimit: Int { output.rowLimit }

  /// Runs the rows in `step` through the network.
  package mutating func forward() throws(FeedForwardError) {
    try decoder.forward(&step, cache: &cache, through: &feedForward)
  }

  /// Calls `body` with the logits [V] of each row of the first micro-batch in `rows`.
  package mutating func withLogits<E: Error>(
    of rows: [Int32], _ body: (_ index: Int, _ logits: Span<Float>) throws(E) -> Void
  ) throws(E) {
    let width = decoder.configuration.vocabularySize
    var first = 0
    while first < rows.count {
      let count = min(output.rowLimit, rows.count - first)
      decoder.logits(
        of: Array(rows[first..<first + count]), step.microBatches[0], scratch: &output,
        into: &logitsBuffer)
      for index in 0..<count {
        let row = logitsBuffer.span.extracting(index * width..<(index + 1) * width)
        try body(first + index, row)
      }
      first += count
    }
  }

  /// Bytes of the buffers of one step, generously.
  private static func scratchByteCount(
    _ text: TextConfiguration, _ options: EngineOptions, _ logitRowLimit: Int
  ) -> Int {
    let widest = max(text.denseWidth, text.sharedExpertWidth, text.expertWidth)
    let row =
      8 * text.hiddenSize + 4 * text.headCount * text.headDimension
      + 4 * text.sharedQueryDimension + 5 * widest
    return 4 * (options.batchedTokenLimit * row + logitRowLimit * text.vocabularySize)
      + 4 * text.contextLength * text.headDimension
  }
}
