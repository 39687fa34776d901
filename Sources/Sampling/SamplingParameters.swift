/// How a request wants its tokens chosen; validated once, immutable afterwards.
///
/// Limits on the length and stop conditions are not here: they decide whether a sequence goes on,
/// not which token comes next.
package struct SamplingParameters: Equatable, Sendable {
  /// Divides the logits; 0 chooses the most likely token, the lowest id on ties.
  package let temperature: Double
  /// Keeps the `topK` most likely tokens; `nil` keeps all.
  package let topK: Int?
  /// Keeps the fewest most likely tokens whose probabilities reach `topP`; 1 keeps all.
  package let topP: Double
  /// Drops tokens less likely than `minP` times the most likely; 0 drops none.
  package let minP: Double
  /// Divides positive and multiplies negative logits of tokens in prompt or output; 1 is neutral.
  package let repetitionPenalty: Double
  /// Subtracted once from the logit of every token in the output so far.
  package let presencePenalty: Double
  /// Subtracted from a token's logit once per occurrence in the output so far.
  package let frequencyPenalty: Double
  /// Added to the logits, ascending by token.
  package let logitBias: [TokenBias]
  /// The only tokens that may be chosen, ascending; `nil` allows all.
  package let allowedTokens: [Int]?
  /// Token sequences that must not appear in the output.
  package let badWords: [[Int]]
  /// End-of-text and stop tokens are forbidden before the output has this many tokens.
  package let minTokens: Int
  /// How many alternatives to report with each token: `nil` reports nothing, 0 only the chosen
  /// token, -1 the whole vocabulary.
  package let logprobs: Int?
  /// The tokens to report in place of the most likely ones, in this order; empty reports those.
  package let logprobTokens: [Int]

  /// Below this a temperature is zero: dividing by it would only magnify rounding.
  package static let greedyTemperature = 1e-5

  /// Whether the most likely token is chosen without drawing a random number.
  package var isGreedy: Bool { temperature < Self.greedyTemperature }

  /// Whether choosing a token needs to know which tokens came before it.
  package var needsHistory: Bool {
    repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0 || !badWords.isEmpty
  }

  /// Checks every value; `topK` accepts 0 and -1 for "keep all", as requests do.
  package init(
    temperature: Double = 1, topK: Int? = nil, topP: Double = 1, minP: Double = 0,
    repetitionPenalty: Double = 1, presencePenalty: Double = 0, frequencyPenalty: Double = 0,
    logitBias: [TokenBias] = [], allowedTokens: [Int]? = nil, badWords: [[Int]] = [],
    minTokens: Int = 0, logprobs: Int? = nil, logprobTokens: [Int] = []
  ) throws(SamplingError) {
    try Self.check(.temperature, temperature, (0...2).contains(temperature), "between 0 and 2")
    try Self.check(.topK, Double(topK ?? 0), (topK ?? 0) >= -1, "at least 1, or 0 or -1 for all")
    try Self.check(.topP, topP, topP > 0 && topP <= 1, "above 0 and at most 1")
    try Self.check(.minP, minP, (0...1).contains(minP), "between 0 and 1")
    try Self.check(
      .repetitionPenalty, repetitionPenalty,
      repetitionPenalty > 0 && Float(repetitionPenalty) > 0 && Float(repetitionPenalty).isFinite,
      "above 0 and finite")
    try Self.check(
      .presencePenalty, presencePenalty, (-2...2).contains(presencePenalty), "between -2 and 2")
    try Self.check(
      .frequencyPenalty, frequencyPenalty, (-2...2).contains(frequencyPenalty), "between -2 and 2")
    try Self.check(.minTokens, Double(minTokens), minTokens >= 0, "at least 0")
    try Self.check(
      .logprobs, Double(logprobs ?? 0), (logprobs ?? 0) >= -1,
      "at least 0, or -1 for the whole vocabulary")
    self.temperature = temperature
    self.topK = (topK ?? 0) > 0 ? topK : nil
    self.topP = topP
    self.minP = minP
    self.repetitionPenalty = repetitionPenalty
    self.presencePenalty = presencePenalty
    self.frequencyPenalty = frequencyPenalty
    self.logitBias = try Self.checkedBias(logitBias)
    self.allowedTokens = try Self.checkedAllowed(allowedTokens)
    self.badWords = try Self.checkedBadWords(badWords)
    self.minTokens = minTokens
    self.logprobs = logprobs
    self.logprobTokens = logprobTokens
  }

  /// Checks the token ids, which only the vocabulary of the served model can judge.
  package func validate(vocabularyCount: Int) throws(SamplingError) {
    for bias in logitBias {
      try Self.check(.logitBias, token: bias.token, vocabularyCount)
    }
    for token in allowedTokens ?? [] {
      try Self.check(.allowedTokens, token: token, vocabularyCount)
    }
    for word in badWords {
      for token in word { try Self.check(.badWords, token: token, vocabularyCount) }
    }
    for token in logprobTokens { try Self.check(.logprobTokens, token: token, vocabularyCount) }
  }
}

/// A number added to the logit of one token.
package struct TokenBias: Equatable, Sendable {
  /// The token's id.
  package let token: Int
  /// What is added to its logit.
  package let bias: Double

  /// Pairs `token` with its `bias`, which must lie in -100...100.
  package init(token: Int, bias: Double) {
    self.token = token
    self.bias = bias
  }
}

extension SamplingParameters {
  private static func check(
    _ name: SamplingParameterName, _ value: Double, _ isValid: Bool, _ allowed: String
  ) throws(SamplingError) {
    guard isValid else { throw .outOfRange(parameter: name, value: value, allowed: allowed) }
  }

  private static func check(
    _ name: SamplingParameterName, token: Int, _ vocabularyCount: Int
  ) throws(SamplingError) {
    guard token >= 0 && token < vocabularyCount else {
      throw .tokenOutOfRange(parameter: name, token: token, vocabularyCount: vocabularyCount)
    }
  }

  private static func checkedBias(_ biases: [TokenBias]) throws(SamplingError) -> [TokenBias] {
    let sorted = biases.sorted { $0.token < $1.token }
    for (index, bias) in sorted.enumerated() {
      try check(
        .logitBias, bias.bias, (-100...100).contains(bias.bias), "between -100 and 100")
      guard index == 0 || sorted[index - 1].token != bias.token else {
        throw .duplicateToken(parameter: .logitBias, token: bias.token)
      }
    }
    return sorted
  }

  private static func checkedAllowed(_ tokens: [Int]?) throws(SamplingError) -> [Int]? {
    guard let tokens else { return nil }
    guard !tokens.isEmpty else { throw .empty(parameter: .allowedTokens) }
    var distinct: [Int] = []
    for token in tokens.sorted() where distinct.last != token { distinct.append(token) }
    return distinct
  }

  private static func checkedBadWords(_ words: [[Int]]) throws(SamplingError) -> [[Int]] {
    for word in words where word.isEmpty { throw .empty(parameter: .badWords) }
    return words
  }
}
