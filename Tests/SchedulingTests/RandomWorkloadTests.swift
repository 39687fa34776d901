import KVCaching
import Scheduling
import Testing

@Suite struct RandomWorkloadTests {
  @Test("random workloads: every promise at every step, every output right, every end once")
  func workloads() throws {
    for seed in 0..<1500 { try run(seed: seed) }
  }

  private func run(seed: Int) throws {
    var random = WorkloadRandom(seed: seed)
    let sequenceCount = Int.random(in: 1...8, using: &random)
    let blockSize = Int.random(in: 1...6, using: &random)
    let limits = try AdmissionLimits(
      sequenceCount: sequenceCount,
      stepTokenCount: sequenceCount + Int.random(in: 0...30, using: &random),
      promptLogitRowCount: Int.random(in: 1...8, using: &random),
      handicapPerPriority: .seconds(Int.random(in: 0...20, using: &random)))
    var harness = SchedulerHarness(
      limits: limits, blockCount: (60 + blockSize - 1) / blockSize + seed % 7,
      blockSize: blockSize, isPrefixCachingEnabled: seed % 5 != 0)
    harness.stopBelow = 3
    let isDrafting = seed % 3 == 0
    let requestCount = Int.random(in: 1...12, using: &random)
    var cancelled: Set<SequenceID> = []
    var submitted = 0
    var steps = 0
    while submitted < requestCount || !harness.scheduler.isIdle {
      if submitted < requestCount && Int.random(in: 0..<3, using: &random) == 0 {
        try harness.submit(request(submitted, &random), at: steps)
        submitted += 1
      }
      var victim: SequenceID?
      if submitted > 0 && Int.random(in: 0..<12, using: &random) == 0 {
        victim = SequenceID(
          request: Int.random(in: 0..<submitted, using: &random),
          choice: Int.random(in: 0..<4, using: &random))
      }
      let isMidStep = Bool.random(using: &random)
      if let victim, !isMidStep { cancel(victim, &harness.scheduler, &cancelled) }
      _ = try harness.step(drafting: isDrafting) { scheduler in
        if let victim, isMidStep { cancel(victim, &scheduler, &cancelled) }
      }
      harness.collectEnds()
      try harness.scheduler.checkInvariants()
      steps += 1
      try #require(steps < 3000, "seed \(seed) does not end")
    }
    check(harness, cancelled, seed)
  }

  private func request(_ id: Int, _ random: inout WorkloadRandom) -> SchedulingRequest {
    // Prompts share beginnings of several lengths.
    let common = Int.random(in: 0...20, using: &random)
    let own = Int.random(in: 1...20, using: &random)
    let prompt = Array(0..<common) + (0..<own).map { _ in Int.random(in: 0..<3, using: &random) }
    return SchedulingRequest(
      id: id, prompt: prompt, maximumTokens: Int.random(in: 0...20, using: &random),
      choiceCount: Int.random(in: 0..<4, using: &random) == 0
        ? Int.random(in: 2...4, using: &random) : 1,
      priority: Int.random(in: -1...1, using: &random),
      identity: PrefixIdentity(salt: Int.random(in: 0..<6, using: &random) == 0 ? "s" : nil),
      needsPromptLogits: Int.random(in: 0..<6, using: &random) == 0)
  }

  private func cancel(
    _ victim: SequenceID, _ scheduler: inout Scheduler, _ cancelled: inout Set<SequenceID>
  ) {
    if victim.choice == 3 {
      scheduler.cancel(request: victim.request)
      for choice in 0..<4 {
        cancelled.insert(SequenceID(request: victim.request, choice: choice))
      }
    } else {
      scheduler.cancel(victim)
      cancelled.insert(victim)
    }
  }

  private func check(
    _ harness: SchedulerHarness, _ cancelled: Set<SequenceID>, _ seed: Int
  ) {
    let metrics = harness.scheduler.metrics
    #expect(metrics.usedBlockCount == 0 && metrics.runningSequenceCount == 0, "seed \(seed)")
    for (id, request) in harness.requests {
      for choice in 0..<request.choiceCount {
        let sequence = SequenceID(request: id, choice: choice)
        let end = harness.ends[sequence]
        let output = harness.outputs[sequence] ?? []
        let oracle = harness.oracle(sequence)
        #expect(end != nil, "seed \(seed), \(sequence)")
        if end?.reason == .cancelled {
          #expect(cancelled.contains(sequence), "seed \(seed), \(sequence)")
          #expect(output == Array(oracle.prefix(output.count)), "seed \(seed), \(sequence)")
        } else {
          #expect(output == oracle, "seed \(seed), \(sequence)")
          #expect(end?.generatedCount == oracle.count, "seed \(seed), \(sequence)")
        }
      }
      if request.needsPromptLogits && request.choiceCount <= harness.scheduler.limits.sequenceCount,
        harness.ends[SequenceID(request: id)]?.reason != .cancelled
      {
        #expect(harness.promptRows[id] == Array(request.prompt.indices), "seed \(seed)")
      }
    }
  }

  @Test("the same workload gives the same plans, whatever the process's hash seed")
  func determinism() throws {
    func plans() throws -> [StepPlan] {
      var random = WorkloadRandom(seed: 77)
      let limits = try AdmissionLimits(
        sequenceCount: 5, stepTokenCount: 20, handicapPerPriority: .seconds(3))
      var harness = SchedulerHarness(limits: limits, blockCount: 20, blockSize: 4)
      for id in 0..<10 { try harness.submit(request(id, &random), at: id) }
      var plans: [StepPlan] = []
      while try harness.step() { plans += [harness.lastPlan].compactMap { $0 } }
      return plans
    }
    #expect(try plans() == plans())
  }
}
