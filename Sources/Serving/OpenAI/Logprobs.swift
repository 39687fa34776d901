import Inference
import JSONScanning
import Sampling

/// Logprobs in OpenAI's shapes.
struct LogprobWriter: Sendable {
  let text: any ModelText
  /// Whether tokens are written `token_id:123`.
  let namesByID: Bool
  /// How many alternatives each token lists.
  let alternativeCount: Int

  /// JSON has no infinities.
  static func finite(_ logprob: Float) -> JSONValue {
    logprob.isFinite ? .number(Double(logprob)) : -9999.0
  }

  func name(_ token: Int) -> String {
    namesByID ? "token_id:\(token)" : text.text(of: token)
  }

  private func entry(_ token: TokenLogprob) -> JSONObject {
    JSONObject([
      ("token", .string(name(token.token))), ("logprob", Self.finite(token.logprob)),
      ("bytes", .array(text.bytes(of: token.token).map { .integer(Int($0)) })),
    ])
  }

  /// One element of `logprobs.content`.
  func chatEntry(_ logprobs: TokenLogprobs) -> JSONValue {
    var object = entry(logprobs.chosen)
    let alternatives = logprobs.top.prefix(alternativeCount < 0 ? .max : alternativeCount)
    object["top_logprobs"] = .array(alternatives.map { .object(entry($0)) })
    return .object(object)
  }

  /// vLLM's `prompt_logprobs`: per position null or `{"id": {logprob, rank, decoded_token}}`.
  func promptLogprobs(_ positions: [TokenLogprobs?]) -> JSONValue {
    .array(
      positions.map { position in
        guard let position else { return .null }
        var object = JSONObject()
        object["\(position.chosen.token)"] = describe(position.chosen, rank: position.rank)
        for (index, token) in position.top.enumerated() where object["\(token.token)"] == nil {
          object["\(token.token)"] = describe(token, rank: index + 1)
        }
        return .object(object)
      })
  }

  private func describe(_ token: TokenLogprob, rank: Int) -> JSONValue {
    [
      "logprob": Self.finite(token.logprob), "rank": .integer(rank),
      "decoded_token": .string(text.text(of: token.token)),
    ]
  }
}

extension TokenUsage {
  /// `usage` of chat and completions.
  var json: JSONValue {
    [
      "prompt_tokens": .integer(prompt), "completion_tokens": .integer(generated),
      "total_tokens": .integer(prompt + generated),
      "prompt_tokens_details": [
        "cached_tokens": .integer(cached), "image_tokens": .integer(image),
      ],
      "completion_tokens_details": ["reasoning_tokens": .integer(reasoning)],
    ]
  }
}

extension ChoiceOutcome {
  /// `finish_reason` of OpenAI's routes, tool calls aside.
  var finishReason: String {
    switch reason {
    case .endOfSequence, .stopToken, .stopString, .constraintComplete: "stop"
    case .length: "length"
    case .aborted: "abort"
    case .failed: "error"
    }
  }

  /// vLLM's `stop_reason`: the stop string or token that ended the choice.
  var stopReason: JSONValue {
    switch reason {
    case .stopToken(let id): .integer(id)
    case .stopString(let string): .string(string)
    default: .null
    }
  }

  /// The failure, if that is how it ended.
  var failure: GenerationFailure? {
    if case .failed(let failure) = reason { return failure }
    return nil
  }
}
