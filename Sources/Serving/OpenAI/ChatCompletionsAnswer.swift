import Inference
import JSONScanning
import OutputParsing

/// Collects a chat answer and writes it whole.
struct ChatCompletionsAnswer {
  let header: ChatHeader
  private var choices: [Choice]

  private struct Choice {
    var output = ParsedOutput()
    var logprobs: [JSONValue] = []
    var tokens: [JSONValue] = []
    var outcome: ChoiceOutcome?
    var callIDs: [String] = []
  }

  init(header: ChatHeader) {
    self.header = header
    choices = Array(repeating: Choice(), count: header.chat.options.choiceCount)
  }

  /// Takes in what the run produced; the failure that ended a choice, if one did.
  mutating func absorb(_ outputs: [RunOutput]) -> GenerationFailure? {
    for output in outputs {
      switch output {
      case .prompt: break
      case .token(let choice, let token, let events):
        for event in events { choices[choice].output.append(event) }
        if let logprobs = token.logprobs, header.chat.options.logprobCount != nil {
          choices[choice].logprobs.append(header.logprobs.chatEntry(logprobs))
        }
        if header.chat.options.returnsTokenIDs { choices[choice].tokens.append(.integer(token.id)) }
      case .finished(let choice, let outcome, let events):
        for event in events { choices[choice].output.append(event) }
        choices[choice].outcome = outcome
        if let failure = outcome.failure { return failure }
      }
    }
    return nil
  }

  /// The answer's JSON.
  func json(usage: TokenUsage, reports: [PromptReport?], prompt: [Int]) -> JSONValue {
    var body = header.base(object: "chat.completion")
    body["choices"] = .array(choices.enumerated().map { choice($0.offset, $0.element) })
    body["usage"] = usage.json
    if header.chat.options.promptLogprobCount != nil, let logprobs = reports.first??.logprobs {
      body["prompt_logprobs"] = header.logprobs.promptLogprobs(logprobs)
    }
    if header.chat.options.returnsTokenIDs {
      body["prompt_token_ids"] = .array(prompt.map { .integer($0) })
    }
    return .object(body)
  }

  private func choice(_ index: Int, _ choice: Choice) -> JSONValue {
    let calls = choice.output.toolCalls
    let options = header.chat.options
    let content =
      choice.output.content.map { header.chat.echo + $0 }
      ?? (header.chat.echo.isEmpty ? nil : header.chat.echo)
    var message: JSONObject = JSONObject([("role", "assistant")])
    message["content"] = calls.isEmpty ? .string(content ?? "") : .optional(content)
    if let reasoning = choice.output.reasoning, header.chat.reasoning.isIncluded {
      for name in header.reasoningNames { message[name] = .string(reasoning) }
    }
    if !calls.isEmpty {
      message["tool_calls"] = .array(
        calls.map { call in
          [
            "id": .string(Identifiers.make("call_")), "type": "function",
            "function": ["name": .string(call.name), "arguments": .string(call.arguments)],
          ]
        })
    }
    let logprobs: JSONValue =
      options.logprobCount == nil ? .null : ["content": .array(choice.logprobs)]
    return .object(
      JSONObject([
        ("index", .integer(index)), ("message", .object(message)), ("logprobs", logprobs),
        ("finish_reason", .string(header.finishReason(choice.outcome, callCount: calls.count))),
        ("stop_reason", choice.outcome?.stopReason ?? .null),
        ("token_ids", options.returnsTokenIDs ? .array(choice.tokens) : nil),
      ]))
  }
}

/// What every piece of one chat answer repeats.
struct ChatHeader: Sendable {
  let id: String
  let created: Int
  let modelName: String
  let fingerprint: String
  let chat: ChatRequest
  let logprobs: LogprobWriter
  let reasoningNames: [String]

  init(_ request: ChatCompletionsRequest, model: ServedModel, context: APIContext) {
    id = request.chat.options.answerID.map { "chatcmpl-" + $0 } ?? Identifiers.make("chatcmpl-")
    created = WallClock.seconds
    modelName = request.modelName
    fingerprint = context.fingerprint(model)
    chat = request.chat
    logprobs = LogprobWriter(
      text: model.text, namesByID: request.chat.options.namesTokensByID,
      alternativeCount: request.chat.options.writtenAlternativeCount)
    reasoningNames = context.settings.reasoningField.names
  }

  func base(object: String) -> JSONObject {
    JSONObject([
      ("id", .string(id)), ("object", .string(object)), ("created", .integer(created)),
      ("model", .string(modelName)), ("system_fingerprint", .string(fingerprint)),
    ])
  }

  /// As at OpenAI: a call the model chose to make ends with `tool_calls`, a named one with `stop`.
  func finishReason(_ outcome: ChoiceOutcome?, callCount: Int) -> String {
    let plain = outcome?.finishReason ?? "stop"
    guard plain == "stop", callCount > 0 else { return plain }
    if case .named = chat.toolChoice { return "stop" }
    return "tool_calls"
  }
}
