import KVCaching

extension Scheduler {
  /// What the next step computes; `nil` when there is nothing to compute.
  ///
  /// The outcome must be applied before the next plan. In between, requests may come and go.
  package mutating func plan() -> StepPlan? {
    precondition(planInFlight == nil, "the outcome of the last plan has not been applied")
    var plan = StepPlan()
    var budget = limits.stepTokenCount
    planDecodes(&plan, &budget)
    planPrefill(&plan, &budget)
    guard !plan.entries.isEmpty else {
      precondition(isIdle, "sequences live, but none can go on")
      return nil
    }
    planInFlight = plan
    return plan
  }

  // MARK: Decode

  private mutating func planDecodes(_ plan: inout StepPlan, _ budget: inout Int) {
    // Guesses may take half of the step from those who are still to start, never more.
    let isAnyoneStarting = !waiting.isEmpty || running.contains { !states[$0].isDecoding }
    let reserve = isAnyoneStarting ? budget / 2 : 0
    var index = 0
    // Preemption shortens the list from its end, perhaps up to this very sequence.
    while index < running.count {
      let slot = running[index]
      guard states[slot].isDecoding else {
        index += 1
        continue
      }
      // Every later sequence keeps a token of the budget.
      let room = max(0, budget - (running.count - index) - reserve)
      states[slot].draft.removeLast(max(0, states[slot].draft.count - room))
      guard makeRoom(for: slot, &plan) else { continue }
      budget -= emit(slot, count: 1, draft: states[slot].draft, &plan)
      states[slot].draft = []
      index += 1
    }
  }

  /// Gets `slot` blocks to write its next tokens to, at the price of later arrivals.
  ///
  /// Guesses are dropped before anybody is preempted. False when `slot` itself had to go.
  private mutating func makeRoom(for slot: Int, _ plan: inout StepPlan) -> Bool {
    while true {
      let end = states[slot].tokens.count + states[slot].draft.count
      if pool.extend(&states[slot].table, toTokenCount: end) {
        switch pool.requestWrite(at: states[slot].computedCount, in: &states[slot].table) {
        case .granted: return true
        case .grantedAfterCopy(let copy):
          plan.copies.append(copy)
          return true
        case .outOfBlocks: break
        }
      }
      if !states[slot].draft.isEmpty {
        states[slot].draft = []
        continue
      }
      guard let victim = running.last else { return false }
      preempt(victim, &plan)
      if victim == slot { return false }
    }
  }

  // MARK: Prefill

  /// Tokens granted to a sequence in this step.
  private struct Grant {
    let slot: Int
    var count: Int
  }

  private mutating func planPrefill(_ plan: inout StepPlan, _ budget: inout Int) {
    var logitRows = limits.promptLogitRowCount
    var open = running.filter { !states[$0].isDecoding }
    for slot in open { adoptNewPrefix(slot) }
    admitWaiting(&open, &plan, budget: budget)
    guard let oldest = oldest(open) else { return }
    // Half for the oldest, so that it ends; the rest for the shortest, so that they need not wait
    // for a long one; what is left over goes to the oldest again.
    var grants = [Grant(slot: oldest, count: 0)]
    let half = open.count > 1 ? (budget + 1) / 2 : budget
    grow(&grants[0], by: half, &budget, &logitRows)
    let others = open.filter { $0 != oldest }.sorted {
      (states[$0].remainingCount, states[$0].precedence)
        < (states[$1].remainingCount, states[$1].precedence)
    }
    for slot in others where budget > 0 && !isComputedElsewhere(slot, by: grants) {
      var grant = Grant(slot: slot, count: 0)
      grow(&grant, by: budget, &budget, &logitRows)
      if grant.count > 0 { grants.append(grant) }
    }
    grow(&grants[0], by: budget, &budget, &logitRows)
    grants.sort { states[$0.slot].precedence < states[$1.slot].precedence }
    for grant in grants where grant.count > 0 {
      _ = emit(grant.slot, count: grant.count, draft: [], &plan)
    }
  }

  /// Whether the next block of `slot` is computed in this very step for a sequence with the same
  /// beginning: then it is cheaper to wait for that than to compute it twice.
  private func isComputedElsewhere(_ slot: Int, by grants: [Grant]) -> Bool {
    let state = states[slot]
    let end = (state.table.committedCount + 1) * pool.blockSize
    guard pool.isPrefixCachingEnabled, !state.wantsPromptLogits, end < state.tokens.count else {
      return false
    }
    return grants.contains { grant in
      let other = states[grant.slot]
      return other.computedCount + grant.count > state.computedCount
        && other.identity == state.identity
        && other.tokens.prefix(end).elementsEqual(state.tokens.prefix(end))
    }
  }

  /// Adds up to `count` tokens to a grant, within the budgets of tokens and of logit rows.
  private func grow(
    _ grant: inout Grant, by count: Int, _ budget: inout Int, _ logitRows: inout Int
  ) {
    let state = states[grant.slot]
    var added = min(count, budget, state.remainingCount - grant.count)
    if state.wantsPromptLogits {
      added = min(added, logitRows)
      logitRows -= added
    }
    grant.count += added
    budget -= added
  }

  /// Takes over what other sequences have computed of the same prompt since the last step.
  private mutating func adoptNewPrefix(_ slot: Int) {
    guard !states[slot].wantsPromptLogits,
      states[slot].computedCount == states[slot].table.committedCount * pool.blockSize
    else { return }
    let match = pool.match(
      states[slot].tokens, states[slot].identity, continuing: states[slot].table,
      limit: states[slot].tokens.count - 1)
    guard match.tokenCount > states[slot].computedCount else { return }
    note(hit: match.tokenCount - states[slot].computedCount, slot)
    pool.adopt(match, into: &states[slot].table)
    states[slot].computedCount = match.tokenCount
  }

  private mutating func note(hit count: Int, _ slot: Int) {
    hitTokenCount += count
    if states[slot].preemptionCount == 0 { states[slot].cachedCount += count }
  }

  // MARK: Admission

  /// Starts waiting sequences in order, while this step has tokens for them and memory allows.
  private mutating func admitWaiting(_ open: inout [Int], _ plan: inout StepPlan, budget: Int) {
    while let slot = waiting.first, wantedCount(open, budget) < budget, plan.preempted.isEmpty,
      admit(slot)
    {
      waiting.removeFirst()
      states[slot].isRunning = true
      insert(slot, into: \.running)
      open.append(slot)
    }
  }

  /// Tokens that open prompts can use in this step, of which the oldest gets half if it must share.
  private func wantedCount(_ open: [Int], _ budget: Int) -> Int {
    let total = open.reduce(0) { $0 + states[$1].remainingCount }
    guard let oldest = oldest(open) else { return 0 }
    return total - max(0, states[oldest].remainingCount - (budget + 1) / 2)
  }

  private func oldest(_ open: [Int]) -> Int? {
    open.min { states[$0].precedence < states[$1].precedence }
  }

  /// Gives a waiting sequence blocks for all its tokens if that leaves the others room to grow.
  private mutating func admit(_ slot: Int) -> Bool {
    let state = states[slot]
    guard runningSequenceCount + state.choices.count <= limits.sequenceCount else { return false }
    // At least one token must be computed: somebody wants its logits.
    let limit = state.wantsPromptLogits ? state.deliveredPromptRows : state.tokens.count - 1
    let match = pool.match(state.tokens, state.identity, limit: limit)
    let needed =
      pool.blockCount(forTokenCount: state.tokens.count) - match.tokenCount / pool.blockSize
    // A block to grow for every running sequence, or admission would only cause preemption.
    guard needed + match.idleBlockCount + running.count <= pool.availableCount else { return false }
    queriedTokenCount += state.tokens.count
    pool.adopt(match, into: &states[slot].table)
    states[slot].computedCount = match.tokenCount
    note(hit: match.tokenCount, slot)
    let isExtended = pool.extend(&states[slot].table, toTokenCount: state.tokens.count)
    precondition(isExtended, "available blocks were counted wrongly")
    return true
  }

  // MARK: Entries

  /// Adds the next `count` known tokens of a sequence, then guesses; returns how many in all.
  private mutating func emit(
    _ slot: Int, count: Int, draft: [Int], _ plan: inout StepPlan
  ) -> Int {
    let state = states[slot]
    let start = state.computedCount
    let isLast = count == state.remainingCount
    let end = start + count + draft.count
    let isSampling = isLast && state.maximumTokens > 0
    var logitStart = isSampling ? end - draft.count - 1 : end
    if state.wantsPromptLogits { logitStart = min(end, max(start, state.deliveredPromptRows)) }
    let id = state.precedence.id.request
    plan.entries.append(
      StepPlan.Entry(
        sequence: state.id, start: start,
        tokens: Array(state.tokens[start..<start + count]) + draft, draftCount: draft.count,
        blocks: state.table.blocks, logitPositions: logitStart..<end,
        samplers: isSampling ? state.choices.map { SequenceID(request: id, choice: $0) } : [],
        promptCount: state.promptCount, cachedCount: state.cachedCount, slot: slot))
    return count + draft.count
  }
}

extension SequenceState {
  /// Whether logits of prompt positions are still to be delivered.
  var wantsPromptLogits: Bool { needsPromptLogits && deliveredPromptRows < promptCount }
}
