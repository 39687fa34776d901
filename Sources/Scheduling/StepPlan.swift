package import KVCaching

/// What one step computes: a batch of token ranges with the blocks they live in.
package struct StepPlan: Equatable, Sendable {
  /// To be performed in this order before anything is computed.
  package var copies: [BlockCopy] = []
  /// Decodes first, then prefill; each group in order of precedence.
  package var entries: [Entry] = []
  /// Sequences that lost their blocks to make room; they will be computed again.
  package var preempted: [SequenceID] = []

  /// Tokens of all entries.
  package var tokenCount: Int { entries.reduce(0) { $0 + $1.tokens.count } }

  /// Consecutive tokens of one sequence.
  package struct Entry: Equatable, Sendable {
    /// Whose tokens; until the prompt is processed, the first of the choices that share it.
    package var sequence: SequenceID
    /// Position of the first token.
    package var start: Int
    /// The tokens to process, then `draftCount` guesses at what follows them.
    package var tokens: [Int]
    package var draftCount: Int
    /// Block of every `blockSize` positions from 0 on; covers all of `tokens`.
    package var blocks: [Int32]
    /// Positions whose logits are needed, always the last ones of the entry; may be empty.
    package var logitPositions: Range<Int>
    /// The sequences that choose their next token by the logits of the last rows: none while the
    /// prompt is unfinished, several when choices share it.
    package var samplers: [SequenceID]
    /// Positions below this belong to the prompt.
    package var promptCount: Int
    /// Prompt tokens that came from the prefix cache.
    package var cachedCount: Int
    /// Where the scheduler keeps the sequence; stays valid while the plan is in flight.
    let slot: Int

    /// The position after the last token, guesses included.
    package var end: Int { start + tokens.count }
    /// Whether the prompt is complete with this step, for the first time or again.
    package var completesPrompt: Bool { start < promptCount && end >= promptCount }
  }
}

/// What came of a step.
package struct StepOutcome: Equatable, Sendable {
  /// One per sampler of every entry, in the plan's order.
  package var samples: [Sample]

  /// What one sequence chose.
  package struct Sample: Equatable, Sendable {
    /// Who chose.
    package var sequence: SequenceID
    /// One token; with guesses, the accepted ones and the one after them. Empty only when finished.
    package var tokens: [Int]
    /// Whether a stop condition holds or the sequence failed.
    package var isFinished: Bool

    /// The tokens that `sequence` gained.
    package init(sequence: SequenceID, tokens: [Int], isFinished: Bool) {
      self.sequence = sequence
      self.tokens = tokens
      self.isFinished = isFinished
    }
  }

  /// The samples of a step.
  package init(samples: [Sample]) {
    self.samples = samples
  }
}

/// The one end that every sequence comes to.
package struct EndedSequence: Equatable, Sendable {
  /// Which sequence ended.
  package let id: SequenceID
  /// Why it ended.
  package let reason: Reason
  /// Tokens that it generated.
  package let generatedCount: Int

  /// Why it ended.
  package enum Reason: Equatable, Sendable {
    /// The outcome said so.
    case stopped
    /// `maximumTokens` are generated.
    case length
    case cancelled
  }
}

/// What the scheduler is doing and has done.
package struct SchedulerMetrics: Equatable, Sendable {
  /// Requests with at least one sequence running.
  package var runningRequestCount = 0
  /// Sequences that run, every choice counted.
  package var runningSequenceCount = 0
  /// Requests with at least one sequence waiting.
  package var waitingRequestCount = 0
  /// Tokens that waiting sequences have to compute.
  package var waitingTokenCount = 0
  package var blockCount = 0
  package var usedBlockCount = 0
  /// Blocks in no table whose content is kept.
  package var idleBlockCount = 0
  package var preemptionCount = 0
  /// Tokens looked up in the prefix cache, and those of them that it held.
  package var queriedTokenCount = 0
  package var hitTokenCount = 0

  /// Share of the blocks that are in use, 0...1.
  package var cacheUsage: Double {
    blockCount > 0 ? Double(usedBlockCount) / Double(blockCount) : 0
  }
}
