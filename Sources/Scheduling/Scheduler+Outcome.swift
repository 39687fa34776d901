package import KVCaching

extension Scheduler {
  /// Records what the planned step has brought: sequences grow, fork and end.
  package mutating func apply(_ outcome: StepOutcome) {
    guard let plan = planInFlight else { preconditionFailure("no plan is in flight") }
    planInFlight = nil
    var samples = outcome.samples[...]
    for entry in plan.entries {
      let own = samples.prefix(entry.samplers.count)
      samples = samples.dropFirst(entry.samplers.count)
      precondition(own.map(\.sequence) == entry.samplers, "outcome and plan differ")
      apply(entry, Array(own))
    }
    precondition(samples.isEmpty, "the outcome has \(samples.count) samples too many")
  }

  /// Gives up the planned step: nothing of it was computed, and every sequence in it ends.
  package mutating func abandonStep() {
    guard let plan = planInFlight else { return }
    planInFlight = nil
    for entry in plan.entries {
      end(entry.slot, .cancelled)
    }
  }

  private mutating func apply(_ entry: StepPlan.Entry, _ samples: [StepOutcome.Sample]) {
    let slot = entry.slot
    // Choices cancelled while the step ran are gone from the state.
    let own = samples.filter { states[slot].choices.contains($0.sequence.choice) }
    states[slot].computedCount = entry.end - entry.draftCount
    if states[slot].wantsPromptLogits {
      states[slot].deliveredPromptRows = max(
        states[slot].deliveredPromptRows, min(states[slot].promptCount, entry.end))
    }
    if states[slot].isCancelled {
      end(slot, .cancelled)
    } else if let first = own.first {
      fork(slot, own.dropFirst())
      append(first, to: slot, draftCount: entry.draftCount)
    } else if states[slot].remainingCount == 0 {
      commit(slot)
      end(slot, .length)
    } else {
      commit(slot)
    }
  }

  /// Separates the other choices from the first, now that they choose different tokens.
  private mutating func fork(_ slot: Int, _ samples: ArraySlice<StepOutcome.Sample>) {
    guard !samples.isEmpty else { return }
    commit(slot)
    states[slot].choices.removeLast(states[slot].choices.count - 1)
    for sample in samples {
      let table = pool.fork(states[slot].table)
      let new = add(
        SequenceState(fork: states[slot], choice: sample.sequence.choice, table: table))
      insert(new, into: \.running)
      append(sample, to: new, draftCount: 0)
    }
  }

  private mutating func append(_ sample: StepOutcome.Sample, to slot: Int, draftCount: Int) {
    precondition(
      sample.tokens.count <= draftCount + 1 && (sample.isFinished || !sample.tokens.isEmpty),
      "\(sample.sequence) gained \(sample.tokens.count) tokens from \(draftCount) guesses")
    precondition(
      states[slot].generatedCount + sample.tokens.count <= states[slot].maximumTokens,
      "\(sample.sequence) exceeds its limit")
    states[slot].tokens += sample.tokens
    // Accepted guesses have been computed in the same step; the last token never has.
    states[slot].computedCount += max(0, sample.tokens.count - 1)
    commit(slot)
    if sample.isFinished {
      end(slot, .stopped)
    } else if states[slot].generatedCount == states[slot].maximumTokens {
      end(slot, .length)
    }
  }

  private mutating func commit(_ slot: Int) {
    pool.commit(
      &states[slot].table, states[slot].tokens, states[slot].identity,
      computedCount: states[slot].computedCount)
  }

  /// Checks every promise of scheduler and cache.
  package func checkInvariants() throws(SchedulerInvariantViolation) {
    do throws(CacheInvariantViolation) {
      try pool.checkInvariants(tables: (running + waiting).map { states[$0].table })
    } catch {
      throw .cache(error)
    }
    guard Set(running + waiting).count == running.count + waiting.count else {
      throw .sequenceInTwoPlaces
    }
    guard runningSequenceCount <= limits.sequenceCount else {
      throw .tooManySequences(running: runningSequenceCount, limit: limits.sequenceCount)
    }
    for list in [running, waiting] {
      for (first, second) in zip(list, list.dropFirst())
      where !(states[first].precedence < states[second].precedence) {
        throw .outOfOrder(states[second].id)
      }
    }
    for slot in running + waiting {
      let state = states[slot]
      let isSound =
        !state.choices.isEmpty && self.slot(of: state.id) == slot
        && state.computedCount < state.tokens.count
        && state.generatedCount <= state.maximumTokens
        && state.computedCount <= state.table.blocks.count * pool.blockSize
        && (state.isRunning || state.table.blocks.isEmpty)
      guard isSound else { throw .unsoundState(state.id) }
    }
  }
}

/// A broken promise of the scheduler; always a defect of the engine.
package enum SchedulerInvariantViolation: Error, Equatable, Sendable {
  case cache(CacheInvariantViolation)
  case sequenceInTwoPlaces
  case tooManySequences(running: Int, limit: Int)
  case outOfOrder(SequenceID)
  case unsoundState(SequenceID)
}
