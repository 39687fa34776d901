import Disaggregation
import Foundation
import Inference
import Kernels
import ModelConfiguration
import Sampling
import Step3Model
import Synchronization
import TestSupport
import Testing

/// The whole engine with its feed-forward half on other threads.
@Suite("Engines over FFN nodes")
struct RemoteEngineTests {
  private func options(_ microBatches: Int?) -> EngineOptions {
    var options = EngineOptions()
    options.threads = 1
    options.batchedTokenLimit = 40
    options.sequenceLimit = 16
    options.blockSize = 16
    options.cacheBlockCount = 200
    options.microBatchCount = microBatches
    return options
  }

  private func requests(_ prefix: String) throws -> [GenerationRequest] {
    try (0..<8).map { index in
      GenerationRequest(
        id: "\(prefix)\(index)",
        prompt: (0..<5 + index * 9).map { ($0 * 37 + 11) % 250 + index % 2 },
        sampling: try SamplingParameters(temperature: index % 2 == 0 ? 0 : 1),
        seed: UInt64(index), maximumTokens: 8 + index, ignoreEndOfSequence: true)
    }
  }

  @Test(
    "tokens are those of one process, whatever the micro-batches",
    arguments: [1, 3, 8, nil] as [Int?])
  func sameTokens(microBatches: Int?) throws {
    let folder = try ModelFolder(path: Fixtures.path("tiny/moe-bf16"))
    let local = Engine(folder, options: options(1))
    try local.waitUntilLoaded()
    let nodes = LoopbackNodes(count: 2)
    let remote = Engine(folder, options: options(microBatches), through: nodes.factory)
    try remote.waitUntilLoaded()
    let expected = try run(local, try requests("l"))
    #expect(try run(remote, try requests("r")) == expected)
    #expect(expected.allSatisfy { !$0.tokens.isEmpty && $0.failure == nil })
    remote.stop()
    local.stop()
  }

  @Test("a lost node fails its requests alone; the engine serves again when it is back")
  func lostNode() throws {
    let folder = try ModelFolder(path: Fixtures.path("tiny/moe-bf16"))
    let nodes = LoopbackNodes(count: 2)
    let engine = Engine(folder, options: options(2), through: nodes.factory)
    try engine.waitUntilLoaded()
    let expected = try run(engine, try requests("a"))
    nodes.stop(1)
    let lost = try run(engine, try requests("b"))
    #expect(lost.allSatisfy { $0.failure == .peerLost(name: "ffn-1") })
    #expect(try waitUntil { engine.load.missingPeers == ["ffn-1"] })
    try nodes.start(1)
    #expect(try waitUntil { engine.load.missingPeers.isEmpty })
    #expect(try run(engine, try requests("c")) == expected)
    #expect(engine.load.cacheUsage < 1)
    engine.stop()
  }

  private func waitUntil(_ isTrue: () -> Bool) throws -> Bool {
    for _ in 0..<2000 {
      if isTrue() { return true }
      Thread.sleep(forTimeInterval: 0.005)
    }
    return false
  }

  private struct Answer: Equatable, Sendable {
    var tokens: [Int] = []
    var failure: GenerationFailure?
  }

  private final class Collector: Sendable {
    let answer = Mutex(Answer())
    let ended = DispatchSemaphore(value: 0)
  }

  private func run(_ engine: Engine, _ requests: [GenerationRequest]) throws -> [Answer] {
    let collectors = try requests.map { request in
      let collector = Collector()
      try engine.submit(request) { event in
        switch event {
        case .token(let token): collector.answer.withLock { $0.tokens.append(token.id) }
        case .finished(let end):
          if case .failed(let failure) = end.reason {
            collector.answer.withLock { $0.failure = failure }
          }
          collector.ended.signal()
        default: break
        }
      }
      return collector
    }
    for collector in collectors { collector.ended.wait() }
    return collectors.map { collector in collector.answer.withLock { $0 } }
  }
}

/// FFN nodes over the layers of whatever engine asks for them.
private final class LoopbackNodes: Sendable {
  private final class Node: Sendable {
    let isStopped = Atomic<Bool>(false)
    let ended = DispatchSemaphore(value: 0)
  }

  private let network = LoopbackNetwork()
  private let count: Int
  private let state = Mutex<(context: FeedForwardContext?, nodes: [Int: Node])>((nil, [:]))

  init(count: Int) { self.count = count }

  deinit { for index in 0..<count { stop(index) } }

  private func map(_ context: FeedForwardContext) -> ExpertMap {
    .expertParallel(expertCount: context.configuration.expertCount, count: count)
  }

  var factory: FeedForwardFactory {
    { [self] context in
      state.withLock { $0.context = context }
      for index in 0..<count { try start(index) }
      let remote = try RemoteFeedForward(
        context: context,
        options: RemoteOptions(
          map: map(context),
          nodes: (0..<count).map {
            ServingNode(number: UInt16($0 + 1), name: "ffn-\($0)", shard: $0)
          }, format: .exact(roundsActivations: context.activation == .bfloat16)),
        transport: network.makeTransport(),
        control: OpenControlPlane(
          number: 0, name: "attention", connectingTo: (0..<count).map { "ffn-\($0)" }))
      _ = remote.connect(until: .seconds(20))
      return remote
    }
  }

  func start(_ index: Int) throws {
    let node = Node()
    let context = state.withLock { state in
      state.nodes[index] = node
      return state.context
    }
    guard let context else { return }
    let (network, map) = (network, map(context))
    let listening = DispatchSemaphore(value: 0)
    let thread = Thread {
      defer { node.ended.signal() }
      let model = FeedForwardContext(
        layers: context.layers, configuration: context.configuration,
        activation: context.activation, tokenLimit: context.tokenLimit, microBatchLimit: 1,
        compute: Compute(kernels: context.compute.kernels, threadCount: 1))
      let transport = network.makeTransport()
      let worker = try? FFNWorker(
        model: model, map: map, shard: index, options: WorkerOptions(), transport: transport,
        control: OpenControlPlane(number: UInt16(index + 1), name: "ffn-\(index)"))
      try? transport.listen(at: "ffn-\(index)")
      listening.signal()
      worker?.run { node.isStopped.load(ordering: .acquiring) }
    }
    thread.start()
    listening.wait()
  }

  func stop(_ index: Int) {
    guard let node = state.withLock({ $0.nodes.removeValue(forKey: index) }) else { return }
    node.isStopped.store(true, ordering: .releasing)
    node.ended.wait()
  }
}
