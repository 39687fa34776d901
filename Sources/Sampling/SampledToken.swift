/// A chosen token with what was asked to be reported about it.
package struct SampledToken: Equatable, Sendable {
  /// The token.
  package let id: Int
  /// Present exactly when the parameters ask for logprobs.
  package let logprobs: TokenLogprobs?

  /// A token chosen by a sampler, a forced token, or one of a test.
  package init(id: Int, logprobs: TokenLogprobs?) {
    self.id = id
    self.logprobs = logprobs
  }
}

/// A token's place in the model's raw distribution: before bias, penalties and temperature.
package struct TokenLogprobs: Equatable, Sendable {
  /// The chosen (or given) token.
  package let chosen: TokenLogprob
  /// 1 for the most likely token; tokens of equal logit rank by ascending id.
  package let rank: Int
  /// The most likely tokens, best first; the chosen one is among them only if its rank says so.
  /// Or the tokens that the parameters list, in their order.
  package let top: [TokenLogprob]

  /// Assembles a report; `top` is sorted, best first, or in the order asked for.
  package init(chosen: TokenLogprob, rank: Int, top: [TokenLogprob]) {
    self.chosen = chosen
    self.rank = rank
    self.top = top
  }
}

/// A token and the natural logarithm of its probability.
package struct TokenLogprob: Equatable, Sendable {
  /// The token's id.
  package let token: Int
  /// ln p; minus infinity for an impossible token.
  package let logprob: Float

  /// Pairs a token with its log probability; minus infinity for an impossible token.
  package init(token: Int, logprob: Float) {
    self.token = token
    self.logprob = logprob
  }
}
