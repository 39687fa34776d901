import Inference
import JSONScanning
import OutputParsing

/// Writes Anthropic messages, whole or as named events.
struct MessagesWriter: EventWriter {
  private let id = Identifiers.make("msg_")
  private let modelName: String
  private let showsThinking: Bool
  private var blocks: [Block] = []
  private var openBlock: BlockKind?
  var outcome: ChoiceOutcome?
  private var callCount = 0

  private enum BlockKind: Equatable { case thinking, text, tool }

  private struct Block {
    var kind: BlockKind
    var text = ""
    var id = ""
    var name = ""
  }

  init(_ request: MessagesRequest) {
    modelName = request.modelName
    showsThinking = request.chat.reasoning.isIncluded
  }

  mutating func write(_ event: OutputEvent, into bytes: inout [UInt8]) {
    switch event {
    case .reasoning(let text):
      guard showsThinking else { return }
      open(.thinking, into: &bytes)
      add(text, ["type": "thinking_delta", "thinking": .string(text)], into: &bytes)
    case .content(let text):
      open(.text, into: &bytes)
      add(text, ["type": "text_delta", "text": .string(text)], into: &bytes)
    case .toolCallStarted(_, let name):
      close(into: &bytes)
      callCount += 1
      open(.tool, name: name, into: &bytes)
    case .toolArguments(_, let fragment):
      add(
        fragment, ["type": "input_json_delta", "partial_json": .string(fragment)], into: &bytes)
    case .toolCallFinished: close(into: &bytes)
    }
  }

  private mutating func open(
    _ kind: BlockKind, name: String = "", into bytes: inout [UInt8]
  ) {
    guard openBlock != kind else { return }
    close(into: &bytes)
    openBlock = kind
    var block = Block(kind: kind)
    if kind == .tool {
      block.id = Identifiers.make("toolu_")
      block.name = name
    }
    blocks.append(block)
    let start: JSONValue =
      switch kind {
      case .thinking: ["type": "thinking", "thinking": "", "signature": ""]
      case .text: ["type": "text", "text": ""]
      case .tool:
        ["type": "tool_use", "id": .string(block.id), "name": .string(name), "input": [:]]
      }
    bytes += event(
      "content_block_start", [("index", .integer(blocks.count - 1)), ("content_block", start)])
  }

  private mutating func add(_ text: String, _ delta: JSONValue, into bytes: inout [UInt8]) {
    guard !blocks.isEmpty, !text.isEmpty else { return }
    blocks[blocks.count - 1].text += text
    bytes += event(
      "content_block_delta", [("index", .integer(blocks.count - 1)), ("delta", delta)])
  }

  private mutating func close(into bytes: inout [UInt8]) {
    guard let kind = openBlock else { return }
    openBlock = nil
    let index: JSONValue = .integer(blocks.count - 1)
    if kind == .thinking {
      bytes += event(
        "content_block_delta",
        [("index", index), ("delta", ["type": "signature_delta", "signature": .string(id)])])
    }
    bytes += event("content_block_stop", [("index", index)])
  }

  private func event(_ name: String, _ members: [(String, JSONValue?)]) -> [UInt8] {
    ServerSentEvents.event(name, .object(JSONObject([("type", .string(name))] + members)))
  }

  private var stopReason: JSONValue {
    switch outcome?.reason {
    case .stopString: "stop_sequence"
    case .length: "max_tokens"
    case nil: .null
    default: callCount > 0 ? "tool_use" : "end_turn"
    }
  }

  private var stopSequence: JSONValue {
    if case .stopString(let string) = outcome?.reason { return .string(string) }
    return .null
  }

  private func usage(_ usage: TokenUsage) -> JSONValue {
    [
      "input_tokens": .integer(usage.prompt), "output_tokens": .integer(usage.generated),
      "cache_read_input_tokens": .integer(usage.cached), "cache_creation_input_tokens": 0,
    ]
  }

  private func message(content: [JSONValue], usage: TokenUsage) -> JSONValue {
    .object(
      JSONObject([
        ("id", .string(id)), ("type", "message"), ("role", "assistant"),
        ("model", .string(modelName)), ("content", .array(content)), ("stop_reason", stopReason),
        ("stop_sequence", stopSequence), ("usage", self.usage(usage)),
      ]))
  }

  /// The whole message.
  func json(usage: TokenUsage) -> JSONValue {
    let content = blocks.map { block -> JSONValue in
      switch block.kind {
      case .thinking:
        return ["type": "thinking", "thinking": .string(block.text), "signature": .string(id)]
      case .text: return ["type": "text", "text": .string(block.text)]
      case .tool:
        let input = try? JSONValue(parsing: block.text, duplicateKeys: .keepLast)
        return [
          "type": "tool_use", "id": .string(block.id), "name": .string(block.name),
          "input": input ?? [:],
        ]
      }
    }
    return message(content: content, usage: usage)
  }

  /// The events that begin a stream.
  func startFrames(promptTokenCount: Int) -> [UInt8] {
    let start = message(content: [], usage: TokenUsage(prompt: promptTokenCount))
    return event("message_start", [("message", start)]) + event("ping", [])
  }

  /// The events that end a stream.
  mutating func endFrames(usage: TokenUsage) -> [UInt8] {
    var bytes: [UInt8] = []
    close(into: &bytes)
    bytes += event(
      "message_delta",
      [
        ("delta", ["stop_reason": stopReason, "stop_sequence": stopSequence]),
        ("usage", self.usage(usage)),
      ])
    return bytes + event("message_stop", [])
  }
}
