import Disaggregation
import DisaggregationTestSupport
import Kernels
import Step3Model
import Testing

@Suite("Expert maps")
struct ExpertMapTests {
  @Test("the usual maps hold everything once", arguments: [0, 1, 5, 8, 48])
  func usual(expertCount: Int) throws {
    for count in [1, 2, 4] {
      try ExpertMap.tensorParallel(expertCount: expertCount, count: count)
        .check(expertCount: expertCount)
    }
    for count in 1...9 {
      try ExpertMap.expertParallel(expertCount: expertCount, count: count)
        .check(expertCount: expertCount)
    }
  }

  @Test("gaps, overlaps and strangers are refused")
  func refusals() {
    var map = ExpertMap.expertParallel(expertCount: 8, count: 2)
    map.parts[1].experts = [3..<8]
    #expect(throws: ExpertMapError.coverage(what: "expert 3", quarter: 0, holders: 2)) {
      try map.check(expertCount: 8, allowsCopies: false)
    }
    map.parts[1].expertQuarters = 0..<2
    #expect(throws: ExpertMapError.coverage(what: "expert 3", quarter: 0, holders: 2)) {
      try map.check(expertCount: 8)
    }
    map.parts[1].expertQuarters = 0..<4
    map.parts[1].experts = [5..<8]
    #expect(throws: ExpertMapError.coverage(what: "expert 4", quarter: 0, holders: 0)) {
      try map.check(expertCount: 8)
    }
    map.parts[1].experts = [4..<9]
    #expect(throws: ExpertMapError.noSuchExpert(shard: 1, expert: 8, expertCount: 8)) {
      try map.check(expertCount: 8)
    }
    map.parts[1].experts = [6..<8, 4..<6]
    #expect(throws: ExpertMapError.malformedPart(shard: 1)) { try map.check(expertCount: 8) }
    #expect(throws: ExpertMapError.empty) { try ExpertMap(parts: []).check(expertCount: 8) }
  }

  @Test("any range is made of the largest subtrees in it")
  func subtrees() {
    var generator = SplitMix(seed: 5)
    for _ in 0..<500 {
      let count = Int.random(in: 1...60, using: &generator)
      let first = Int.random(in: 0..<count, using: &generator)
      let part = first..<Int.random(in: first + 1...count, using: &generator)
      let found = ExpertTree.subtrees(of: part, in: count)
      #expect(Array(found.joined()) == Array(part))
      #expect(found.allSatisfy { ExpertTree.isSubtree($0, of: count) })
    }
  }

  @Test("a map can be changed between steps, and changes no bit")
  func change() throws {
    let prompts: [[Int32]] = [[1, 17, 130], [250, 4, 61, 9], [3, 3]]
    let model = try TinyModel(.bfloat16, activation: .bfloat16)
    var local = model.local()
    let expected = try model.run(
      prompts: prompts, decodeSteps: 6, microBatches: 1, through: &local)
    let map = ExpertMap.expertParallel(expertCount: 8, count: 2)
    let cluster = try TinyCluster(map) { try TinyModel(.bfloat16, activation: .bfloat16) }
    let other = try #require(
      map.balanced(load: [50, 40, 9, 8, 1, 1, 1, 1]))
    let copied = try #require(
      other.balanced(load: [400, 1, 1, 1, 1, 1, 1, 1], spare: 2, base: map))
    #expect(!copied.copies.isEmpty)
    let remote = try cluster.attention(
      model, microBatches: 2, format: .exact(roundsActivations: true))
    var served = ServedFeedForward(remote)
    var stepCount = 0
    let found = try model.run(
      prompts: prompts, decodeSteps: 6, microBatches: 2, through: &served
    ) {
      stepCount += 1
      for (step, next) in [(5, other), (7, copied)] where stepCount == step {
        cluster.change(to: next)
        try? remote.adopt(next)
      }
      remote.beginStep()
    }
    #expect(found == expected)
    #expect(remote.statistics.failureCount == 0)
  }

  @Test("balancing parts experts that are chosen often; each shard keeps its number of them")
  func balance() throws {
    let map = ExpertMap.expertParallel(expertCount: 8, count: 2)
    let load = [90, 80, 70, 60, 5, 4, 3, 2]
    #expect(map.imbalance(load: load) > 1.8)
    let better = try #require(map.balanced(load: load))
    try better.check(expertCount: 8)
    #expect(better.imbalance(load: load) < 1.1)
    #expect(better.epoch == map.epoch + 1)
    #expect(better.parts.allSatisfy { Array($0.experts.joined()).count == 4 })
    #expect(better.balanced(load: load) == nil)
    #expect(ExpertMap.tensorParallel(expertCount: 8, count: 2).balanced(load: load) == nil)
  }

  @Test("what no swap can even gets copies, whose tokens are shared; they go when load moves on")
  func copies() throws {
    let map = ExpertMap.expertParallel(expertCount: 8, count: 4)
    // One expert has more than half of all tokens.
    let load = [5, 100, 10, 10, 10, 10, 10, 10]
    let swapped = map.balanced(load: load) ?? map
    #expect(swapped.imbalance(load: load) > 2.3)
    let better = try #require(map.balanced(load: load, spare: 1, base: map))
    try better.check(expertCount: 8)
    #expect(better.copies[1]?.count == 4 && better.copies.count == 1)
    #expect(better.imbalance(load: load) < 1.2)
    let counts = better.parts.map { $0.experts.joined().count }
    #expect(counts.allSatisfy { $0 <= 3 } && counts.reduce(0, +) == 11)
    let moved = [100, 5, 10, 10, 10, 10, 10, 10]
    let next = try #require(better.balanced(load: moved, spare: 1, base: map))
    #expect(next.copies[1] == nil && next.copies[0]?.count == 4)
    let even = try #require(better.balanced(load: [1, 1, 1, 1, 1, 1, 1, 1], base: map))
    #expect(even.copies.isEmpty && even.parts.allSatisfy { $0.experts.joined().count == 2 })
  }
}
