import CommandLineInterface
import Disaggregation
import Foundation
import Inference
import JSONScanning
import KVCaching
import Kernels
import ModelConfiguration
import Step3Model
import Synchronization
import Tensors

/// `step3 bench afd`: both halves of the network on a thread each, against one process with both.
struct BenchAFDCommand: Command {
  static let specification = CommandSpecification(
    "bench afd",
    abstract: "Measure attention and FFN apart against both together.",
    example: "step3 bench afd --model DIR --batch 16 --delays 0,100,500 --trace trace.json",
    takesModel: true,
    flags: [
      .integer("batch", in: 1...4096, default: 16, help: "sequences per step"),
      .integer("context", in: 0...1_000_000, default: 512, help: "tokens in each cache"),
      .integerList("micro-batches", help: "numbers to try (1,2,3,4); 0 lets the program choose"),
      .integerList("delays", help: "one-way delays in microseconds (0,100,500)"),
      .choice(
        "exchange", ["exact", "bf16", "fp8"], default: "exact", help: "how values travel"),
      .integer("steps", in: 1...10_000, default: 16, help: "measured steps"),
      .integer("repeats", in: 1...100, default: 3, help: "how often each row is measured"),
      .string("trace", "FILE", help: "write the last row's steps for Perfetto"),
      BenchReport.file, ModelFlags.dtype, ModelFlags.cacheType,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    var report = BenchReport(arguments)
    let steps = arguments.integer("steps")
    let together = try seconds(arguments) { _ in
      var bench = try DisaggregationBenchmark(arguments, threads: nil, apart: nil)
      return try bench.secondsPerStep(microBatches: 1, steps: steps)
    }
    let alone = try seconds(arguments) { _ in
      var bench = try DisaggregationBenchmark(arguments, threads: 1, apart: nil)
      return try bench.secondsPerStep(microBatches: 1, steps: steps)
    }
    add(&report, "Rc", "together, all cores", together, [])
    add(&report, "R0", "together, one core", alone, [])
    let given = arguments.isGiven("micro-batches") ? arguments.integers("micro-batches") : nil
    let delays = arguments.isGiven("delays") ? arguments.integers("delays") : [0, 100, 500]
    for delay in delays {
      var bench = try DisaggregationBenchmark(
        arguments, threads: 1, apart: .microseconds(delay))
      for count in given ?? [1, 2, 3, 4, 0] {
        let time = try seconds(arguments) { round in
          if round == 0 {
            // Learns the stages' times.
            for m in [1, 2, 3] { _ = try bench.secondsPerStep(microBatches: m, steps: 2) }
          }
          bench.reset()
          return try bench.secondsPerStep(microBatches: count, steps: steps)
        }
        add(
          &report, "Rm", "apart, \(delay) µs, m = \(bench.lastMicroBatchCount)", time,
          bench.facts(together: together, delay: delay),
          [
            "batch": arguments.integer("batch"), "context": arguments.integer("context"),
            "delay_us": delay, "micro_batches": bench.lastMicroBatchCount,
          ])
      }
      if let path = arguments.optionalString("trace") { try bench.writeTrace(path) }
      bench.stop()
    }
    try report.finish()
  }

  /// The median of the repeats, the first of which warms up.
  private static func seconds(
    _ arguments: ParsedArguments, _ body: (Int) throws -> Double
  ) throws -> Double {
    var times: [Double] = []
    for round in 0...arguments.integer("repeats") {
      let time = try body(round)
      if round > 0 { times.append(time) }
    }
    return times.sorted()[times.count / 2]
  }

  private static func add(
    _ report: inout BenchReport, _ name: String, _ what: String, _ seconds: Double,
    _ facts: [(String, Double)], _ settings: KeyValuePairs<String, Int> = [:]
  ) {
    var row = JSONObject()
    row["name"] = .string(name)
    row["what"] = .string(what)
    row["seconds_per_step"] = .number(seconds)
    for (key, value) in settings { row[key] = .integer(value) }
    var text = report.pad(name, 4) + report.pad(what, 28) + "\(rounded(seconds * 1e3)) ms a step"
    for (key, value) in facts {
      row[key] = .number(value)
      text += "  \(key.split(separator: "_").joined(separator: " ")) \(rounded(value))"
    }
    report.add(text: text, row: .object(row))
  }

  private static func rounded(_ value: Double) -> String { "\((value * 1000).rounded() / 1000)" }
}

/// Decoding steps of a model whose feed-forward half is here, or on a thread of its own.
private struct DisaggregationBenchmark: ~Copyable {
  private var runtime: ModelRuntime
  private let batch: Int
  private let context: Int
  private let blocksPerSequence: Int
  private let thread: FFNThread
  private(set) var lastMicroBatchCount = 1

  /// - Parameter apart: The one-way delay to the FFN thread; nil for one process.
  init(_ arguments: ParsedArguments, threads: Int?, apart: Duration?) throws {
    let folder = try ModelFolder(path: arguments.model)
    let (rows, tokens) = (arguments.integer("batch"), arguments.integer("context"))
    var options = ModelFlags.options(arguments)
    if let threads { options.threads = threads }
    let length = tokens + arguments.integer("steps") + 8
    let blocks = (length + options.blockSize - 1) / options.blockSize
    options.contextLength = length
    options.batchedTokenLimit = rows
    options.microBatchCount = nil
    options.cacheBlockCount = blocks * rows
    let ffn = FFNThread()
    let exchange = arguments.string("exchange")
    var factory: FeedForwardFactory?
    if let apart {
      factory = { context in try ffn.start(context, delay: apart, exchange: exchange) }
    }
    runtime = try ModelRuntime(folder, options: options, logitRowLimit: rows, through: factory)
    batch = rows
    context = tokens
    blocksPerSequence = blocks
    thread = ffn
  }

  mutating func secondsPerStep(microBatches: Int, steps: Int) throws -> Double {
    let clock = ContinuousClock()
    let start = clock.now
    for step in 0..<steps {
      let limit = min(batch, EngineOptions.microBatchLimit)
      let chosen =
        microBatches == 0
        ? remote?.microBatchCount(rowCount: batch, limit: limit) ?? 1
        : min(microBatches, limit)
      lastMicroBatchCount = chosen
      place(position: context + step, microBatches: chosen)
      try runtime.forward()
    }
    return (clock.now - start).seconds / Double(steps)
  }

  private mutating func place(position: Int, microBatches: Int) {
    let size = runtime.options.blockSize
    let vocabularySize = runtime.decoder.configuration.vocabularySize
    runtime.step.microBatchCount = microBatches
    for m in 0..<microBatches {
      let rows = m * batch / microBatches..<(m + 1) * batch / microBatches
      runtime.step.microBatches[m].tokens = rows.map {
        Int32(($0 * 104_729 + position * 7919) % vocabularySize)
      }
      runtime.step.microBatches[m].positions = rows.map { _ in Int32(position) }
      runtime.step.microBatches[m].slots = rows.map {
        Int32(($0 * blocksPerSequence + position / size) * size + position % size)
      }
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

  mutating func reset() { remote?.resetStatistics() }

  /// What the stamps of the last measurement say, next to the model's prediction.
  func facts(together: Double, delay: Int) -> [(String, Double)] {
    guard let remote else { return [] }
    let times = remote.statistics.times
    let count = Double(max(1, times.stepCount))
    let layers = Double(runtime.decoder.layers.count)
    let predicted =
      remote.planner.period(rowCount: batch, microBatchCount: lastMicroBatchCount) * layers
    let wall = times.wall.inSeconds / count
    let transfer = remote.statistics.traffic.reduce(0) { $0 + $1.transferTime.inSeconds } / count
    let exposed = times.communication.inSeconds / count
    return [
      ("speed_of_together", together / wall),
      ("predicted_ms", predicted * 1e3),
      ("attention_ms", times.attention.inSeconds / count * 1e3),
      ("exchange_ms", times.exchange.inSeconds / count * 1e3),
      ("imbalance_ms", times.imbalance.inSeconds / count * 1e3),
      ("exposed_communication_ms", exposed * 1e3),
      ("hidden_share", transfer > 0 ? 1 - min(1, exposed / transfer) : 1),
    ]
  }

  func writeTrace(_ path: String) throws {
    guard let remote else { return }
    let document = TimelineTrace.document([
      TimelineTrace.Source(
        name: "attention", nodeNames: ["ffn"], records: remote.statistics.latest)
    ])
    guard
      FileManager.default.createFile(
        atPath: path, contents: Data(document.text(.compact).utf8))
    else { throw CommandFailure(.failed, code: "cannot_write", "\(path): cannot be written") }
  }

  func stop() { thread.stop() }

  private var remote: RemoteFeedForward<LoopbackTransport>? {
    runtime.service as? RemoteFeedForward<LoopbackTransport>
  }
}

/// The thread that computes the feed-forward half.
private final class FFNThread: Sendable {
  private let isStopped = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)
  private let isRunning = Atomic<Bool>(false)

  func start(
    _ context: FeedForwardContext, delay: Duration, exchange: String
  ) throws -> any FeedForwardService {
    let network = LoopbackNetwork(delay: delay)
    let hasMixtures = context.configuration.isMixtureLayer.contains(true)
    let map = ExpertMap.whole(expertCount: hasMixtures ? context.configuration.expertCount : 0)
    try startWorker(context, network, map)
    let format: ExchangeFormat =
      switch exchange {
      case "bf16": .bfloat16
      case "fp8": .fast
      default: .exact(roundsActivations: context.activation == .bfloat16)
      }
    let remote = try RemoteFeedForward(
      context: context,
      options: RemoteOptions(
        map: map, nodes: [ServingNode(number: 1, name: "ffn", shard: 0)], format: format),
      transport: network.makeTransport(),
      control: OpenControlPlane(number: 0, name: "attention", connectingTo: ["ffn"]))
    guard remote.connect(until: .seconds(30)) else {
      throw CommandFailure(.peer, code: "not_connected", "the FFN thread does not answer")
    }
    return remote
  }

  private func startWorker(
    _ context: FeedForwardContext, _ network: LoopbackNetwork, _ map: ExpertMap
  ) throws {
    let listening = DispatchSemaphore(value: 0)
    isRunning.store(true, ordering: .relaxed)
    let kernels = context.compute.kernels
    let thread = Thread { [self] in
      defer { ended.signal() }
      var options = WorkerOptions()
      options.dispatchRowLimit = context.tokenLimit
      options.jobRowLimit = context.tokenLimit
      let model = FeedForwardContext(
        layers: context.layers, configuration: context.configuration,
        activation: context.activation, tokenLimit: context.tokenLimit, microBatchLimit: 1,
        compute: Compute(kernels: kernels, threadCount: 1))
      let transport = network.makeTransport()
      guard
        let worker = try? FFNWorker(
          model: model, map: map, shard: 0, options: options, transport: transport,
          control: OpenControlPlane(number: 1, name: "ffn")),
        (try? transport.listen(at: "ffn")) != nil
      else {
        listening.signal()
        return
      }
      listening.signal()
      worker.run { isStopped.load(ordering: .acquiring) }
    }
    thread.start()
    listening.wait()
  }

  func stop() {
    guard isRunning.exchange(false, ordering: .relaxed) else { return }
    isStopped.store(true, ordering: .releasing)
    ended.wait()
  }
}
