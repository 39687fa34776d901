import CommandLineInterface
import Disaggregation
import Foundation
import Inference
import Kernels
import ModelConfiguration
import Step3Model
import Synchronization
import UCXTransport

/// What the measurement asks of a remote feed-forward half, whatever carries it.
protocol MeasuredFeedForward: FeedForwardService {
  var statistics: ExchangeStatistics { get }
  var planner: PipelinePlanner { get set }
  var carrier: String { get }
  func resetStatistics()
  func setDelay(_ delay: Duration)
}

extension RemoteFeedForward: MeasuredFeedForward where T: DelayableTransport {
  /// What carries the messages.
  var carrier: String { links.first.map { transport.carrier(of: $0.link) } ?? "nothing" }
  func setDelay(_ delay: Duration) { transport.delay = delay }
}

/// A transport with a way that can be made longer.
protocol DelayableTransport: Transport {
  var delay: Duration { get set }
}

extension DelayedTransport: DelayableTransport {}

/// The half that holds the experts: a thread here, a process started here, or one elsewhere.
final class FeedForwardSide: Sendable {
  private let isStopped = Atomic<Bool>(false)
  private let hasThread = Atomic<Bool>(false)
  private let ended = DispatchSemaphore(value: 0)
  private let process = Mutex<Process?>(nil)

  /// Processor time of its computing thread; 0 where it cannot be known.
  var processorSeconds: Double {
    process.withLock { $0.map { MachineLoad.processorSeconds(of: $0.processIdentifier) } ?? 0 }
  }

  /// Stops its process while something else is measured: what it does to see messages soon would
  /// take processor time from that.
  func pause(_ body: () throws -> Void) rethrows {
    let number = process.withLock { $0?.processIdentifier }
    if let number { kill(number, SIGSTOP) }
    defer { if let number { kill(number, SIGCONT) } }
    try body()
  }

  // MARK: The attention side's end

  /// Starts it, unless it runs elsewhere, and connects.
  func start(
    _ context: FeedForwardContext, _ arguments: ParsedArguments,
    _ settings: DisaggregationSettings
  ) throws -> any FeedForwardService {
    let made: any MeasuredFeedForward
    if arguments.string("transport") == "loopback" {
      let network = LoopbackNetwork()
      try startThread(context, settings, network)
      made = try join(context, arguments, network.makeTransport(), at: "ffn")
    } else {
      let address = try arguments.optionalString("peer") ?? startProcess(arguments, settings)
      made = try join(
        context, arguments, UCXTransport(Self.transportSettings(arguments)), at: address)
    }
    return made
  }

  private func join<T: Transport>(
    _ context: FeedForwardContext, _ arguments: ParsedArguments, _ transport: T,
    at address: String
  ) throws -> RemoteFeedForward<DelayedTransport<T>> {
    let format: ExchangeFormat =
      switch arguments.string("exchange") {
      case "bf16": .bfloat16
      case "fp8": .fast
      default: .exact(roundsActivations: context.activation == .bfloat16)
      }
    let remote = try RemoteFeedForward(
      context: context,
      options: RemoteOptions(
        map: Self.map(context), nodes: [ServingNode(number: 1, name: "ffn", shard: 0)],
        format: format),
      transport: DelayedTransport(transport),
      control: OpenControlPlane(number: 0, name: "attention", connectingTo: [address]))
    guard remote.connect(until: remote.transport.now + .seconds(30)) else {
      throw CommandFailure(.peer, code: "not_connected", "the FFN side does not answer")
    }
    return remote
  }

  private static func map(_ context: FeedForwardContext) -> ExpertMap {
    let hasMixtures = context.configuration.isMixtureLayer.contains(true)
    return .whole(expertCount: hasMixtures ? context.configuration.expertCount : 0)
  }

  private static func transportSettings(_ arguments: ParsedArguments) -> UCXSettings {
    var settings = UCXSettings()
    settings.reach = arguments.string("transport") == "tcp" ? .network : .thisMachine
    let address = arguments.optionalString("serve") ?? arguments.optionalString("peer")
    let host = address.flatMap { $0.lastIndex(of: ":").map { colon in address?[..<colon] } }
    settings.host = host.flatMap { $0 }.map(String.init) ?? "127.0.0.1"
    switch arguments.string("progress") {
    case "busy": settings.waiting = .busy
    case "events": settings.waiting = .events
    default: break
    }
    return settings
  }

  private func startThread(
    _ context: FeedForwardContext, _ settings: DisaggregationSettings, _ network: LoopbackNetwork
  ) throws {
    let listening = DispatchSemaphore(value: 0)
    let kernels = context.compute.kernels
    let map = Self.map(context)
    hasThread.store(true, ordering: .relaxed)
    let thread = Thread { [self] in
      defer { ended.signal() }
      if let core = settings.feedForwardCore { ProcessorAffinity.pinThread(to: core) }
      let model = FeedForwardContext(
        layers: context.layers, configuration: context.configuration,
        activation: context.activation, tokenLimit: context.tokenLimit, microBatchLimit: 1,
        compute: Compute(kernels: kernels, threadCount: 1))
      let transport = network.makeTransport()
      let worker = try? FFNWorker(
        model: model, map: map, shard: 0, options: Self.workerOptions(settings),
        transport: transport, control: OpenControlPlane(number: 1, name: "ffn"))
      let isListening: Void? = try? transport.listen(at: "ffn")
      listening.signal()
      if isListening != nil { worker?.run { isStopped.load(ordering: .acquiring) } }
    }
    thread.start()
    listening.wait()
  }

  /// Runs this program with `--serve`; the address where it will listen.
  private func startProcess(
    _ arguments: ParsedArguments, _ settings: DisaggregationSettings
  ) throws -> String {
    let address = "127.0.0.1:\(20_000 + Int(ProcessInfo.processInfo.processIdentifier) % 12_000)"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    var given = [
      "bench", "afd", "--serve", address, "--model", arguments.model, "--threads", "1",
      "--batches", "\(settings.batchLimit)", "--kernels", arguments.kernels,
    ]
    for name in ["transport", "progress", "dtype"] {
      given += ["--\(name)", arguments.string(name)]
    }
    if let core = settings.feedForwardCore { given += ["--cores", "\(core)"] }
    process.arguments = given
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    self.process.withLock { $0 = process }
    return address
  }

  /// Ends what was started here.
  func stop() {
    isStopped.store(true, ordering: .releasing)
    if hasThread.exchange(false, ordering: .relaxed) { ended.wait() }
    process.withLock { process in
      if let process, process.isRunning {
        process.terminate()
        process.waitUntilExit()
      }
      process = nil
    }
  }

  // MARK: The other end

  private static func workerOptions(_ settings: DisaggregationSettings) -> WorkerOptions {
    var options = WorkerOptions()
    options.dispatchRowLimit = settings.batchLimit
    options.jobRowLimit = settings.batchLimit
    return options
  }

  /// Computes for one attention side, until it leaves; gives up when none comes.
  static func serve(
    _ arguments: ParsedArguments, _ settings: DisaggregationSettings, at address: String
  ) throws {
    let cores = arguments.integers("cores")
    if !cores.isEmpty { ProcessorAffinity.restrict(to: cores) }
    let folder = try ModelFolder(path: arguments.model)
    let context = try FFNCommand.context(
      folder, ModelFlags.options(arguments), rows: settings.batchLimit)
    let transport = try UCXTransport(transportSettings(arguments))
    try transport.listen(at: address)
    let worker = try FFNWorker(
      model: context, map: map(context), shard: 0, options: workerOptions(settings),
      transport: transport, control: OpenControlPlane(number: 1, name: "ffn"))
    let limit = transport.now + .seconds(120)
    var hasComeOnce = false
    worker.run {
      if !worker.links.isEmpty { hasComeOnce = true }
      return worker.links.isEmpty && (hasComeOnce || transport.now > limit)
    }
  }
}
