import CommandLineInterface
import Inference
import JSONScanning
import KVCaching
import Kernels
import ModelConfiguration
import Step3Model
import Tensors

/// `step3 bench decode`: generated tokens per second, by context and batch.
struct BenchDecodeCommand: Command {
  static let specification = CommandSpecification(
    "bench decode", abstract: "Measure decoding against this machine's read bandwidth.",
    example: "step3 bench decode --model DIR --contexts 0,1024 --batches 1,4,16", takesModel: true,
    flags: [
      .integerList("contexts", help: "tokens in the cache before the measured steps (0,512)"),
      .integerList("batches", help: "sequences per step (1,4)"),
      .integer("steps", in: 1...10_000, default: 16, help: "measured steps"),
      .integer("repeats", in: 1...100, default: 3, help: "how often each row is measured"),
      BenchReport.file, ModelFlags.dtype, ModelFlags.cacheType, ModelFlags.streamExperts,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    let contexts = given("contexts", arguments) ?? [0, 512]
    let batches = given("batches", arguments) ?? [1, 4]
    let steps = arguments.integer("steps")
    var benchmark = try ModelBenchmark(
      arguments, batchLimit: batches.max() ?? 1, context: (contexts.max() ?? 0) + steps + 8)
    var report = BenchReport(arguments)
    for context in contexts {
      try benchmark.fill(context: context, batch: batches.max() ?? 1)
      for batch in batches {
        var durations: [Double] = []
        for repetition in 0..<arguments.integer("repeats") + 1 {
          let seconds = try benchmark.decode(batch: batch, from: context, steps: steps)
          // The first round warms caches and page tables.
          if repetition > 0 { durations.append(seconds / Double(steps)) }
        }
        let seconds = durations.sorted()[durations.count / 2]
        benchmark.report(&report, decode: batch, context: context, secondsPerStep: seconds)
      }
    }
    try report.finish()
  }
}

/// `step3 bench prefill`: prompt tokens per second, by length.
struct BenchPrefillCommand: Command {
  static let specification = CommandSpecification(
    "bench prefill", abstract: "Measure prefill against this machine's arithmetic peak.",
    example: "step3 bench prefill --model DIR --tokens 512,2048", takesModel: true,
    flags: [
      .integerList("tokens", help: "lengths of the prompt (128,512)"),
      .integer("repeats", in: 1...100, default: 3, help: "how often each row is measured"),
      BenchReport.file, ModelFlags.dtype, ModelFlags.cacheType, ModelFlags.chunk,
      ModelFlags.streamExperts,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    let lengths = given("tokens", arguments) ?? [128, 512]
    var benchmark = try ModelBenchmark(
      arguments, batchLimit: 1, context: (lengths.max() ?? 1) + 1)
    var report = BenchReport(arguments)
    for length in lengths {
      var durations: [Double] = []
      for repetition in 0..<arguments.integer("repeats") + 1 {
        let seconds = try benchmark.fill(context: length, batch: 1)
        if repetition > 0 { durations.append(seconds) }
      }
      benchmark.report(
        &report, prefill: length, seconds: durations.sorted()[durations.count / 2])
    }
    try report.finish()
  }
}

private func given(_ name: String, _ arguments: ParsedArguments) -> [Int]? {
  arguments.isGiven(name) ? arguments.integers(name) : nil
}

/// A model whose steps are timed: sequences of arbitrary tokens, each with its own blocks.
private struct ModelBenchmark: ~Copyable {
  private var runtime: ModelRuntime
  private let limits: MachineLimits
  private let traffic: ModelTraffic
  private let blocksPerSequence: Int
  private let chunk: Int

  init(_ arguments: ParsedArguments, batchLimit: Int, context: Int) throws {
    let folder = try ModelFolder(path: arguments.model)
    var options = ModelFlags.options(arguments)
    let chunk = options.batchedTokenLimit
    let blocks = (context + options.blockSize - 1) / options.blockSize
    options.batchedTokenLimit = max(chunk, batchLimit)
    options.contextLength = context
    options.cacheBlockCount = blocks * batchLimit
    runtime = try ModelRuntime(folder, options: options, logitRowLimit: max(1, batchLimit))
    traffic = runtime.traffic
    limits = MachineLimits.measure(team: runtime.decoder.compute.team, repeats: 5)
    blocksPerSequence = blocks
    self.chunk = chunk
  }

  /// Prefills `batch` sequences up to `context` tokens; the seconds of all of them.
  @discardableResult
  mutating func fill(context: Int, batch: Int) throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    for sequence in 0..<batch where context > 0 {
      var position = 0
      while position < context {
        let count = min(chunk, context - position)
        place([(sequence, position, count)])
        try runtime.forward()
        position += count
      }
      runtime.withLogits(of: [Int32((context - 1) % chunk)]) { _, _ in }
    }
    return (clock.now - start).seconds
  }

  /// Runs decode steps of `batch` sequences that hold `context` tokens; the seconds of all.
  mutating func decode(batch: Int, from context: Int, steps: Int) throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    let rows = (0..<Int32(batch)).map { $0 }
    for step in 0..<steps {
      place((0..<batch).map { ($0, context + step, 1) })
      try runtime.forward()
      runtime.withLogits(of: rows) { _, _ in }
    }
    return (clock.now - start).seconds
  }

  func report(
    _ report: inout BenchReport, decode batch: Int, context: Int, secondsPerStep seconds: Double
  ) {
    let cache = Double(batch * context * cacheByteCountPerPosition)
    let bytes = traffic.byteCount(batch: batch) + cache
    let share = bytes / seconds / limits.read.median
    let rate = Double(batch) / seconds
    // What the whole model would give with every 100 GB/s, were as large a share of them used.
    let whole = traffic.wholeModelByteCount(batch: batch).map { weights in
      let layers = Double(TextConfiguration().layerCount) / Double(runtime.cache.layerCount)
      return share * 100e9 * Double(batch) / (weights + layers * cache)
    }
    report.add(
      text: "decode  context \(context)  batch \(batch)  \(rounded(rate)) tokens/s  "
        + "\(rounded(seconds * 1e3)) ms a step  \(rounded(bytes / seconds / 1e9)) GB/s, "
        + "\(rounded(100 * share)) % of the read bandwidth"
        + (whole.map { "; all 61 layers: \(rounded($0)) tokens/s per 100 GB/s" } ?? ""),
      row: [
        "name": "decode", "context": .integer(context), "batch": .integer(batch),
        "threads": .integer(limits.threadCount), "tokens_per_second": .number(rate),
        "seconds_per_step": .number(seconds), "bytes_per_step": .number(bytes),
        "read_bandwidth": .number(limits.read.median), "share_of_bandwidth": .number(share),
        "whole_model_tokens_per_second_per_100_gigabytes": whole.map { .number($0) } ?? .null,
      ])
  }

  func report(_ report: inout BenchReport, prefill length: Int, seconds: Double) {
    let flops = Double(traffic.layerFlopCount) * Double(length) + Double(traffic.headFlopCount)
    let best = limits.bestForBFloat16
    let peak = limits.peaks[best]?.median ?? .infinity
    let share = flops / seconds / peak
    let others = limits.peaks.filter { $0.key != best && $0.key != .int8 }
    let rate = Double(length) / seconds
    report.add(
      text: "prefill  \(length) tokens  \(rounded(rate)) tokens/s  "
        + "\(rounded(flops / seconds / 1e9)) GFLOP/s, \(rounded(100 * share)) % of the "
        + "\(best.title) peak"
        + others.map {
          ", \(rounded(100 * flops / seconds / $0.value.median)) % of the \($0.key.title) one"
        }.joined(),
      row: [
        "name": "prefill", "tokens": .integer(length), "threads": .integer(limits.threadCount),
        "tokens_per_second": .number(rate), "seconds": .number(seconds),
        "flops": .number(flops), "peak": .number(peak), "peak_of": .string("\(best)"),
        "share_of_peak": .number(share),
      ])
  }

  private var cacheByteCountPerPosition: Int {
    let layout = runtime.cache.layout
    return 2 * runtime.cache.layerCount * layout.headDimension * layout.elementType.byteWidth
  }

  private func rounded(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

  /// Describes runs of (sequence, first position, tokens) to the next step.
  private mutating func place(_ runs: [(sequence: Int, position: Int, count: Int)]) {
    let size = runtime.options.blockSize
    let vocabularySize = runtime.decoder.configuration.vocabularySize
    var tokens: [Int32] = []
    var positions: [Int32] = []
    var slots: [Int32] = []
    var spans: [AttentionSpan] = []
    var tables: [Int32] = []
    for run in runs {
      spans.append(
        AttentionSpan(
          firstRow: tokens.count, rowCount: run.count, startPosition: run.position,
          blockTableOffset: tables.count))
      let firstBlock = run.sequence * blocksPerSequence
      tables += (0..<blocksPerSequence).map { Int32(firstBlock + $0) }
      for position in run.position..<run.position + run.count {
        tokens.append(Int32((position * 7919 + run.sequence * 104_729) % vocabularySize))
        positions.append(Int32(position))
        slots.append(Int32((firstBlock + position / size) * size + position % size))
      }
    }
    runtime.step.microBatches[0].tokens = tokens
    runtime.step.microBatches[0].positions = positions
    runtime.step.microBatches[0].slots = slots
    runtime.step.microBatches[0].spans = spans
    runtime.step.microBatches[0].blockTables = tables
  }
}
