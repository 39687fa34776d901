import ClusterControl
import CommandLineInterface
import Disaggregation
import Foundation
import Inference
import JSONScanning
import Kernels
import ModelConfiguration
import Step3Model
import Synchronization
import UCXTransport

/// `step3 ffn`: holds experts for the attention nodes of a cluster.
struct FFNCommand: Command {
  static let specification = CommandSpecification(
    "ffn", abstract: "Compute feed-forward halves for the attention nodes of a cluster.",
    example: "step3 ffn --model DIR --cluster cluster.json --id f0", takesModel: true,
    flags: [
      ClusterNodeSetup.clusterFlag, ClusterNodeSetup.idFlag, ClusterNodeSetup.coresFlag,
      ModelFlags.dtype,
      .integer(
        "max-num-batched-tokens", in: 2...65_536, default: 512,
        help: "most tokens in one dispatch: at least what the attention nodes run with"),
      .number("shutdown-timeout", in: 0...86_400, default: 30, help: "seconds to drain for"),
    ],
    discussion: """
      Only the tensors of the node's experts are read. SIGTERM tells the attention nodes to turn to
      replicas, answers what is under way and ends; a second signal stops at once.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    let log = arguments.log
    let folder = try ModelFolder(path: arguments.model)
    var options = ModelFlags.options(arguments)
    let setup = try ClusterNodeSetup(
      cluster: arguments.string("cluster"), id: arguments.string("id"), role: .ffn, folder,
      options)
    options.kernels = setup.kernels
    try setup.restrict(arguments)
    let life = NodeLife()
    let stop = StopSignal()
    let watch = SignalWatch { code in stop.fire(code) }
    let rows = arguments.integer("max-num-batched-tokens")
    let thread = Thread { [options] in
      do {
        try work(folder, setup, options, rows: rows, life, log)
        life.end(nil)
      } catch { life.end(error) }
      // Whoever waits for a signal need not any more.
      stop.fire(.failed)
    }
    thread.name = "ffn"
    thread.start()
    let code = await stop.wait()
    if let error = life.error { throw error }
    log.info("draining; a second signal stops at once")
    life.drain.turnOn()
    let end = ContinuousClock.now + .seconds(arguments.number("shutdown-timeout"))
    while !life.isIdle, ContinuousClock.now < end {
      try? await Task.sleep(for: .milliseconds(20))
    }
    life.stop()
    while !life.isOver, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(5)) }
    _ = watch.received
    throw StoppedBySignal(code)
  }

  /// The feed-forward half of a model, for dispatches of up to `rows` rows.
  static func context(
    _ folder: ModelFolder, _ options: EngineOptions, rows: Int
  ) throws -> FeedForwardContext {
    let text = folder.configuration.text
    let compute = Compute(
      kernels: try KernelSet.select(options.kernels),
      team: WorkTeam(workerCount: options.threads))
    let activation = options.resolvedActivation(weightByteCount: folder.textByteCount)
    var loader = ModelLoader(files: folder.files, configuration: text)
    let halves = try loader.load(activation: activation, compute: compute, positionCount: 1)
    return FeedForwardContext(
      layers: halves.feedForward, configuration: text, activation: activation, tokenLimit: rows,
      microBatchLimit: 1, compute: compute)
  }

  /// Serves on the calling thread until told to stop.
  private static func work(
    _ folder: ModelFolder, _ setup: ClusterNodeSetup, _ options: EngineOptions, rows: Int,
    _ life: NodeLife, _ log: Log
  ) throws {
    let context = try context(folder, options, rows: rows)
    let transport = try UCXTransport(setup.transportSettings())
    try transport.listen(at: setup.node.address)
    let board = PeerBoard(setup.file, role: .ffn)
    let name = setup.node.id
    let control = ClusterControlPlane(
      setup.file, identity: setup.identity, board: board, desk: setup.makeMapDesk(),
      drainSwitch: life.drain
    ) { log.info("\(name): \($0)") }
    var worker = WorkerOptions()
    worker.dispatchRowLimit = rows
    worker.jobRowLimit = max(worker.jobRowLimit, rows)
    worker.timeouts = setup.linkTimeouts
    let shard = setup.layout.shard(of: name) ?? 0
    let node = try FFNWorker(
      model: context, map: setup.layout.map, shard: shard, options: worker,
      transport: transport, control: control,
      prepare: readExperts(context.layers, held: setup.layout.map.parts[shard]))
    log.info("\(name) serves shard \(shard) at \(setup.node.address)")
    var drainedAt: ContinuousClock.Instant?
    let began = ContinuousClock.now
    var nextReport = began
    node.run {
      if ContinuousClock.now >= nextReport {
        nextReport = .now + .seconds(1)
        board.ownReport = node.statistics.report(uptime: .now - began, shard: shard)
      }
      if life.drain.isOn {
        // Answers go out, and peers turn away, within a few heartbeats.
        let since = drainedAt ?? .now
        drainedAt = since
        let hasPeers = board.peers.contains(where: \.isAdmitted)
        life.note(isIdle: node.isIdle && (!hasPeers || ContinuousClock.now - since > .seconds(1)))
      }
      return life.isStopping
    }
  }
}

extension FFNCommand {
  /// Reads the experts that a node does not hold already on a thread of its own.
  private static func readExperts(
    _ layers: [FeedForwardLayer], held: ShardPart
  ) -> ExpertPreparation {
    { part, flag in
      let known = Set(held.experts.joined())
      let experts = part.experts.joined().filter { !known.contains($0) }
      let thread = Thread {
        for layer in layers { layer.read(experts: experts) }
        flag.set()
      }
      thread.name = "experts"
      thread.start()
    }
  }
}

extension WorkerStatistics {
  /// The counters, as peers are told them; times in seconds.
  func report(uptime: Duration, shard: Int) -> JSONValue {
    [
      "shard": .integer(shard), "uptime": .number(uptime.seconds), "jobs": .integer(jobCount),
      "rows": .integer(rowCount), "dispatches": .integer(dispatchCount),
      "refused": .integer(refusedCount), "most_dispatches": .integer(mostDispatches),
      "busy": .number(busyTime.seconds), "wait": .number(waitTime.seconds),
    ]
  }
}

/// What the command's two threads tell each other.
final class NodeLife: Sendable {
  private struct State {
    var isIdle = false
    var isStopping = false
    var isOver = false
    var error: (any Error)?
  }

  private let state = Mutex(State())
  let drain = DrainSwitch()

  var isIdle: Bool { state.withLock { $0.isIdle || $0.isOver } }
  var isStopping: Bool { state.withLock { $0.isStopping } }
  var isOver: Bool { state.withLock { $0.isOver } }
  var error: (any Error)? { state.withLock { $0.error } }

  func note(isIdle: Bool) { state.withLock { $0.isIdle = isIdle } }
  func stop() { state.withLock { $0.isStopping = true } }

  func end(_ error: (any Error)?) {
    state.withLock { state in
      state.isOver = true
      state.error = error
    }
  }
}
