import Sampling

/// One choice while it generates: what decides its next token and whether there is one.
///
/// The token it chooses depends on the logits and on its own past alone, so the result is the same
/// in any batch, after any preemption and in any process. One thread at a time changes it.
final class SequenceRuntime {
  private let parameters: SamplingParameters
  private var context: SamplingContext
  private let promptCount: Int
  private let vocabularySize: Int
  private let endOfSequenceIDs: [Int]
  private let stopTokenIDs: [Int]
  private var constraint: (any TokenConstraint)?
  private var thinking: ThinkBlock
  /// Everything but stop tokens, for a think block that must be closed before the answer.
  private let unendingMask: [UInt64]?
  /// How many tokens it has generated, a final stop token included.
  private(set) var generatedCount = 0
  /// Set once it must not go on.
  private(set) var finishReason: FinishReason?

  /// Choice `choice` of `request`, before its first token.
  init(_ request: GenerationRequest, choice: Int, facts: ModelFacts) {
    parameters = request.sampling
    promptCount = request.prompt.count - request.resumedTokenCount
    vocabularySize = facts.vocabularySize
    endOfSequenceIDs = request.ignoreEndOfSequence ? [] : facts.endOfSequenceIDs
    stopTokenIDs = request.stopTokenIDs
    constraint = request.constraint
    thinking = ThinkBlock(end: request.thinkEnd, budget: request.thinkingTokenBudget)
    // Only the repetition penalty looks at the prompt.
    let prompt =
      parameters.repetitionPenalty != 1 ? Array(request.prompt.prefix(promptCount)) : []
    // An end that the vocabulary lacks can never be chosen, so it needs no forbidding either.
    let stops = (endOfSequenceIDs + stopTokenIDs).filter { $0 < facts.vocabularySize }
    context = SamplingContext(
      seed: request.seed &+ UInt64(choice), position: promptCount,
      history: TokenHistory(prompt: prompt), stopTokens: stops)
    unendingMask =
      constraint == nil || request.thinkEnd.isEmpty
      ? nil
      : Self.mask(
        without: stops + facts.endOfSequenceIDs.filter { $0 < facts.vocabularySize },
        count: facts.vocabularySize)
    for token in request.prompt.suffix(request.resumedTokenCount) where finishReason == nil {
      accept(token)
    }
  }

  /// Chooses the token after `logits` [V], or takes the one that is forced, and moves on by it.
  func next(
    _ logits: Span<Float>, _ sampler: inout Sampler
  ) throws(SamplingError) -> SampledToken {
    precondition(finishReason == nil, "a finished choice goes on")
    context.position = promptCount + generatedCount
    context.generatedCount = generatedCount
    let token: SampledToken
    if let forced = thinking.forcedToken {
      var report: TokenLogprobs?
      if let count = parameters.logprobs {
        report = try sampler.logprobs(
          logits, of: forced, topCount: count, listed: parameters.logprobTokens,
          position: context.position)
      }
      token = SampledToken(id: forced, logprobs: report)
    } else {
      prepareMask()
      token = try sampler.sample(logits, parameters, context)
    }
    accept(token.id)
    return token
  }

  /// Sets what is allowed next. An answer under a constraint ends where the constraint says, so
  /// `minTokens` does not apply to it; before the answer, its think block must be closed.
  private func prepareMask() {
    guard constraint != nil else { return }
    if thinking.isOpen {
      context.allowedMask = unendingMask
    } else {
      context.stopTokens = []
      guard var mask = constraint?.allowedTokens() else { return }
      // A tokenizer may know fewer tokens than the model has rows for.
      let missing = (vocabularySize + 63) / 64 - mask.count
      if missing > 0 { mask += [UInt64](repeating: 0, count: missing) }
      context.allowedMask = mask
    }
  }

  private func accept(_ token: Int) {
    generatedCount += 1
    if parameters.needsHistory { context.history.append(token) }
    if thinking.isOpen {
      thinking.accept(token)
      guard !endsSequence(token) else { return }
    } else {
      guard !endsSequence(token) else { return }
      if constraint?.accept(token) == false {
        finishReason = .failed(.engineStopped)
      } else if constraint?.isFinished == true {
        finishReason = .constraintComplete
      }
    }
  }

  private func endsSequence(_ token: Int) -> Bool {
    if endOfSequenceIDs.contains(token) {
      finishReason = .endOfSequence
    } else if stopTokenIDs.contains(token) {
      finishReason = .stopToken(token)
    }
    return finishReason != nil
  }

  private static func mask(without tokens: [Int], count: Int) -> [UInt64] {
    var words = [UInt64](repeating: .max, count: (count + 63) / 64)
    for token in tokens { words[token / 64] &= ~(1 << UInt64(token % 64)) }
    return words
  }
}

/// The think block that the prompt has opened: counts its tokens and closes it when they are spent.
struct ThinkBlock: Sendable, Equatable {
  /// The tokens of the closing marker; empty when no block is open.
  private let end: [Int]
  private let budget: Int?
  private var count = 0
  /// How many of the marker's tokens have been forced.
  private var forcedCount = 0
  /// The last tokens, as many as the marker has.
  private var tail: [Int] = []
  private(set) var isOpen: Bool

  init(end: [Int], budget: Int?) {
    self.end = end
    self.budget = budget
    isOpen = !end.isEmpty
  }

  /// The token that must come next, once the budget is spent.
  var forcedToken: Int? {
    guard isOpen, let budget, count >= budget + forcedCount else { return nil }
    return end[forcedCount]
  }

  /// Moves on by a token, chosen or forced.
  mutating func accept(_ token: Int) {
    if forcedToken != nil { forcedCount += 1 }
    count += 1
    tail.append(token)
    if tail.count > end.count { tail.removeFirst() }
    if tail == end { isOpen = false }
  }
}
