import Disaggregation
import DisaggregationTestSupport
import Kernels
import Step3Model
import Testing

private let prompts: [[Int32]] = [[1, 17, 130, 42, 9], [250, 4], [12, 99, 7]]

/// The real exchange and the real workers on a simulated network, from seeds.
@Suite("Simulated networks")
struct SimulationTests {
  @Test("does what every transport must", arguments: TransportConformance.checks.map(\.claim))
  func conforms(claim: String) throws {
    let network = SimulatedNetwork(seed: 5, faults: SimulatedFaults())
    let check = try #require(TransportConformance.checks.first { $0.claim == claim })
    try check.run(
      TransportConformance(
        caller: network.makeTransport(), listener: network.makeTransport(), address: "ffn-0",
        deadAddress: "nobody"))
  }

  @Test("under any faults each step has the bits of one process or fails with a reason")
  func faults() throws {
    let model = try TinyModel(.bfloat16, activation: .bfloat16)
    var local = model.local()
    let expected = try model.run(
      prompts: prompts, decodeSteps: 2, microBatches: 1, through: &local)
    var failures = 0
    var resends = 0
    for seed in 0..<60 as Range<UInt64> {
      let world = try SimulatedWorld(seed: seed, model: model)
      let found = try world.run(prompts: prompts, decodeSteps: 2)
      #expect(found == expected, "seed \(seed)")
      #expect(world.leaks() == [], "seed \(seed)")
      failures += world.failureCount
      resends += world.remote.statistics.traffic.reduce(0) { $0 + $1.resendCount }
    }
    // The faults are there, and so is what stands against them.
    #expect(failures > 0 && resends > 0)
  }

  @Test("a seed gives the same run each time")
  func repeatable() throws {
    let model = try TinyModel(.bfloat16, activation: .bfloat16)
    let ends = try (0..<2).map { _ in
      let world = try SimulatedWorld(seed: 11, model: model)
      _ = try world.run(prompts: prompts, decodeSteps: 1)
      return world.network.now
    }
    #expect(ends[0] == ends[1])
  }
}

/// A step that no attempt brought to an end.
private struct NoEnd: Error {}

/// One attention process and a few FFN nodes that the seed breaks and mends.
private final class SimulatedWorld {
  let network: SimulatedNetwork
  let remote: RemoteFeedForward<SimulatedTransport>
  private(set) var failureCount = 0
  private let model: TinyModel
  private let map: ExpertMap
  private let nodes: [ServingNode]
  private var workers: [String: FFNWorker<SimulatedTransport>] = [:]
  private let microBatches: Int

  init(seed: UInt64, model: TinyModel) throws {
    self.model = model
    var faults = SimulatedFaults()
    let network: SimulatedNetwork
    do {
      let dice = SimulatedNetwork(seed: seed &+ 1000, faults: faults)
      faults.lossPerMille = [0, 0, 5, 30][dice.random(in: 0..<4)]
      faults.repeatPerMille = [0, 20, 100][dice.random(in: 0..<3)]
      faults.slowPerMille = [0, 20, 50][dice.random(in: 0..<3)]
      network = SimulatedNetwork(seed: seed, faults: faults)
    }
    self.network = network
    map =
      [
        ExpertMap.whole(expertCount: 8), .tensorParallel(expertCount: 8, count: 2),
        .expertParallel(expertCount: 8, count: 3),
      ][network.random(in: 0..<3)]
    let replicas = network.random(in: 1..<3)
    let nodes = map.parts.indices.flatMap { shard in
      (0..<replicas).map {
        ServingNode(
          number: UInt16(10 * shard + $0 + 1), name: "f\(shard)-\($0)", shard: shard)
      }
    }
    self.nodes = nodes
    microBatches = network.random(in: 1..<4)
    var options = RemoteOptions(
      map: map, nodes: nodes, format: .exact(roundsActivations: true))
    options.policy.answerDeadline = .milliseconds(30)
    options.policy.hold = network.random(in: 0..<2) == 0 ? .zero : .milliseconds(50)
    remote = try RemoteFeedForward(
      context: model.context(microBatchLimit: microBatches), options: options,
      transport: network.makeTransport(),
      control: OpenControlPlane(
        number: 0, name: "a", connectingTo: nodes.map(\.name), retryInterval: .milliseconds(5)))
    for node in nodes { try start(node) }
    _ = remote.connect(until: .milliseconds(50))
    for node in nodes { planFaults(of: node) }
  }

  private func start(_ node: ServingNode) throws {
    let transport = network.makeTransport()
    var options = WorkerOptions()
    options.dispatchRowLimit = TinyModel.tokenLimit
    options.jobRowLimit = TinyModel.tokenLimit
    let worker = try FFNWorker(
      model: model.context(), map: map, shard: node.shard, options: options,
      transport: transport, control: OpenControlPlane(number: node.number, name: node.name))
    try transport.listen(at: node.name)
    workers[node.name] = worker
    network.addActor(node.name, over: transport) { worker.turn() }
  }

  private func planFaults(of node: ServingNode) {
    let begin = network.now + .microseconds(network.random(in: 0..<30_000))
    let length = Duration.microseconds(network.random(in: 500..<40_000))
    switch network.random(in: 0..<3) {
    case 0:
      network.schedule(at: begin) { [unowned self] in
        network.kill(node.name)
        workers[node.name] = nil
      }
      network.schedule(at: begin + length) { [unowned self] in try? start(node) }
    case 1:
      network.schedule(at: begin) { [unowned self] in network.hang(node.name) }
      network.schedule(at: begin + length) { [unowned self] in network.resume(node.name) }
    default: break
    }
  }

  /// Each step is tried until it succeeds, as the engine's clients would.
  func run(prompts: [[Int32]], decodeSteps: Int) throws -> [[Float]] {
    var session = try TinySession(
      model, sequenceCount: prompts.count, microBatches: microBatches)
    var served = ServedFeedForward(remote)
    var plans: [[(sequence: Int, tokens: [Int32])]] = prompts.enumerated().map { [($0, $1)] }
    var next = prompts.map { Int32(($0.count * 7) % 200) }
    for _ in 0..<decodeSteps {
      plans.append(next.enumerated().map { ($0, [$1]) })
      next = next.map { ($0 * 13 + 5) % 256 }
    }
    var results: [[Float]] = []
    for plan in plans {
      for attempt in 0..<200 {
        remote.beginStep()
        do {
          results.append(try session.step(plan, through: &served))
          break
        } catch is FeedForwardError {
          failureCount += 1
          if attempt == 199 { throw NoEnd() }
          _ = remote.connect(until: network.now + .milliseconds(10))
        }
      }
    }
    return results
  }

  /// What is still in use when everything has come to rest.
  func leaks() -> [String] {
    for node in nodes { network.resume(node.name) }
    for _ in 0..<40 {
      remote.idle()
      network.sleep(.milliseconds(50))
    }
    var found: [String] = []
    if remote.usedBlockCount > 0 { found.append("attention \(remote.usedBlockCount)") }
    for name in workers.keys.sorted() {
      if let worker = workers[name], worker.usedBlockCount > 0 {
        found.append("\(name) \(worker.usedBlockCount)")
      }
    }
    return found
  }
}
