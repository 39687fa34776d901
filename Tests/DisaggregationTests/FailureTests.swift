import Disaggregation
import DisaggregationTestSupport
import Foundation
import Kernels
import Step3Model
import Testing

private let prompts: [[Int32]] = [[1, 17, 130, 42, 9], [250, 4, 61], [12, 99], [140, 3, 2, 8]]

/// Peers that die, hang and come back while steps are computed.
@Suite("Failing FFN nodes")
struct FailureTests {
  private func makeModel() throws -> TinyModel { try TinyModel(.bfloat16, activation: .bfloat16) }

  private func expected(_ model: TinyModel, decodeSteps: Int) throws -> [[Float]] {
    var local = model.local()
    return try model.run(
      prompts: prompts, decodeSteps: decodeSteps, microBatches: 1, through: &local)
  }

  @Test("a node that dies hands its work to its replica: no bit changes, nothing leaks")
  func replica() throws {
    let model = try makeModel()
    let cluster = try TinyCluster(.expertParallel(expertCount: 8, count: 2), replicas: 2) {
      try TinyModel(.bfloat16, activation: .bfloat16)
    }
    let remote = try cluster.attention(
      model, microBatches: 3, format: .exact(roundsActivations: true))
    var served = ServedFeedForward(remote)
    var stepCount = 0
    let found = try model.run(
      prompts: prompts, decodeSteps: 20, microBatches: 3, through: &served
    ) {
      remote.beginStep()
      stepCount += 1
      if stepCount == 8 { cluster.network.cut("ffn-0-0") }
      if stepCount == 12 { cluster.network.freeze("ffn-1-1") }
      if stepCount == 16 { cluster.network.thaw("ffn-1-1") }
    }
    #expect(found == (try expected(model, decodeSteps: 20)))
    #expect(remote.statistics.failureCount == 0)
    for node in cluster.nodes { #expect(cluster.stop(node.name) == 0) }
    _ = remote.connect(until: remote.transport.now + .milliseconds(20))
    #expect(remote.usedBlockCount == 0)
  }

  @Test("a hung node without a replica fails the step in time, and serves again when it wakes")
  func hung() throws {
    let model = try makeModel()
    let cluster = try TinyCluster(.whole(expertCount: 8)) {
      try TinyModel(.bfloat16, activation: .bfloat16)
    }
    let remote = try cluster.attention(
      model, microBatches: 2, format: .exact(roundsActivations: true)
    ) { options in
      options.timeouts.heartbeat = .milliseconds(20)
      options.timeouts.suspect = .milliseconds(60)
      options.timeouts.dead = .milliseconds(200)
    }
    var served = ServedFeedForward(remote)
    let reference = try expected(model, decodeSteps: 1)
    func run() throws -> [[Float]] {
      try model.run(
        prompts: prompts, decodeSteps: 1, microBatches: 2, through: &served,
        beginStep: { remote.beginStep() })
    }
    #expect(try run() == reference)
    cluster.network.freeze("ffn-0-0")
    #expect(throws: FeedForwardError.peerLost(layer: 0, peer: "ffn-0-0")) { try run() }
    #expect(remote.missingPeers == ["ffn-0-0"])
    #expect(remote.usedBlockCount == 0)
    cluster.network.thaw("ffn-0-0")
    #expect(remote.connect(until: remote.transport.now + .seconds(10)))
    #expect(try run() == reference)
    #expect(remote.statistics.failureCount == 1)
  }

  @Test("a step waits for a node's return where it shall hold")
  func hold() throws {
    let model = try makeModel()
    let cluster = try TinyCluster(.tensorParallel(expertCount: 8, count: 2)) {
      try TinyModel(.bfloat16, activation: .bfloat16)
    }
    let remote = try cluster.attention(
      model, microBatches: 2, format: .exact(roundsActivations: true)
    ) { $0.policy.hold = .seconds(20) }
    var served = ServedFeedForward(remote)
    var stepCount = 0
    let found = try model.run(
      prompts: prompts, decodeSteps: 4, microBatches: 2, through: &served
    ) {
      remote.beginStep()
      stepCount += 1
      if stepCount == 6 {
        cluster.stop("ffn-1-0")
        let thread = Thread {
          Thread.sleep(forTimeInterval: 0.1)
          cluster.start("ffn-1-0")
        }
        thread.start()
      }
    }
    #expect(found == (try expected(model, decodeSteps: 4)))
    #expect(remote.statistics.lostLinkCount == 1)
  }

  @Test("a node with another map refuses, and the step says why")
  func otherMap() throws {
    let model = try makeModel()
    let cluster = try TinyCluster(.whole(expertCount: 8)) {
      try TinyModel(.bfloat16, activation: .bfloat16)
    }
    let remote = try cluster.attention(model, microBatches: 1, format: .bfloat16) {
      $0.map.epoch = 7
    }
    var served = ServedFeedForward(remote)
    #expect(
      throws: FeedForwardError.refused(
        layer: 0, peer: "ffn-0-0", reason: "expert map 7 is not among [1]")
    ) {
      try model.run(prompts: prompts, decodeSteps: 0, microBatches: 1, through: &served)
    }
  }

  @Test("a draining node is left for its replica, and finishes what it has")
  func drain() throws {
    let model = try makeModel()
    let cluster = try TinyCluster(.whole(expertCount: 8), replicas: 2) {
      try TinyModel(.bfloat16, activation: .bfloat16)
    }
    let remote = try cluster.attention(
      model, microBatches: 2, format: .exact(roundsActivations: true))
    var served = ServedFeedForward(remote)
    var stepCount = 0
    var before = 0
    let found = try model.run(
      prompts: prompts, decodeSteps: 10, microBatches: 2, through: &served
    ) {
      remote.beginStep()
      stepCount += 1
      if stepCount == 6 { cluster.drain("ffn-0-0") }
      if stepCount == 8 { before = remote.statistics.traffic[0].dispatchCount }
    }
    #expect(found == (try expected(model, decodeSteps: 10)))
    #expect(remote.statistics.traffic[0].dispatchCount == before)
    #expect(before > 0)
    #expect(remote.statistics.traffic[1].dispatchCount > before)
  }

  @Test("credit keeps what waits at a node within its room; no bit changes")
  func credit() throws {
    let model = try makeModel()
    let cluster = try TinyCluster(.whole(expertCount: 8)) {
      try TinyModel(.bfloat16, activation: .bfloat16)
    }
    var options = WorkerOptions()
    options.slotLimit = 2
    cluster.stop("ffn-0-0")
    cluster.start("ffn-0-0", options: options)
    let remote = try cluster.attention(
      model, microBatches: 4, format: .exact(roundsActivations: true))
    var served = ServedFeedForward(remote)
    let found = try model.run(
      prompts: prompts, decodeSteps: 10, microBatches: 4, through: &served
    ) { remote.beginStep() }
    #expect(found == (try expected(model, decodeSteps: 10)))
    #expect(remote.statistics.failureCount == 0)
    #expect(remote.creditLimits == [2])
    #expect(remote.usedBlockCount == 0)
    #expect(cluster.stop("ffn-0-0") == 0)
  }
}
