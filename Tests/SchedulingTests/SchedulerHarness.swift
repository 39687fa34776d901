import KVCaching
import Scheduling
import Testing

/// A small generator for workloads; failures print the seed.
struct WorkloadRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: Int) { state = UInt64(seed + 1) &* 0x9E37_79B9_7F4A_7C15 | 1 }

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

/// A scheduler on a model made of hashes.
///
/// The "keys and values" of a position are the hash of the whole prefix up to it, computed from the
/// cache's content at the position before. So any mistake in tables, sharing, copies or positions
/// changes the output, which must equal that of the oracle, who has no cache at all.
struct SchedulerHarness {
  var scheduler: Scheduler
  private(set) var requests: [Int: SchedulingRequest] = [:]
  private(set) var outputs: [SequenceID: [Int]] = [:]
  private(set) var ends: [SequenceID: EndedSequence] = [:]
  private(set) var promptRows: [Int: [Int]] = [:]
  private(set) var firstStep: [Int: Int] = [:]
  private(set) var cachedCounts: [Int: Int] = [:]
  private(set) var stepIndex = 0
  private(set) var lastPlan: StepPlan?
  private var memory: [UInt64]
  private let blockSize: Int
  /// Tokens below this end a sequence, so some stop before their limit.
  var stopBelow = 0

  init(
    limits: AdmissionLimits, blockCount: Int, blockSize: Int, isPrefixCachingEnabled: Bool = true
  ) {
    self.blockSize = blockSize
    memory = [UInt64](repeating: 0xDEAD, count: blockCount * blockSize)
    scheduler = Scheduler(
      limits: limits,
      pool: BlockPool(
        blockCount: blockCount, blockSize: blockSize,
        isPrefixCachingEnabled: isPrefixCachingEnabled))
  }

  mutating func submit(_ request: SchedulingRequest, at seconds: Int = 0) throws {
    try scheduler.submit(request, now: .seconds(seconds), tokensPerSecond: 100)
    requests[request.id] = request
  }

  /// Plans, computes and applies one step; false when there was nothing to do.
  mutating func step(
    drafting: Bool = false, meanwhile: (inout Scheduler) -> Void = { _ in }
  ) throws -> Bool {
    guard let plan = scheduler.plan() else { return false }
    lastPlan = plan
    stepIndex += 1
    #expect(plan.tokenCount <= scheduler.limits.stepTokenCount)
    var outcome = StepOutcome(samples: [])
    copyBlocks(plan.copies)
    for entry in plan.entries { outcome.samples += compute(entry) }
    meanwhile(&scheduler)
    scheduler.apply(outcome)
    try scheduler.checkInvariants()
    collectEnds(outcome)
    if drafting { propose(plan) }
    return true
  }

  mutating func collectEnds(_ outcome: StepOutcome = StepOutcome(samples: [])) {
    for sample in outcome.samples { outputs[sample.sequence, default: []] += sample.tokens }
    for end in scheduler.takeEnded() {
      #expect(ends[end.id] == nil, "\(end.id) ended twice")
      ends[end.id] = end
    }
  }

  /// What choice `choice` must generate in full.
  func oracle(_ id: SequenceID) -> [Int] {
    guard let request = requests[id.request] else { return [] }
    var hash: UInt64 = Self.root(request.identity)
    for token in request.prompt { hash = Self.mix(hash, token) }
    var output: [Int] = []
    while output.count < request.maximumTokens {
      let token = Self.token(after: hash, choice: id.choice, count: output.count)
      output.append(token)
      if token < stopBelow { break }
      hash = Self.mix(hash, token)
    }
    return output
  }

  // MARK: The model

  private static func root(_ identity: PrefixIdentity) -> UInt64 {
    (identity.salt ?? "").utf8.reduce(17) { mix($0, Int($1)) }
  }

  private static func mix(_ hash: UInt64, _ token: Int) -> UInt64 {
    var x = hash &+ UInt64(token) &* 0x9E37_79B9_7F4A_7C15 &+ 1
    x = (x ^ x >> 30) &* 0xBF58_476D_1CE4_E5B9
    x = (x ^ x >> 27) &* 0x94D0_49BB_1331_11EB
    return x ^ x >> 31
  }

  /// Few different tokens, so that different sequences often agree for a while.
  private static func token(after hash: UInt64, choice: Int, count: Int) -> Int {
    let salted = count == 0 ? mix(hash, choice) : hash
    return Int(salted % 50)
  }

  private mutating func copyBlocks(_ copies: [BlockCopy]) {
    for copy in copies {
      for offset in 0..<blockSize {
        memory[Int(copy.target) * blockSize + offset] =
          memory[Int(copy.source) * blockSize + offset]
      }
    }
  }

  private mutating func compute(_ entry: StepPlan.Entry) -> [StepOutcome.Sample] {
    guard let request = requests[entry.sequence.request] else { return [] }
    let id = entry.sequence.request
    if firstStep[id] == nil { firstStep[id] = stepIndex }
    var hash = Self.root(request.identity)
    if entry.start > 0 {
      hash = memory[slot(entry, entry.start - 1)]
    }
    var hashes: [UInt64] = []
    for (index, token) in entry.tokens.enumerated() {
      hash = Self.mix(hash, token)
      memory[slot(entry, entry.start + index)] = hash
      hashes.append(hash)
    }
    if request.needsPromptLogits {
      promptRows[id, default: []] += entry.logitPositions.filter { $0 < entry.promptCount }
    }
    if entry.completesPrompt && cachedCounts[id] == nil { cachedCounts[id] = entry.cachedCount }
    return entry.samplers.map { sample($0, entry, hashes, request) }
  }

  private func sample(
    _ sequence: SequenceID, _ entry: StepPlan.Entry, _ hashes: [UInt64],
    _ request: SchedulingRequest
  ) -> StepOutcome.Sample {
    #expect(entry.logitPositions.contains(entry.end - entry.draftCount - 1))
    #expect(entry.logitPositions.upperBound == entry.end)
    var tokens: [Int] = []
    for row in entry.tokens.count - entry.draftCount - 1..<entry.tokens.count {
      let count = entry.start + row + 1 - request.prompt.count
      let token = Self.token(after: hashes[row], choice: sequence.choice, count: count)
      tokens.append(token)
      if token < stopBelow { return .init(sequence: sequence, tokens: tokens, isFinished: true) }
      guard row + 1 < entry.tokens.count, entry.tokens[row + 1] == token else { break }
    }
    return .init(sequence: sequence, tokens: tokens, isFinished: false)
  }

  private func slot(_ entry: StepPlan.Entry, _ position: Int) -> Int {
    Int(entry.blocks[position / blockSize]) * blockSize + position % blockSize
  }

  /// Guesses that are right for a while: the oracle's tokens, with mistakes.
  private mutating func propose(_ plan: StepPlan) {
    for entry in plan.entries {
      for id in entry.samplers where ends[id] == nil {
        let done = outputs[id]?.count ?? 0
        let guesses = oracle(id).dropFirst(done).prefix(3).enumerated().map {
          ($0 + done) % 5 == 4 ? 99 : $1
        }
        scheduler.propose(guesses, for: id)
      }
    }
  }
}
