import Inference
import JSONScanning
import OutputParsing

/// Writes a chat answer as chunks, each choice's in their order: role, reasoning, content, tool
/// calls, finish.
struct ChatCompletionsStream {
  private let header: ChatHeader
  private var choices: [Choice]

  private struct Choice {
    var hasBegun = false
    /// Logprobs of tokens whose text is held back; they ride on the next chunk.
    var logprobs: [JSONValue] = []
    var tokens: [JSONValue] = []
    var callCount = 0
    /// Reasoning kept for one whole chunk, where it is not to be streamed.
    var heldReasoning = ""
  }

  init(header: ChatHeader) {
    self.header = header
    choices = Array(repeating: Choice(), count: header.chat.options.choiceCount)
  }

  /// The frames for what the run produced; the failure that ended a choice, if one did.
  mutating func frames(
    _ outputs: [RunOutput], usage: TokenUsage
  ) -> (bytes: [UInt8], failure: GenerationFailure?) {
    var bytes: [UInt8] = []
    for output in outputs {
      switch output {
      case .prompt: break
      case .token(let choice, let token, let events):
        begin(choice, usage, into: &bytes)
        if let logprobs = token.logprobs, header.chat.options.logprobCount != nil {
          choices[choice].logprobs.append(header.logprobs.chatEntry(logprobs))
        }
        if header.chat.options.returnsTokenIDs { choices[choice].tokens.append(.integer(token.id)) }
        for event in events { write(event, choice, usage, into: &bytes) }
      case .finished(let choice, let outcome, let events):
        if let failure = outcome.failure { return (bytes, failure) }
        begin(choice, usage, into: &bytes)
        for event in events { write(event, choice, usage, into: &bytes) }
        flushReasoning(choice, usage, into: &bytes)
        let reason = header.finishReason(outcome, callCount: choices[choice].callCount)
        chunk(choice, JSONObject(), usage, finish: reason, stop: outcome.stopReason, into: &bytes)
      }
    }
    return (bytes, nil)
  }

  /// The last chunk of a stream that was asked for its usage.
  func usageFrame(_ usage: TokenUsage) -> [UInt8] {
    var body = header.base(object: "chat.completion.chunk")
    body["choices"] = []
    body["usage"] = usage.json
    return ServerSentEvents.data(.object(body))
  }

  private mutating func begin(_ choice: Int, _ usage: TokenUsage, into bytes: inout [UInt8]) {
    guard !choices[choice].hasBegun else { return }
    choices[choice].hasBegun = true
    // This chunk stands before the first token.
    var before = usage
    before.generated = max(0, usage.generated - 1)
    before.reasoning = min(usage.reasoning, before.generated)
    chunk(choice, JSONObject([("role", "assistant"), ("content", "")]), before, into: &bytes)
    if !header.chat.echo.isEmpty {
      chunk(choice, JSONObject([("content", .string(header.chat.echo))]), usage, into: &bytes)
    }
  }

  private mutating func write(
    _ event: OutputEvent, _ choice: Int, _ usage: TokenUsage, into bytes: inout [UInt8]
  ) {
    if case .reasoning(let text) = event {
      guard header.chat.reasoning.isIncluded else { return }
      if header.chat.reasoning.isStreamed {
        chunk(choice, reasoning(text), usage, into: &bytes)
      } else {
        choices[choice].heldReasoning += text
      }
      return
    }
    flushReasoning(choice, usage, into: &bytes)
    switch event {
    case .reasoning, .toolCallFinished: break
    case .content(let text):
      chunk(choice, JSONObject([("content", .string(text))]), usage, into: &bytes)
    case .toolCallStarted(let index, let name):
      choices[choice].callCount += 1
      let call: JSONValue = [
        "index": .integer(index), "id": .string(Identifiers.make("call_")), "type": "function",
        "function": ["name": .string(name), "arguments": ""],
      ]
      chunk(choice, JSONObject([("tool_calls", [call])]), usage, into: &bytes)
    case .toolArguments(let index, let fragment):
      let call: JSONValue = [
        "index": .integer(index), "function": ["arguments": .string(fragment)],
      ]
      chunk(choice, JSONObject([("tool_calls", [call])]), usage, into: &bytes)
    }
  }

  private func reasoning(_ text: String) -> JSONObject {
    JSONObject(header.reasoningNames.map { ($0, .string(text)) })
  }

  private mutating func flushReasoning(
    _ choice: Int, _ usage: TokenUsage, into bytes: inout [UInt8]
  ) {
    guard !choices[choice].heldReasoning.isEmpty else { return }
    let held = reasoning(choices[choice].heldReasoning)
    choices[choice].heldReasoning = ""
    chunk(choice, held, usage, into: &bytes)
  }

  private mutating func chunk(
    _ choice: Int, _ delta: JSONObject, _ usage: TokenUsage, finish: String? = nil,
    stop: JSONValue? = nil, into bytes: inout [UInt8]
  ) {
    let logprobs: JSONValue =
      choices[choice].logprobs.isEmpty ? .null : ["content": .array(choices[choice].logprobs)]
    choices[choice].logprobs = []
    var body = header.base(object: "chat.completion.chunk")
    body["choices"] = [
      .object(
        JSONObject([
          ("index", .integer(choice)), ("delta", .object(delta)), ("logprobs", logprobs),
          ("finish_reason", .optional(finish)), ("stop_reason", stop),
          (
            "token_ids",
            header.chat.options.returnsTokenIDs ? .array(choices[choice].tokens) : nil
          ),
        ]))
    ]
    choices[choice].tokens = []
    if header.chat.options.continuousUsage { body["usage"] = usage.json }
    bytes += ServerSentEvents.data(.object(body))
  }
}
