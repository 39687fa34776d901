import ClusterControl
import Disaggregation
import Kernels
import ModelConfiguration
import Step3Model

/// One attention side and its ffn nodes with their control planes, which a seed breaks and mends.
final class SimulatedCluster {
  static let layerCount = 3
  let network: SimulatedNetwork
  let remote: RemoteFeedForward<SimulatedTransport>
  let microBatches: Int
  private let model: TinyModel
  private let file: ClusterFile
  private let layout: ClusterLayout
  private let desk: MapDesk
  private let board: PeerBoard
  private var workers: [String: FFNWorker<SimulatedTransport>] = [:]
  private var stepCount = 0
  /// Tokens that chose each expert.
  private var expertLoad: [Int]
  private let changeEvery: Int
  /// Copies that each shard may hold.
  private let spare: Int

  init(seed: UInt64, model: TinyModel) throws {
    self.model = model
    expertLoad = Array(repeating: 0, count: model.configuration.expertCount)
    var faults = SimulatedFaults()
    let dice = SimulatedNetwork(seed: seed &+ 1000, faults: faults)
    faults.lossPerMille = [0, 0, 1, 5][dice.random(in: 0..<4)]
    faults.repeatPerMille = [0, 20, 100][dice.random(in: 0..<3)]
    faults.slowPerMille = [0, 20, 50][dice.random(in: 0..<3)]
    let network = SimulatedNetwork(seed: seed, faults: faults)
    self.network = network
    microBatches = network.random(in: 1..<4)
    changeEvery = network.random(in: 3..<12)
    spare = network.random(in: 0..<3)
    let file = Self.file(network)
    self.file = file
    let layout = try file.layout(expertCount: model.configuration.expertCount)
    self.layout = layout
    desk = MapDesk(layout.map, expertCount: model.configuration.expertCount)
    board = PeerBoard(file, role: .attention)
    var options = RemoteOptions(
      map: layout.map,
      nodes: layout.holders.enumerated().flatMap { shard, ids in
        ids.map { id in
          ServingNode(
            number: ClusterControlPlane.number(of: id, in: file) ?? 0, name: id, shard: shard)
        }
      }, format: .exact(roundsActivations: true))
    options.policy.answerDeadline = .milliseconds(30)
    options.policy.hold = network.random(in: 0..<2) == 0 ? .zero : .milliseconds(50)
    remote = try RemoteFeedForward(
      context: Self.context(model, microBatchLimit: microBatches), options: options,
      transport: network.makeTransport(),
      control: ClusterControlPlane(
        file, identity: Self.identity("a", .attention), board: board, desk: desk, log: { _ in }))
    for node in file.nodes(.ffn) { try start(node) }
    _ = remote.connect(until: .milliseconds(500))
    for node in file.nodes(.ffn) { planFaults(of: node) }
  }

  /// Two or three shards of experts, or slices, with a replica each or without.
  private static func file(_ network: SimulatedNetwork) -> ClusterFile {
    let shards = network.random(in: 1..<4)
    let slices = shards == 2 && network.random(in: 0..<2) == 0
    let replicas = network.random(in: 1..<3)
    var nodes = [ClusterNode(id: "a", role: .attention, host: "a", port: 1)]
    for shard in 0..<shards {
      for replica in 0..<replicas {
        let id = "f\(shard)-\(replica)"
        var node = ClusterNode(id: id, role: .ffn, host: id, port: 2)
        if slices {
          node.slice = NodeSlice(index: shard, count: 2)
        } else if shards > 1 {
          node.experts = [shard * 8 / shards...(shard + 1) * 8 / shards - 1]
        }
        nodes.append(node)
      }
    }
    return ClusterFile(path: "simulated", nodes: nodes, key: Array("sixteen bytes or so".utf8))
  }

  private static func identity(_ id: String, _ role: NodeRole) -> PeerIdentity {
    PeerIdentity(id: id, role: role, protocolVersion: 1, modelHash: "tiny", shardMap: "map")
  }

  private static func context(_ model: TinyModel, microBatchLimit: Int = 1) -> FeedForwardContext {
    FeedForwardContext(
      layers: Array(model.layers.prefix(layerCount)), configuration: model.configuration,
      activation: model.activation, tokenLimit: TinyModel.tokenLimit,
      microBatchLimit: microBatchLimit, compute: model.compute)
  }

  private func start(_ node: ClusterNode) throws {
    let transport = network.makeTransport()
    var options = WorkerOptions()
    options.dispatchRowLimit = TinyModel.tokenLimit
    options.jobRowLimit = TinyModel.tokenLimit
    options.slotLimit = 8
    let worker = try FFNWorker(
      model: Self.context(model), map: layout.map, shard: layout.shard(of: node.id) ?? 0,
      options: options, transport: transport,
      control: ClusterControlPlane(
        file, identity: Self.identity(node.id, .ffn), board: PeerBoard(file, role: .ffn),
        desk: MapDesk(layout.map, expertCount: model.configuration.expertCount), log: { _ in }))
    try transport.listen(at: node.address)
    workers[node.id] = worker
    network.addActor(node.id, over: transport) { worker.turn() }
  }

  private func planFaults(of node: ClusterNode) {
    var begin = network.now
    for _ in 0..<network.random(in: 0..<3) {
      begin += .microseconds(network.random(in: 0..<30_000))
      let length = Duration.microseconds(network.random(in: 500..<400_000))
      switch network.random(in: 0..<3) {
      case 0:
        network.schedule(at: begin) { [unowned self] in kill(node) }
        network.schedule(at: begin + length) { [unowned self] in restart(node) }
      case 1:
        network.schedule(at: begin) { [unowned self] in network.hang(node.id) }
        network.schedule(at: begin + length) { [unowned self] in network.resume(node.id) }
      default:
        network.schedule(at: begin) { [unowned self] in workers[node.id]?.drain() }
        network.schedule(at: begin + length) { [unowned self] in
          kill(node)
          restart(node)
        }
      }
      begin += length
    }
  }

  private func kill(_ node: ClusterNode) {
    network.kill(node.id)
    workers[node.id] = nil
  }

  private func restart(_ node: ClusterNode) {
    if workers[node.id] == nil { try? start(node) }
  }

  /// A token was sent to an expert.
  func count(expert: Int) { expertLoad[expert] += 1 }

  /// What the engine's executor does before a step: waits a little for peers, as clients would.
  func beginStep() {
    stepCount += 1
    if stepCount % changeEvery == 0, desk.proposed == nil {
      var load = expertLoad
      // The latest load counts; a map that is better by the whole would soon be the last one.
      load.swapAt(0, stepCount % load.count)
      // One expert that no swap can even, so that there is something to copy.
      if spare > 0 { load[stepCount % load.count] += load.reduce(0, +) }
      let map = desk.current.balanced(load: load, spare: spare, base: layout.map)
      if let map { _ = desk.propose(map) }
    }
    remote.idle()
    if !remote.missingPeers.isEmpty { _ = remote.connect(until: network.now + .milliseconds(50)) }
    remote.beginStep()
  }

  /// Whether experts have copies at the end.
  var hasCopies: Bool { !desk.current.copies.isEmpty }

  /// How often the map changed.
  var mapChangeCount: Int { Int(desk.current.epoch) - 1 }

  /// What is still in use, owed or unfinished when everything has come to rest.
  func leaks() -> [String] {
    for node in file.nodes(.ffn) { network.resume(node.id) }
    for _ in 0..<60 {
      remote.idle()
      network.sleep(.milliseconds(50))
    }
    var found: [String] = []
    if remote.usedBlockCount > 0 { found.append("attention has \(remote.usedBlockCount) blocks") }
    for (node, owed) in zip(remote.options.nodes, remote.owedCounts) where owed != 0 {
      found.append("\(node.name) owes \(owed)")
    }
    for (node, credit) in zip(remote.options.nodes, remote.creditLimits) where credit != 8 {
      found.append("\(node.name) gives credit \(credit)")
    }
    if !remote.missingPeers.isEmpty { found.append("\(remote.missingPeers) did not come back") }
    for name in workers.keys.sorted() {
      guard let worker = workers[name] else { continue }
      if worker.usedBlockCount > 0 { found.append("\(name) has \(worker.usedBlockCount) blocks") }
      if worker.statistics.mostDispatches > 16 { found.append("\(name) was flooded") }
    }
    return found
  }
}

/// Carries a world out of its engine's thread once that has ended.
final class WorldBox: @unchecked Sendable {
  // Unchecked: the engine's thread puts it before it is loaded, and has ended when it is taken.
  private var world: SimulatedCluster?

  func put(_ world: SimulatedCluster) { self.world = world }

  func take() -> SimulatedCluster? {
    defer { world = nil }
    return world
  }
}
