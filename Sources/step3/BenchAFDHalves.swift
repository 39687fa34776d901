import CommandLineInterface
import Disaggregation
import Foundation
import Inference
import JSONScanning
import KVCaching
import Kernels
import ModelConfiguration
import Step3Model
import Tensors

/// What is measured, and on which cores.
struct DisaggregationSettings {
  let batches: [Int]
  let contexts: [Int]
  let delays: [Int]
  let microBatches: [Int]
  let steps: Int
  let repeats: Int
  private let allCores: [Int]

  init(_ arguments: ParsedArguments) throws {
    func list(_ name: String, _ usual: [Int], _ range: ClosedRange<Int>) throws -> [Int] {
      guard arguments.isGiven(name) else { return usual }
      let values = arguments.integers(name)
      if let bad = values.first(where: { !range.contains($0) }) {
        throw UsageError.badValue(
          "\(bad)", origin: .flag(name),
          expected: "numbers from \(range.lowerBound) to \(range.upperBound)", nearest: nil)
      }
      return values
    }
    batches = try list("batches", [16], 1...4096)
    contexts = try list("contexts", [512], 0...1_000_000)
    delays = try list("delays", [0], 0...1_000_000)
    microBatches = try list("micro-batches", [1, 2, 3, 4], 1...EngineOptions.microBatchLimit)
    steps = arguments.integer("steps")
    repeats = arguments.integer("repeats")
    let given = arguments.integers("cores")
    allCores = given.isEmpty ? ProcessorAffinity.usableCores : given
  }

  var batchLimit: Int { batches.max() ?? 1 }
  /// Positions of the longest sequence.
  var length: Int { (contexts.max() ?? 0) + 64 }
  /// Where the FFN side runs.
  var feedForwardCore: Int? { allCores.count > 1 ? allCores.first : nil }

  /// Puts the calling thread where the attention side runs.
  func useAttentionCore() {
    if allCores.count > 1, let core = allCores.last { ProcessorAffinity.pinThread(to: core) }
  }

  /// Puts the calling thread on the first core, beside the helpers of a team of all cores.
  func useAllCores() {
    if let core = feedForwardCore { ProcessorAffinity.pinThread(to: core) }
  }

  /// Engine options for these steps.
  func engineOptions(_ arguments: ParsedArguments, threads: Int?) -> EngineOptions {
    var options = ModelFlags.options(arguments)
    if let threads { options.threads = threads }
    let blocks = (length + options.blockSize - 1) / options.blockSize
    options.contextLength = length
    options.batchedTokenLimit = batchLimit
    options.microBatchCount = nil
    options.cacheBlockCount = blocks * batchLimit
    return options
  }
}

/// Steps of decoding by a model whose feed-forward half is here, or with somebody else.
struct DisaggregationBenchmark: ~Copyable {
  private var runtime: ModelRuntime
  private let blocksPerSequence: Int
  private(set) var lastMicroBatchCount = 1

  /// - Parameter side: Who computes the feed-forward half; nil for this process.
  init(
    _ arguments: ParsedArguments, _ settings: DisaggregationSettings, threads: Int?,
    _ side: FeedForwardSide?
  ) throws {
    let folder = try ModelFolder(path: arguments.model)
    let options = settings.engineOptions(arguments, threads: threads)
    var factory: FeedForwardFactory?
    if let side {
      factory = { context in try side.start(context, arguments, settings) }
    }
    runtime = try ModelRuntime(
      folder, options: options, logitRowLimit: settings.batchLimit, through: factory)
    blocksPerSequence = (settings.length + options.blockSize - 1) / options.blockSize
  }

  /// Writes keys and values of `context` positions for every sequence: memory that was never
  /// written would be read from the caches.
  mutating func fill(context: Int) {
    let width = runtime.decoder.configuration.headDimension
    var state: UInt32 = 1
    let noise = (0..<256 * width).map { _ -> Float in
      state = state &* 1_664_525 &+ 1_013_904_223
      return Float(Int32(bitPattern: state)) * 0x1p-31
    }
    let rows = Buffer(noise)
    let slots = (0..<runtime.options.batchedTokenLimit).flatMap { sequence in
      (0..<context).map { slot(sequence, $0) }
    }
    for layer in runtime.decoder.layers.indices {
      var first = 0
      while first < slots.count {
        let last = min(slots.count, first + 256)
        runtime.decoder.compute.storeKeysValues(
          keys: rows, values: rows, slots: Array(slots[first..<last]),
          into: runtime.cache.layer(layer))
        first = last
      }
    }
  }

  private func slot(_ sequence: Int, _ position: Int) -> Int32 {
    let size = runtime.options.blockSize
    return Int32((sequence * blocksPerSequence + position / size) * size + position % size)
  }

  /// Computes steps, logits included; tells the seconds of each.
  ///
  /// - Parameter microBatches: How many; nil lets the program choose, step by step.
  mutating func run(
    batch: Int, context: Int, microBatches: Int?, steps: Int, _ tell: (Double) -> Void
  ) throws {
    remote?.resetStatistics()
    let clock = ContinuousClock()
    for step in 0..<steps {
      let start = clock.now
      let limit = min(batch, EngineOptions.microBatchLimit)
      let count =
        microBatches ?? remote?.microBatchCount(rowCount: batch, limit: limit) ?? 1
      lastMicroBatchCount = count
      place(batch: batch, position: context + step % 64, microBatches: count)
      try runtime.forward()
      for m in 0..<count {
        let rows = (0..<Int32(runtime.step.microBatches[m].tokens.count)).map { $0 }
        runtime.withLogits(of: rows, in: m) { _, _ in }
      }
      tell((clock.now - start).seconds)
    }
  }

  private mutating func place(batch: Int, position: Int, microBatches: Int) {
    let vocabularySize = runtime.decoder.configuration.vocabularySize
    runtime.step.microBatchCount = microBatches
    for m in 0..<microBatches {
      let rows = m * batch / microBatches..<(m + 1) * batch / microBatches
      runtime.step.microBatches[m].tokens = rows.map {
        Int32(($0 * 104_729 + position * 7919) % vocabularySize)
      }
      runtime.step.microBatches[m].positions = rows.map { _ in Int32(position) }
      runtime.step.microBatches[m].slots = rows.map { slot($0, position) }
      runtime.step.microBatches[m].spans = rows.indices.map { index in
        AttentionSpan(
          firstRow: index - rows.lowerBound, rowCount: 1, startPosition: position,
          blockTableOffset: (index - rows.lowerBound) * blocksPerSequence)
      }
      runtime.step.microBatches[m].blockTables = rows.flatMap { row in
        (0..<blocksPerSequence).map { Int32(row * blocksPerSequence + $0) }
      }
    }
  }

  private var remote: (any MeasuredFeedForward)? {
    runtime.service as? any MeasuredFeedForward
  }

  var layerCount: Int { runtime.decoder.layers.count }
  var carrier: String { remote?.carrier ?? "nothing" }

  /// What the stages take, as the program knows.
  var planner: PipelinePlanner {
    get { remote?.planner ?? PipelinePlanner() }
    nonmutating set { remote?.planner = newValue }
  }

  /// The exchanges since the last `run` began.
  var statistics: ExchangeStatistics {
    guard let remote else { preconditionFailure("both halves are here") }
    return remote.statistics
  }

  func forgetStages() { planner = PipelinePlanner() }
  func setDelay(_ delay: Duration) { remote?.setDelay(delay) }

  func writeTrace(_ path: String) throws {
    let document = TimelineTrace.document([
      TimelineTrace.Source(name: "attention", nodeNames: ["ffn"], records: statistics.latest)
    ])
    guard
      FileManager.default.createFile(
        atPath: path, contents: Data(document.text(.compact).utf8))
    else { throw CommandFailure(.failed, code: "cannot_write", "\(path): cannot be written") }
  }
}
