package import KVCaching
package import Kernels
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
  /// The vision tower; nil for a model that takes text only.
  package let encoder: VisionEncoder?
  /// Views on their way through the tower. Not `VisionWork?`, which would be nil at once and then
  /// had to be destroyed wherever loading fails.
  var vision: Optional<VisionWork>
  /// Multiply-adds of the text layers for a full step: what one piece of encoding may cost.
  let encodingBudget: Int
  private var feedForward: LocalFeedForward
  /// The feed-forward half where other processes compute it.
  package let service: (any FeedForwardService)?
  private var output: OutputScratch
  private var logitsBuffer: Buffer<Float>

  /// Loads a model. Weights stay in the file's mapping; the cost does not depend on their size.
  ///
  /// - Parameter makeService: Makes the feed-forward half where other processes compute it.
  package init(
    _ folder: borrowing ModelFolder, options: EngineOptions, logitRowLimit: Int,
    recorder: InputRecorder? = nil, through makeService: FeedForwardFactory? = nil
  ) throws(InferenceError) {
    let text = folder.configuration.text
    let context = options.contextLength ?? text.contextLength
    guard context <= text.contextLength else {
      throw .contextTooLong(requested: context, contextLength: text.contextLength)
    }
    let kernels: KernelSet
    do {
      kernels = try KernelSet.select(options.kernels).limited(
        to: ModelLoader.formats(of: folder.files))
    } catch { throw .kernels(error) }
    MemoryNodes.current.interleavePages()
    var compute = Compute(kernels: kernels, team: WorkTeam(workerCount: options.threads))
    compute.recorder = recorder
    let weightByteCount = folder.textByteCount
    let activation = options.resolvedActivation(weightByteCount: weightByteCount)
    let layout = CachePlan(options: options, text: text, activation: activation)
    var loader = ModelLoader(files: folder.files, configuration: text)
    let halves: (decoder: TextDecoder, feedForward: [FeedForwardLayer])
    do {
      halves = try loader.load(
        activation: activation, compute: compute, positionCount: context)
    } catch { throw .weights(error) }
    let traffic = ModelTraffic(decoder: halves.decoder, feedForward: halves.feedForward)
    // Experts that other processes compute are never read here; streamed ones need not stay.
    let streamedByteCount = options.streamsExperts ? traffic.expertByteCount : 0
    let ownByteCount = weightByteCount - streamedByteCount
    try MemoryPlan(
      weightByteCount: Self.encodingByteCount(folder, activation)
        + (makeService == nil ? ownByteCount : halves.decoder.weightByteCount),
      cacheByteCount: layout.byteCount,
      scratchByteCount: Self.scratchByteCount(text, options, logitRowLimit)
    ).check()
    if options.locksWeights { try folder.lockWeights() }
    let limits = options.microBatchTokenLimits
    let made: (any FeedForwardService)?
    do {
      made = try makeService?(
        FeedForwardContext(
          layers: halves.feedForward, configuration: text, activation: activation,
          tokenLimit: limits[0], microBatchLimit: limits.count, compute: compute))
    } catch { throw .service(error) }
    var visionLoader = VisionLoader(files: folder.files, configuration: folder.configuration)
    let tower: VisionEncoder?
    do {
      tower =
        folder.hasVision ? try visionLoader.load(activation: activation, compute: compute) : nil
    } catch { throw .weights(error) }
    cache = try layout.makeStore()
    encoder = tower
    vision = nil
    encodingBudget =
      options.batchedTokenLimit * traffic.layerFlopCount / 2
    service = made
    decoder = halves.decoder
    feedForward = LocalFeedForward(
      layers: halves.feedForward, tokenLimit: makeService == nil ? limits[0] : 1,
      configuration: text, activation: activation, compute: compute,
      readsAhead: options.streamsExperts)
    unusedTensors = loader.unusedNames + (tower == nil ? [] : visionLoader.unusedNames)
    step = Step(
      tokenLimits: limits, configuration: text, activation: activation, compute: compute)
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
    guard let service else {
      try decoder.forward(&step, cache: &cache, through: &feedForward)
      return
    }
    service.beginStep()
    var served = ServedFeedForward(service)
    try decoder.forward(&step, cache: &cache, through: &served)
  }

  /// How often `idle` wants to be called while there are no steps; nil for never.
  package var idleInterval: Duration? { service == nil ? nil : .milliseconds(50) }

  /// Looks after the processes that compute the feed-forward half, if there are any.
  package mutating func idle() { service?.idle() }

  /// Peers without which no step can be computed now.
  package var missingPeers: [String] { service?.missingPeers ?? [] }

  /// Tokens by the experts they were sent to, wherever those are computed.
  package var expertTokens: ExpertTokens {
    let expertCount = decoder.configuration.expertCount
    var counts: [Int] = []
    for index in 0..<step.microBatches.count {
      let part = step.microBatches[index].expertTokenCounts
      if counts.isEmpty { counts = part } else { for i in part.indices { counts[i] += part[i] } }
    }
    return ExpertTokens(expertCount: expertCount, counts: counts)
  }

  /// In how many micro-batches to compute a step of so many rows.
  func microBatchCount(rowCount: Int) -> Int {
    let most = max(1, min(rowCount, step.microBatches.count))
    if let count = options.microBatchCount { return min(count, most) }
    return min(most, service?.microBatchCount(rowCount: rowCount, limit: most) ?? 1)
  }

  /// Calls `body` with the logits [V] of each row of a micro-batch in `rows`.
  package mutating func withLogits<E: Error>(
    of rows: [Int32], in microBatch: Int = 0,
    _ body: (_ index: Int, _ logits: Span<Float>) throws(E) -> Void
  ) throws(E) {
    try withLogitRows(of: rows, in: microBatch) { (range, logits) throws(E) in
      for index in range { try body(index, logits[index - range.lowerBound]) }
    }
  }

  /// Calls `body` with the logits of the rows of a micro-batch in `rows`, as many at a time as
  /// there is room for; `range` says which ones.
  mutating func withLogitRows<E: Error>(
    of rows: [Int32], in microBatch: Int,
    _ body: (_ range: Range<Int>, _ logits: borrowing LogitRows) throws(E) -> Void
  ) throws(E) {
    let width = decoder.configuration.vocabularySize
    var first = 0
    while first < rows.count {
      let count = min(output.rowLimit, rows.count - first)
      decoder.logits(
        of: count == rows.count ? rows : Array(rows[first..<first + count]),
        step.microBatches[microBatch], scratch: &output, into: &logitsBuffer)
      try body(first..<first + count, LogitRows(logits: logitsBuffer.span, width: width))
      first += count
    }
  }

  /// Bytes of the tower, and what encoding images takes besides.
  private static func encodingByteCount(
    _ folder: borrowing ModelFolder, _ activation: ActivationType
  ) -> Int {
    guard folder.hasVision else { return 0 }
    return folder.visionByteCount
      + VisionWork.scratchByteCount(
        folder.configuration, activation: activation, rowLimit: VisionWork.rowLimit)
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
