/// The bounds within which the scheduler works; chosen at start-up.
package struct AdmissionLimits: Equatable, Sendable {
  /// The most sequences that run at once; each choice of a request counts.
  package let sequenceCount: Int
  /// The most tokens that one step processes, decode and prefill together.
  package let stepTokenCount: Int
  /// The most prompt rows per step whose logits are wanted, a bound on memory for them.
  package let promptLogitRowCount: Int
  /// The most requests that wait; more are refused.
  package let queuedRequestCount: Int
  /// The most prompt tokens that wait; more are refused.
  package let queuedTokenCount: Int
  /// How much later than it is a request of priority p + 1 is treated than one of priority p;
  /// `nil` serves first come, first served.
  ///
  /// A priority is a handicap in time, not a class of its own: whoever waits long enough overtakes.
  package let handicapPerPriority: Duration?

  /// Checks that every running sequence can decode in each step. A prompt then finds room too: it
  /// is one of the running sequences and does not decode.
  package init(
    sequenceCount: Int, stepTokenCount: Int, promptLogitRowCount: Int = 64,
    queuedRequestCount: Int = 1024, queuedTokenCount: Int = .max,
    handicapPerPriority: Duration? = nil
  ) throws(AdmissionLimitError) {
    for (name, value) in [
      ("sequenceCount", sequenceCount), ("promptLogitRowCount", promptLogitRowCount),
      ("queuedRequestCount", queuedRequestCount), ("queuedTokenCount", queuedTokenCount),
    ] where value < 1 {
      throw .notPositive(limit: name, value: value)
    }
    guard stepTokenCount >= sequenceCount else {
      throw .stepTooSmall(stepTokenCount: stepTokenCount, sequenceCount: sequenceCount)
    }
    self.sequenceCount = sequenceCount
    self.stepTokenCount = stepTokenCount
    self.promptLogitRowCount = promptLogitRowCount
    self.queuedRequestCount = queuedRequestCount
    self.queuedTokenCount = queuedTokenCount
    self.handicapPerPriority = handicapPerPriority
  }
}

/// Limits under which nothing could run.
package enum AdmissionLimitError: Error, Equatable, Sendable {
  case notPositive(limit: String, value: Int)
  case stepTooSmall(stepTokenCount: Int, sequenceCount: Int)
}

extension AdmissionLimitError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notPositive(let limit, let value): "\(limit) is \(value), but must be at least 1"
    case .stepTooSmall(let stepTokenCount, let sequenceCount):
      "a step of \(stepTokenCount) tokens cannot hold one of each of \(sequenceCount) running "
        + "sequences; raise --max-num-batched-tokens to --max-num-seqs or more"
    }
  }
}

/// Why the scheduler does not take a request.
package enum AdmissionRefusal: Error, Equatable, Sendable {
  /// Too many requests wait.
  case queueFull(limit: Int, retryAfter: Duration)
  /// The prompts that wait have too many tokens.
  case queuedTokensFull(limit: Int, retryAfter: Duration)
  /// The request cannot fit the cache even alone.
  case cacheTooSmall(neededTokens: Int, availableTokens: Int)
  /// Priorities are switched off.
  case priorityUnsupported(priority: Int)
}

extension AdmissionRefusal: CustomStringConvertible {
  package var description: String {
    switch self {
    case .queueFull(let limit, let retryAfter):
      "\(limit) requests wait already; try again in \(retryAfter)"
    case .queuedTokensFull(let limit, let retryAfter):
      "prompts of \(limit) tokens wait already; try again in \(retryAfter)"
    case .cacheTooSmall(let needed, let available):
      "prompt and answer need \(needed) positions of the KV cache, which has \(available); raise "
        + "--kv-cache-memory-bytes or shorten the request"
    case .priorityUnsupported(let priority):
      "priority \(priority) needs --scheduling-policy priority"
    }
  }
}
