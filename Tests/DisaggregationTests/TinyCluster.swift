import Disaggregation
import Foundation
import Kernels
import Step3Model
import Synchronization

/// FFN nodes on threads of this process, that attention sides reach over a loopback network.
final class TinyCluster: Sendable {
  let network = LoopbackNetwork()
  let map: ExpertMap
  /// Nodes by shard: `replicas` for each.
  let nodes: [ServingNode]
  private let makeModel: @Sendable () throws -> TinyModel
  private let threads = Mutex<[String: WorkerThread]>([:])

  private final class WorkerThread: Sendable {
    let isStopped = Atomic<Bool>(false)
    let drains = Atomic<Bool>(false)
    let nextMap = Mutex<ExpertMap?>(nil)
    let changed = DispatchSemaphore(value: 0)
    let ended = DispatchSemaphore(value: 0)
    let leaked = Atomic<Int>(-1)
  }

  init(
    _ map: ExpertMap, replicas: Int = 1, model: @escaping @Sendable () throws -> TinyModel
  ) throws {
    self.map = map
    makeModel = model
    nodes = map.parts.indices.flatMap { shard in
      (0..<replicas).map { replica in
        ServingNode(
          number: UInt16(100 + shard * replicas + replica), name: "ffn-\(shard)-\(replica)",
          shard: shard)
      }
    }
    for node in nodes { start(node.name) }
  }

  /// Starts a node's thread.
  func start(_ name: String, delay: Duration = .zero, options: WorkerOptions? = nil) {
    guard let node = nodes.first(where: { $0.name == name }) else { return }
    let state = WorkerThread()
    let (network, map, makeModel) = (network, map, makeModel)
    let listening = DispatchSemaphore(value: 0)
    threads.withLock { $0[name] = state }
    let thread = Thread {
      defer { state.ended.signal() }
      do {
        let model = try makeModel()
        var choices = options ?? WorkerOptions()
        choices.dispatchRowLimit = TinyModel.tokenLimit
        choices.jobRowLimit = 4 * TinyModel.tokenLimit
        let transport = network.makeTransport()
        let worker = try FFNWorker(
          model: model.context(), map: map, shard: node.shard, options: choices,
          transport: transport,
          control: OpenControlPlane(number: node.number, name: node.name))
        try transport.listen(at: node.name)
        listening.signal()
        worker.run {
          if state.drains.exchange(false, ordering: .acquiringAndReleasing) { worker.drain() }
          if let map = state.nextMap.withLock({ $0.take() }) {
            try? worker.hold(map, shard: node.shard)
            state.changed.signal()
          }
          return state.isStopped.load(ordering: .acquiring)
        }
        state.leaked.store(worker.usedBlockCount, ordering: .releasing)
      } catch {
        listening.signal()
      }
    }
    thread.start()
    listening.wait()
  }

  /// Stops a node; its links break. Returns the blocks that it still had in use.
  @discardableResult
  func stop(_ name: String) -> Int {
    let state = threads.withLock { $0.removeValue(forKey: name) }
    guard let state else { return 0 }
    state.isStopped.store(true, ordering: .releasing)
    state.ended.wait()
    return state.leaked.load(ordering: .acquiring)
  }

  /// Lets a node say that it wants to leave.
  func drain(_ name: String) {
    threads.withLock { $0[name]?.drains.store(true, ordering: .releasing) }
  }

  /// Lets every node hold its shard of another map as well, and waits until they do.
  func change(to map: ExpertMap) {
    let states = threads.withLock { Array($0.values) }
    for state in states { state.nextMap.withLock { $0 = map } }
    for state in states { state.changed.wait() }
  }

  func stopAll() {
    for name in threads.withLock({ Array($0.keys) }).sorted() { stop(name) }
  }

  deinit { stopAll() }

  /// An attention side on the calling thread, connected to all nodes.
  func attention(
    _ model: TinyModel, number: UInt16 = 1, microBatches: Int, format: ExchangeFormat,
    edit: (inout RemoteOptions) -> Void = { _ in }
  ) throws -> RemoteFeedForward<LoopbackTransport> {
    var options = RemoteOptions(map: map, nodes: nodes, format: format)
    edit(&options)
    let remote = try RemoteFeedForward(
      context: model.context(microBatchLimit: microBatches), options: options,
      transport: network.makeTransport(),
      control: OpenControlPlane(
        number: number, name: "attention-\(number)", connectingTo: nodes.map(\.name)))
    _ = remote.connect(until: .seconds(20))
    return remote
  }
}

extension TinyModel {
  func context(microBatchLimit: Int = 1) -> FeedForwardContext {
    FeedForwardContext(
      layers: layers, configuration: configuration, activation: activation,
      tokenLimit: Self.tokenLimit, microBatchLimit: microBatchLimit, compute: compute)
  }
}
