/// What the sampler must know about a sequence besides its parameters.
package struct SamplingContext: Sendable {
  /// The sequence's own seed; choice i of a request has the request's seed + i.
  package var seed: UInt64
  /// Index in the sequence (prompt and output) of the token to be chosen.
  package var position: Int
  /// How many tokens the output has so far.
  package var generatedCount: Int
  /// Needed when `SamplingParameters.needsHistory`; empty otherwise.
  package var history: TokenHistory
  /// End-of-text and stop tokens, forbidden while the output is shorter than `minTokens`.
  package var stopTokens: [Int]
  /// Output constraint: bit t % 64 of word t / 64 is set when token t is allowed.
  package var allowedMask: [UInt64]?

  /// Facts for choosing one token.
  package init(
    seed: UInt64, position: Int, generatedCount: Int = 0, history: TokenHistory = TokenHistory(),
    stopTokens: [Int] = [], allowedMask: [UInt64]? = nil
  ) {
    self.seed = seed
    self.position = position
    self.generatedCount = generatedCount
    self.history = history
    self.stopTokens = stopTokens
    self.allowedMask = allowedMask
  }
}

/// The changes that parameters make to logits before temperature, in vLLM's order.
///
/// bias → allowed tokens → bad words → constraint → min-tokens → repetition, frequency and presence
/// penalties. Arithmetic is Float32, one rounding per operation, so that an array library in the
/// same precision gets the same bits.
package enum LogitsProcessors {
  /// Whether `apply` would change anything, so that the logits need a copy.
  package static func areActive(
    _ parameters: borrowing SamplingParameters, _ context: borrowing SamplingContext
  ) -> Bool {
    !parameters.logitBias.isEmpty || parameters.allowedTokens != nil || parameters.needsHistory
      || context.allowedMask != nil
      || (context.generatedCount < parameters.minTokens && !context.stopTokens.isEmpty)
  }

  /// Applies every rule that the parameters switch on.
  ///
  /// - Shape: `logits` [V].
  package static func apply(
    _ parameters: borrowing SamplingParameters, _ context: borrowing SamplingContext,
    to logits: inout MutableSpan<Float>
  ) {
    for bias in parameters.logitBias { logits[bias.token] += Float(bias.bias) }
    if let allowed = parameters.allowedTokens { forbidAll(except: allowed, in: &logits) }
    for word in parameters.badWords {
      forbidCompletion(of: word, after: context.history.generated, in: &logits)
    }
    if let mask = context.allowedMask { forbidAll(outside: mask, in: &logits) }
    if context.generatedCount < parameters.minTokens {
      for token in context.stopTokens { logits[token] = -.infinity }
    }
    penalize(parameters, context.history, &logits)
  }

  private static func forbidAll(except allowed: [Int], in logits: inout MutableSpan<Float>) {
    var next = 0
    for token in logits.indices {
      if next < allowed.count && allowed[next] == token {
        next += 1
      } else {
        logits[token] = -.infinity
      }
    }
  }

  private static func forbidAll(outside mask: [UInt64], in logits: inout MutableSpan<Float>) {
    let count = logits.count
    precondition(mask.count * 64 >= count, "the constraint mask is shorter than the vocabulary")
    for wordIndex in 0..<(count + 63) / 64 {
      // Whole words are the common case: nearly everything or nearly nothing is allowed.
      var forbidden = ~mask[wordIndex]
      while forbidden != 0 {
        let token = wordIndex * 64 + forbidden.trailingZeroBitCount
        if token >= count { break }
        logits[token] = -.infinity
        forbidden &= forbidden &- 1
      }
    }
  }

  /// Forbids the last token of `word` when the output ends in the tokens before it.
  private static func forbidCompletion(
    of word: [Int], after generated: [Int], in logits: inout MutableSpan<Float>
  ) {
    let beginning = word.dropLast()
    guard let last = word.last, generated.suffix(beginning.count).elementsEqual(beginning) else {
      return
    }
    logits[last] = -.infinity
  }

  private static func penalize(
    _ parameters: borrowing SamplingParameters, _ history: TokenHistory,
    _ logits: inout MutableSpan<Float>
  ) {
    let repetition = Float(parameters.repetitionPenalty)
    let frequency = Float(parameters.frequencyPenalty)
    let presence = Float(parameters.presencePenalty)
    guard repetition != 1 || frequency != 0 || presence != 0 else { return }
    for entry in history.entries {
      var logit = logits[entry.token]
      logit = logit > 0 ? logit / repetition : logit * repetition
      if entry.generatedCount > 0 {
        logit -= frequency * Float(entry.generatedCount)
        logit -= presence
      }
      logits[entry.token] = logit
    }
  }
}
