import KVCaching
import Scheduling
import Testing

@Suite struct SchedulerTests {
  private func harness(
    sequences: Int = 4, tokens: Int = 16, blocks: Int = 64, blockSize: Int = 4,
    handicap: Duration? = nil, queued: Int = 100
  ) throws -> SchedulerHarness {
    SchedulerHarness(
      limits: try AdmissionLimits(
        sequenceCount: sequences, stepTokenCount: tokens, queuedRequestCount: queued,
        handicapPerPriority: handicap),
      blockCount: blocks, blockSize: blockSize)
  }

  private func request(
    _ id: Int, prompt: Int, output: Int = 3, choices: Int = 1, priority: Int = 0
  ) -> SchedulingRequest {
    // Prompts differ from their first token on.
    SchedulingRequest(
      id: id, prompt: [1000 + id] + Array(0..<prompt - 1), maximumTokens: output,
      choiceCount: choices, priority: priority)
  }

  @Test("a long prompt is computed in chunks while every decode advances in every step")
  func chunkedPrefill() throws {
    var harness = try harness(sequences: 3, tokens: 8)
    try harness.submit(request(0, prompt: 2, output: 20))
    try harness.submit(request(1, prompt: 2, output: 20))
    _ = try harness.step()
    try harness.submit(request(2, prompt: 30, output: 5))
    for _ in 0..<5 {
      _ = try harness.step()
      let plan = try #require(harness.lastPlan)
      #expect(plan.entries.map(\.tokens.count) == [1, 1, 6])
      #expect(plan.entries[0].samplers == [SequenceID(request: 0)])
    }
    #expect(harness.lastPlan?.entries[2].samplers == [SequenceID(request: 2)])
  }

  @Test("a short prompt overtakes a long one, which still gets half of every step")
  func shortPrompts() throws {
    var harness = try harness(sequences: 8, tokens: 20, blocks: 200)
    try harness.submit(request(0, prompt: 100))
    _ = try harness.step()
    for id in 1...5 { try harness.submit(request(id, prompt: 6)) }
    _ = try harness.step()
    let plan = try #require(harness.lastPlan)
    #expect(plan.entries.map(\.sequence.request) == [0, 1, 2])
    #expect(plan.entries.map(\.tokens.count) == [10, 6, 4])
  }

  @Test("nobody waits longer than the work before him at half the budget")
  func noStarvation() throws {
    for seed in 0..<40 {
      var random = WorkloadRandom(seed: seed)
      var harness = try harness(sequences: 4, tokens: 24, blocks: 60, handicap: .seconds(5))
      var bounds: [Int: Int] = [:]
      var work = 0
      for id in 0..<30 {
        let new = request(
          id, prompt: Int.random(in: 1...80, using: &random),
          output: Int.random(in: 1...20, using: &random))
        try harness.submit(new, at: 0)
        work += new.prompt.count / 10 + 1 + new.maximumTokens
        bounds[id] = work
      }
      while try harness.step() {}
      for id in 0..<30 {
        let started = try #require(harness.firstStep[id])
        #expect(started <= bounds[id] ?? 0, "seed \(seed), request \(id)")
      }
    }
  }

  @Test("a priority is a handicap in time: early low priority beats late high priority")
  func priorities() throws {
    var harness = try harness(sequences: 1, tokens: 8, handicap: .seconds(10))
    try harness.submit(request(0, prompt: 4))
    _ = try harness.step()
    try harness.submit(request(1, prompt: 4, priority: 1), at: 0)
    try harness.submit(request(2, prompt: 4, priority: 0), at: 5)
    try harness.submit(request(3, prompt: 4, priority: 0), at: 15)
    while try harness.step() {}
    let order = [1, 2, 3].sorted { harness.firstStep[$0] ?? 0 < harness.firstStep[$1] ?? 0 }
    #expect(order == [2, 1, 3])
  }

  @Test("the latest arrival is preempted, keeps its place and its output")
  func preemption() throws {
    var harness = try harness(sequences: 3, tokens: 32, blocks: 9, blockSize: 4)
    try harness.submit(request(0, prompt: 8, output: 16))
    try harness.submit(request(1, prompt: 8, output: 16))
    var preempted: [SequenceID] = []
    var isLateSubmitted = false
    while try harness.step() {
      preempted += harness.lastPlan?.preempted ?? []
      if !preempted.isEmpty && !isLateSubmitted {
        isLateSubmitted = true
        try harness.submit(request(2, prompt: 4, output: 2))
      }
    }
    #expect(Set(preempted) == [SequenceID(request: 1)])
    for id in 0...2 {
      let sequence = SequenceID(request: id)
      #expect(harness.outputs[sequence] == harness.oracle(sequence))
    }
    // The late one came after the preempted one although it would have fitted earlier.
    let ends = harness.scheduler.metrics
    #expect(ends.preemptionCount == preempted.count && ends.usedBlockCount == 0)
  }

  @Test("a cancelled sequence has no blocks and is in no plan from the next step on")
  func cancellation() throws {
    var harness = try harness()
    for id in 0..<3 { try harness.submit(request(id, prompt: 5, output: 50)) }
    for _ in 0..<3 { _ = try harness.step() }
    let used = harness.scheduler.metrics.usedBlockCount
    harness.scheduler.cancel(request: 1)
    #expect(harness.scheduler.metrics.usedBlockCount < used)
    _ = try harness.step { $0.cancel(request: 2) }
    #expect(harness.lastPlan?.entries.map(\.sequence.request) == [0, 2])
    _ = try harness.step()
    #expect(harness.lastPlan?.entries.map(\.sequence.request) == [0])
    #expect(harness.ends[SequenceID(request: 1)]?.reason == .cancelled)
    #expect(harness.ends[SequenceID(request: 2)]?.reason == .cancelled)
  }

  @Test("choices share the prompt, which is computed once, and copy when they part")
  func choices() throws {
    var harness = try harness(sequences: 4, tokens: 40)
    try harness.submit(request(0, prompt: 10, output: 6, choices: 4))
    var computed = 0
    var copies = 0
    while try harness.step() {
      computed += harness.lastPlan?.tokenCount ?? 0
      copies += harness.lastPlan?.copies.count ?? 0
    }
    #expect(computed == 10 + 4 * 5)
    #expect(copies == 3)
    for choice in 0..<4 {
      let id = SequenceID(request: 0, choice: choice)
      #expect(harness.outputs[id] == harness.oracle(id))
    }
  }

  @Test("more choices than may run at once run in turns") func manyChoices() throws {
    var harness = try harness(sequences: 3, tokens: 40)
    try harness.submit(request(0, prompt: 9, output: 4, choices: 8))
    while try harness.step() {}
    #expect(harness.ends.count == 8)
    #expect((0..<8).allSatisfy { harness.outputs[SequenceID(request: 0, choice: $0)]?.count == 4 })
  }

  @Test(
    "cached tokens are whole blocks and leave a token to compute",
    arguments: [
      (prompt: 16, cached: 12), (17, 16), (18, 16), (3, 0), (4, 0), (5, 4),
    ]) func cachedTokens(prompt: Int, cached: Int) throws
  {
    var harness = try harness()
    let first = request(0, prompt: 40, output: 1)
    try harness.submit(first)
    while try harness.step() {}
    #expect(harness.cachedCounts[0] == 0)
    try harness.submit(
      SchedulingRequest(id: 1, prompt: Array(first.prompt.prefix(prompt)), maximumTokens: 2))
    while try harness.step() {}
    #expect(harness.cachedCounts[1] == cached)
    #expect(harness.scheduler.metrics.hitTokenCount == cached)
    #expect(
      harness.outputs[SequenceID(request: 1)] == harness.oracle(SequenceID(request: 1)))
  }

  @Test("a second turn finds the first turn's answer in the cache") func conversation() throws {
    var harness = try harness()
    let first = request(0, prompt: 10, output: 9)
    try harness.submit(first)
    while try harness.step() {}
    let answer = try #require(harness.outputs[SequenceID(request: 0)])
    try harness.submit(
      SchedulingRequest(id: 1, prompt: first.prompt + answer + [5, 6, 7], maximumTokens: 2))
    while try harness.step() {}
    #expect(harness.cachedCounts[1] == 16)
  }

  @Test("equal prompts that arrive together share what the first computes") func together() throws {
    var harness = try harness(sequences: 4, tokens: 12, blocks: 80)
    let prompt = Array(0..<48)
    for id in 0..<4 {
      try harness.submit(
        SchedulingRequest(id: id, prompt: prompt + [100 + id], maximumTokens: 2))
    }
    var computed = 0
    while try harness.step() { computed += harness.lastPlan?.tokenCount ?? 0 }
    #expect(computed < 2 * 48)
    for id in 0..<4 {
      let sequence = SequenceID(request: id)
      #expect(harness.outputs[sequence] == harness.oracle(sequence))
    }
  }

  @Test("a full queue refuses with the time to come back, estimated from throughput")
  func refusals() throws {
    var harness = try harness(sequences: 1, tokens: 8, blocks: 200, queued: 2)
    try harness.submit(request(0, prompt: 4))
    _ = try harness.step()
    try harness.submit(request(1, prompt: 500))
    try harness.submit(request(2, prompt: 300))
    #expect(throws: AdmissionRefusal.queueFull(limit: 2, retryAfter: .seconds(4))) {
      try harness.submit(request(3, prompt: 4))
    }
    #expect(throws: AdmissionRefusal.cacheTooSmall(neededTokens: 801, availableTokens: 800)) {
      try harness.submit(request(4, prompt: 799, output: 3))
    }
    #expect(throws: AdmissionRefusal.priorityUnsupported(priority: 2)) {
      try harness.submit(request(5, prompt: 4, priority: 2))
    }
  }

  @Test("a request that fills the whole cache runs, alone") func wholeCache() throws {
    var harness = try harness(sequences: 4, tokens: 16, blocks: 10, blockSize: 4)
    try harness.submit(request(0, prompt: 30, output: 11))
    try harness.submit(request(1, prompt: 30, output: 11))
    while try harness.step() {}
    for id in 0..<2 {
      let sequence = SequenceID(request: id)
      #expect(harness.outputs[sequence] == harness.oracle(sequence))
    }
  }

  @Test("limits under which a prompt could never start are refused") func limits() {
    #expect(throws: AdmissionLimitError.stepTooSmall(stepTokenCount: 7, sequenceCount: 8)) {
      try AdmissionLimits(sequenceCount: 8, stepTokenCount: 7)
    }
    #expect(throws: AdmissionLimitError.self) {
      try AdmissionLimits(sequenceCount: 0, stepTokenCount: 8)
    }
  }

  @Test("an abandoned step ends its sequences and leaks nothing") func abandonment() throws {
    var harness = try harness()
    try harness.submit(request(0, prompt: 5, output: 4, choices: 2))
    try harness.submit(request(1, prompt: 40))
    _ = harness.scheduler.plan()
    harness.scheduler.abandonStep()
    harness.collectEnds()
    #expect(harness.ends.count == 3)
    #expect(harness.scheduler.isIdle && harness.scheduler.metrics.usedBlockCount == 0)
    try harness.scheduler.checkInvariants()
  }
}
