import Disaggregation
import DisaggregationTestSupport
import Foundation
import Kernels
import Step3Model
import Synchronization
import Tensors
import Testing

private let prompts: [[Int32]] = [
  [1, 17, 130, 42, 9, 200, 3], [250, 4, 4, 61], [12, 99, 180, 7, 33, 71, 5, 6, 8, 10, 222],
  [140], [3, 1, 4, 1, 5, 9, 2, 6], [77, 78, 79], [201, 13], [8, 8, 8, 8, 9],
]

/// A way to spread a layer over FFN nodes.
struct Split: Sendable, CustomTestStringConvertible {
  let name: String
  let map: ExpertMap
  var testDescription: String { name }

  static let all = [
    Split(name: "1F", map: .whole(expertCount: 8)),
    Split(name: "2F TP", map: .tensorParallel(expertCount: 8, count: 2)),
    Split(name: "4F TP", map: .tensorParallel(expertCount: 8, count: 4)),
    Split(name: "2F EP", map: .expertParallel(expertCount: 8, count: 2)),
    Split(name: "3F EP", map: .expertParallel(expertCount: 8, count: 3)),
    Split(name: "4F EP x TP", map: crossed),
    Split(name: "3F scattered", map: scattered),
    Split(name: "3F with copies", map: copied),
  ]

  /// Experts 1, 2 and 6 at several shards, one of them at all.
  static let copied = ExpertMap(
    parts: [
      ShardPart(experts: [0..<3], sharedQuarters: 0..<4, denseQuarters: 0..<2),
      ShardPart(experts: [1..<6], sharedQuarters: 0..<0, denseQuarters: 2..<4),
      ShardPart(experts: [2..<3, 6..<8], sharedQuarters: 0..<0, denseQuarters: 0..<0),
    ])

  /// Two slices of two halves of the experts.
  static let crossed = ExpertMap(
    parts: (0..<4).map { index in
      let quarters = index % 2 * 2..<index % 2 * 2 + 2
      return ShardPart(
        experts: [index / 2 * 4..<index / 2 * 4 + 4], expertQuarters: quarters,
        sharedQuarters: index / 2 == 0 ? quarters : 0..<0,
        denseQuarters: index..<index + 1)
    })

  /// Sets of experts that are no ranges, the shared expert and dense layers on one node.
  static let scattered = ExpertMap(
    parts: [
      ShardPart(experts: [0..<1, 3..<5], sharedQuarters: 0..<0, denseQuarters: 0..<0),
      ShardPart(experts: [1..<3], sharedQuarters: 0..<4, denseQuarters: 0..<4),
      ShardPart(experts: [5..<8], sharedQuarters: 0..<0, denseQuarters: 0..<0),
    ])
}

@Suite("Layers spread over FFN nodes")
struct SplitTests {
  /// Runs the prompts through one process, and through the split from `attentionCount` threads.
  private func check(
    _ split: Split, attentionCount: Int = 1, _ format: WeightMatrix.Format,
    _ activation: ActivationType, kernels: KernelChoice = .auto, microBatches: Int = 3,
    edit: @escaping @Sendable (inout RemoteOptions) -> Void = { _ in }
  ) throws {
    let makeModel: @Sendable () throws -> TinyModel = {
      try TinyModel(format, activation: activation, kernels: kernels)
    }
    let model = try makeModel()
    var local = model.local()
    let expected = try model.run(
      prompts: prompts, decodeSteps: 3, microBatches: 1, through: &local)
    let isFinite = expected.joined().allSatisfy { $0.isFinite }
    #expect(isFinite)
    let cluster = try TinyCluster(split.map, model: makeModel)
    let found = try inThreads(attentionCount) { index in
      let model = try makeModel()
      let remote = try cluster.attention(
        model, number: UInt16(1 + index), microBatches: microBatches,
        format: .exact(roundsActivations: activation == .bfloat16), edit: edit)
      var served = ServedFeedForward(remote)
      let logits = try model.run(
        prompts: prompts, decodeSteps: 3, microBatches: microBatches, through: &served,
        beginStep: { remote.beginStep() })
      let times = remote.statistics.times
      #expect(
        times.attention + times.exchange + times.stall == times.wall && times.wall > .zero)
      return logits
    }
    for logits in found {
      #expect(
        logits.map { $0.map(\.bitPattern) } == expected.map { $0.map(\.bitPattern) })
    }
  }

  @Test("every split gives the bits of one process", arguments: Split.all)
  func splits(split: Split) throws {
    try check(split, .bfloat16, .float32)
    try check(split, .e4m3, .bfloat16, microBatches: 2)
  }

  @Test("the reference kernels' bits survive as well", arguments: [Split.all[2], Split.all[6]])
  func reference(split: Split) throws {
    try check(split, .float32, .float32, kernels: .reference, microBatches: 2)
  }

  @Test(
    "two and three attention processes get the same bits, whatever is merged",
    arguments: [2, 3], [Split.all[0], Split.all[3], Split.all[2]])
  func manyAttention(count: Int, split: Split) throws {
    try check(split, attentionCount: count, .bfloat16, .bfloat16)
  }

  @Test(
    "broadcasting instead of selecting changes nothing", arguments: [Split.all[3], Split.all[7]])
  func broadcast(split: Split) throws {
    try check(split, .bfloat16, .bfloat16) { $0.dispatch = .broadcast }
  }

  @Test("a shard that the attention process keeps changes nothing")
  func localShard() throws {
    try check(Split.all[6], .bfloat16, .float32) { options in
      options.localShards = [1]
      options.nodes.removeAll { $0.shard == 1 }
    }
  }

  @Test("checksummed payloads change nothing")
  func checksums() throws {
    try check(Split.all[1], .bfloat16, .bfloat16) { $0.checksPayloads = true }
  }

  @Test("any number of micro-batches gives the same bits", arguments: [1, 2, 4, 8])
  func microBatches(count: Int) throws {
    try check(Split.all[3], .bfloat16, .bfloat16, microBatches: count)
  }
}

/// Runs `body` on `count` threads of their own; rethrows the first error.
func inThreads<R: Sendable>(
  _ count: Int, _ body: @escaping @Sendable (Int) throws -> R
) throws -> [R] {
  let results = Mutex<[Int: Result<R, any Error>]>([:])
  let ended = DispatchSemaphore(value: 0)
  for index in 0..<count {
    let thread = Thread {
      let result = Result { try body(index) }
      results.withLock { $0[index] = result }
      ended.signal()
    }
    thread.start()
  }
  for _ in 0..<count { ended.wait() }
  return try results.withLock { results in
    try (0..<count).compactMap { try results[$0]?.get() }
  }
}
