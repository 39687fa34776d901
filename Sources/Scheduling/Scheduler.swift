package import KVCaching

/// Decides which tokens each step computes; a value without clock, threads or model.
///
/// The life of a sequence: *waiting* (no blocks) → *running* (prefill in chunks, then decode) → one
/// end. Memory pressure sends the latest arrival back to waiting, where it keeps its place; its
/// tokens, generated ones included, are then computed again, so its output does not change.
///
/// The order of a step: all decodes (one token each, plus guesses), then prefill within what is
/// left of the budget, half of it for the oldest prompt and the rest for the shortest, so that
/// neither can starve the other. Waiting sequences are admitted strictly in order of precedence,
/// when blocks for all their tokens are there.
///
/// Promises, checked by `checkInvariants`: blocks are conserved and have as many owners as tables
/// hold them; every sequence is in one place and ends exactly once; the earliest running sequence
/// is never preempted, so there is always progress.
package struct Scheduler: Sendable {
  /// The bounds it was made with.
  package let limits: AdmissionLimits
  var pool: BlockPool
  /// Every live sequence, at a place that does not move; dead places are reused.
  var states: [SequenceState] = []
  private var deadSlots: [Int] = []
  /// Slots in order of precedence.
  var running: [Int] = []
  var waiting: [Int] = []
  /// Slots by sequence, the shared ones under their first choice; looked up, never iterated.
  private var slots: [SequenceID: Int] = [:]
  /// The plan whose outcome has not come.
  var planInFlight: StepPlan?
  private var ended: [EndedSequence] = []
  var preemptionCount = 0
  var queriedTokenCount = 0
  var hitTokenCount = 0

  /// A scheduler without work over the blocks of `pool`.
  package init(limits: AdmissionLimits, pool: BlockPool) {
    self.limits = limits
    self.pool = pool
  }

  /// Whether no sequence waits or runs.
  package var isIdle: Bool { running.isEmpty && waiting.isEmpty }

  /// Queues a request, or refuses it for a reason that the client can act on.
  ///
  /// - Parameters:
  ///   - now: time since some fixed moment; never decreases from call to call.
  ///   - tokensPerSecond: measured throughput of prompts, for the advice when to come again.
  package mutating func submit(
    _ request: SchedulingRequest, now: Duration, tokensPerSecond: Double? = nil
  ) throws(AdmissionRefusal) {
    try check(request, tokensPerSecond: tokensPerSecond)
    let handicap = (limits.handicapPerPriority ?? .zero) * request.priority
    // More choices than sequences can run at once come in groups; the later ones find the prompt
    // in the prefix cache.
    for first in stride(from: 0, to: request.choiceCount, by: limits.sequenceCount) {
      let choices = first..<min(first + limits.sequenceCount, request.choiceCount)
      let state = SequenceState(request, choices: choices, arrival: now + handicap)
      insert(add(state), into: \.waiting)
    }
  }

  /// Ends every choice of a request; those in a step in flight end with it.
  package mutating func cancel(request: Int) {
    for slot in waiting + running where states[slot].precedence.id.request == request {
      for choice in states[slot].choices { cancel(choice, at: slot) }
    }
  }

  /// Ends one choice; in a step in flight, with it. An unknown one may have ended meanwhile.
  package mutating func cancel(_ sequence: SequenceID) {
    for slot in waiting + running
    where states[slot].precedence.id.request == sequence.request
      && states[slot].choices.contains(sequence.choice)
    {
      cancel(sequence.choice, at: slot)
    }
  }

  /// Offers guesses at the next tokens of a running sequence, to be verified in the next step.
  package mutating func propose(_ draft: [Int], for sequence: SequenceID) {
    guard let slot = slots[sequence], states[slot].isRunning else { return }
    let room = states[slot].maximumTokens - states[slot].generatedCount - 1
    states[slot].draft = Array(draft.prefix(max(0, room)))
  }

  /// The sequences that ended since the last call, in the order of their ends.
  package mutating func takeEnded() -> [EndedSequence] {
    defer { ended = [] }
    return ended
  }

  /// What it does now and has done.
  package var metrics: SchedulerMetrics {
    var metrics = SchedulerMetrics()
    metrics.runningRequestCount = requestCount(running)
    metrics.runningSequenceCount = runningSequenceCount
    metrics.waitingRequestCount = requestCount(waiting)
    metrics.waitingTokenCount = waitingTokenCount
    metrics.blockCount = pool.blockCount
    metrics.usedBlockCount = pool.usedCount
    metrics.idleBlockCount = pool.idleCount
    metrics.preemptionCount = preemptionCount
    metrics.queriedTokenCount = queriedTokenCount
    metrics.hitTokenCount = hitTokenCount
    return metrics
  }

  /// Sequences that run, choices that share a prompt counted one by one.
  var runningSequenceCount: Int { running.reduce(0) { $0 + states[$1].choices.count } }
  private var waitingTokenCount: Int { waiting.reduce(0) { $0 + states[$1].tokens.count } }

  /// Requests behind `slots`, whose sequences of one request are neighbours.
  private func requestCount(_ slots: [Int]) -> Int {
    var count = 0
    var last: Int?
    for slot in slots where states[slot].precedence.id.request != last {
      last = states[slot].precedence.id.request
      count += 1
    }
    return count
  }
}

// MARK: - Admission to the queue

extension Scheduler {
  private func check(
    _ request: SchedulingRequest, tokensPerSecond: Double?
  ) throws(AdmissionRefusal) {
    guard request.priority == 0 || limits.handicapPerPriority != nil else {
      throw .priorityUnsupported(priority: request.priority)
    }
    // The last token is never computed: it ends the sequence.
    let needed = request.prompt.count + max(0, request.maximumTokens - 1)
    let available = pool.blockCount * pool.blockSize
    guard needed <= available else {
      throw .cacheTooSmall(neededTokens: needed, availableTokens: available)
    }
    let waitingRequests = requestCount(waiting)
    guard waitingRequests < limits.queuedRequestCount else {
      throw .queueFull(
        limit: limits.queuedRequestCount, retryAfter: retryAfter(tokensPerSecond))
    }
    let waitingTokens = waitingTokenCount
    // An empty queue takes any prompt, however long.
    guard waiting.isEmpty || request.prompt.count <= limits.queuedTokenCount - waitingTokens else {
      throw .queuedTokensFull(
        limit: limits.queuedTokenCount, retryAfter: retryAfter(tokensPerSecond))
    }
  }

  /// When half of what waits should have been processed: between a second and ten minutes.
  private func retryAfter(_ tokensPerSecond: Double?) -> Duration {
    guard let tokensPerSecond, tokensPerSecond > 0 else { return .seconds(1) }
    let seconds = Double(waitingTokenCount) / 2 / tokensPerSecond
    return .seconds(Int(min(600, max(1, seconds.rounded(.up)))))
  }
}

// MARK: - Sequences come and go

extension Scheduler {
  /// Puts a new state somewhere and returns its slot.
  mutating func add(_ state: SequenceState) -> Int {
    let slot: Int
    if let dead = deadSlots.popLast() {
      slot = dead
      states[slot] = state
    } else {
      slot = states.count
      states.append(state)
    }
    precondition(slots[state.id] == nil, "sequence \(state.id) exists already")
    slots[state.id] = slot
    return slot
  }

  /// The slot of a live sequence.
  func slot(of sequence: SequenceID) -> Int? { slots[sequence] }

  /// Inserts a slot by its precedence.
  mutating func insert(_ slot: Int, into list: WritableKeyPath<Scheduler, [Int]>) {
    let precedence = states[slot].precedence
    var low = 0
    var high = self[keyPath: list].count
    while low < high {
      let middle = (low + high) / 2
      if states[self[keyPath: list][middle]].precedence < precedence {
        low = middle + 1
      } else {
        high = middle
      }
    }
    self[keyPath: list].insert(slot, at: low)
  }

  private mutating func cancel(_ choice: Int, at slot: Int) {
    if states[slot].choices.count > 1 {
      // The others still share the prompt; the state goes by the first of them.
      let old = states[slot].id
      states[slot].choices.removeAll { $0 == choice }
      report(SequenceID(request: old.request, choice: choice), .cancelled, generatedCount: 0)
      guard states[slot].id != old else { return }
      slots[old] = nil
      slots[states[slot].id] = slot
    } else if planInFlight?.entries.contains(where: { $0.slot == slot }) == true {
      states[slot].isCancelled = true
    } else {
      end(slot, .cancelled)
    }
  }

  /// Frees everything that a sequence holds and reports its end.
  mutating func end(_ slot: Int, _ reason: EndedSequence.Reason) {
    let id = states[slot].id
    for choice in states[slot].choices {
      report(
        SequenceID(request: id.request, choice: choice), reason,
        generatedCount: states[slot].generatedCount)
    }
    pool.release(&states[slot].table)
    running.removeAll { $0 == slot }
    waiting.removeAll { $0 == slot }
    slots[id] = nil
    deadSlots.append(slot)
    states[slot].choices = []
    states[slot].tokens = []
  }

  private mutating func report(
    _ id: SequenceID, _ reason: EndedSequence.Reason, generatedCount: Int
  ) {
    ended.append(EndedSequence(id: id, reason: reason, generatedCount: generatedCount))
  }
}
