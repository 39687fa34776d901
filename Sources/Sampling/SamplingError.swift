/// What can be wrong with a request's sampling parameters, or with the logits they meet.
package enum SamplingError: Error, Equatable, Sendable {
  /// A number lies outside the range its parameter allows; `allowed` is the range in words.
  case outOfRange(parameter: SamplingParameterName, value: Double, allowed: String)
  /// A token id is not in the vocabulary.
  case tokenOutOfRange(parameter: SamplingParameterName, token: Int, vocabularyCount: Int)
  /// A list that must name something is empty.
  case empty(parameter: SamplingParameterName)
  /// The same token id stands twice in a list that gives each token one value.
  case duplicateToken(parameter: SamplingParameterName, token: Int)
  /// Biases, allowed tokens, bad words and the constraint leave no token to choose.
  case noTokenAllowed(position: Int)
  /// The model produced a logit that is not a number or is positive infinity.
  case invalidLogit(position: Int)
}

/// The parameters by the names that requests use, so that an error can point at the field.
package enum SamplingParameterName: String, Sendable, CaseIterable {
  case temperature
  case topK = "top_k"
  case topP = "top_p"
  case minP = "min_p"
  case repetitionPenalty = "repetition_penalty"
  case presencePenalty = "presence_penalty"
  case frequencyPenalty = "frequency_penalty"
  case logitBias = "logit_bias"
  case allowedTokens = "allowed_token_ids"
  case badWords = "bad_words"
  case minTokens = "min_tokens"
  case logprobs
  case logprobTokens = "logprob_token_ids"
}

extension SamplingError: CustomStringConvertible {
  /// The parameter at fault, where a parameter is at fault.
  package var parameter: SamplingParameterName? {
    switch self {
    case .outOfRange(let parameter, _, _), .tokenOutOfRange(let parameter, _, _),
      .empty(let parameter), .duplicateToken(let parameter, _):
      parameter
    case .noTokenAllowed, .invalidLogit: nil
    }
  }

  package var description: String {
    switch self {
    case .outOfRange(let parameter, let value, let allowed):
      "\(parameter.rawValue) is \(Self.text(value)), but must be \(allowed)"
    case .tokenOutOfRange(let parameter, let token, let vocabularyCount):
      "\(parameter.rawValue) names token \(token), but token ids are 0 to \(vocabularyCount - 1)"
    case .empty(let parameter):
      "\(parameter.rawValue) is empty; leave it out or name at least one token"
    case .duplicateToken(let parameter, let token):
      "\(parameter.rawValue) names token \(token) twice"
    case .noTokenAllowed(let position):
      "no token is allowed at position \(position): logit_bias, allowed_token_ids, bad_words and "
        + "the output constraint exclude each other"
    case .invalidLogit(let position):
      "the model computed a logit that is not finite at position \(position); check the checkpoint "
        + "with `step3 inspect --verify`"
    }
  }

  /// Whole numbers without the fraction that `Double` would print.
  private static func text(_ value: Double) -> String {
    if let whole = Int(exactly: value) { return "\(whole)" }
    return "\(value)"
  }
}
