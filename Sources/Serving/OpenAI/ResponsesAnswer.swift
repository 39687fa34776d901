import Inference
import JSONScanning
import OutputParsing

/// Writes a response, whole or as numbered events.
struct ResponsesWriter: EventWriter {
  let id = Identifiers.make("resp_")
  private let created = WallClock.seconds
  private let modelName: String
  private let echoed: JSONObject
  private var items: [Item] = []
  private var isOpen = false
  private var sequenceNumber = 0
  var outcome: ChoiceOutcome? {
    didSet {
      // An item that the limit has cut is not complete.
      if outcome?.reason == .length, isOpen { items[items.count - 1].isComplete = false }
    }
  }

  private enum Kind { case reasoning, message, call }

  private struct Item {
    var kind: Kind
    var id: String
    var callID = ""
    var name = ""
    var text = ""
    var isComplete = true
  }

  init(_ request: ResponsesRequest) {
    modelName = request.modelName
    echoed = request.echoed
  }

  mutating func write(_ event: OutputEvent, into bytes: inout [UInt8]) {
    switch event {
    case .reasoning(let text): add(text, to: .reasoning, into: &bytes)
    case .content(let text): add(text, to: .message, into: &bytes)
    case .toolCallStarted(_, let name):
      close(into: &bytes)
      open(.call, name: name, into: &bytes)
    case .toolArguments(_, let fragment): add(fragment, to: .call, into: &bytes)
    case .toolCallFinished(_, let isComplete):
      if !items.isEmpty { items[items.count - 1].isComplete = isComplete }
      close(into: &bytes)
    }
  }

  private mutating func open(_ kind: Kind, name: String = "", into bytes: inout [UInt8]) {
    let prefix =
      switch kind {
      case .reasoning: "rs_"
      case .message: "msg_"
      case .call: "fc_"
      }
    var item = Item(kind: kind, id: Identifiers.make(prefix), name: name)
    if kind == .call { item.callID = Identifiers.make("call_") }
    items.append(item)
    isOpen = true
    event(
      "response.output_item.added",
      [("output_index", place), ("item", json(item, status: "in_progress"))], into: &bytes)
    if kind != .call {
      event(
        "response.content_part.added", partMembers(item) + [("part", part(item, text: ""))],
        into: &bytes)
    }
  }

  private var place: JSONValue { .integer(items.count - 1) }

  private func partMembers(_ item: Item) -> [(String, JSONValue?)] {
    [("item_id", .string(item.id)), ("output_index", place), ("content_index", 0)]
  }

  private func part(_ item: Item, text: String) -> JSONValue {
    item.kind == .reasoning
      ? ["type": "reasoning_text", "text": .string(text)]
      : ["type": "output_text", "text": .string(text), "annotations": [], "logprobs": []]
  }

  private mutating func add(_ text: String, to kind: Kind, into bytes: inout [UInt8]) {
    if !isOpen || items.last?.kind != kind {
      guard kind != .call else { return }
      close(into: &bytes)
      open(kind, into: &bytes)
    }
    items[items.count - 1].text += text
    let item = items[items.count - 1]
    guard kind != .call else {
      event(
        "response.function_call_arguments.delta",
        [("item_id", .string(item.id)), ("output_index", place), ("delta", .string(text))],
        into: &bytes)
      return
    }
    let name = kind == .reasoning ? "response.reasoning_text.delta" : "response.output_text.delta"
    let logprobs: JSONValue? = kind == .message ? [] : nil
    event(
      name, partMembers(item) + [("delta", .string(text)), ("logprobs", logprobs)], into: &bytes)
  }

  private mutating func close(into bytes: inout [UInt8]) {
    guard isOpen, let item = items.last else { return }
    isOpen = false
    if item.kind == .call {
      event(
        "response.function_call_arguments.done",
        [
          ("item_id", .string(item.id)), ("output_index", place), ("name", .string(item.name)),
          ("arguments", .string(item.text)),
        ], into: &bytes)
    } else {
      let name =
        item.kind == .reasoning ? "response.reasoning_text.done" : "response.output_text.done"
      let logprobs: JSONValue? = item.kind == .message ? [] : nil
      event(
        name, partMembers(item) + [("text", .string(item.text)), ("logprobs", logprobs)],
        into: &bytes)
      event(
        "response.content_part.done", partMembers(item) + [("part", part(item, text: item.text))],
        into: &bytes)
    }
    event(
      "response.output_item.done",
      [("output_index", place), ("item", json(item, status: finalStatus(item)))], into: &bytes)
  }

  private func finalStatus(_ item: Item) -> String { item.isComplete ? "completed" : "incomplete" }

  private func json(_ item: Item, status: String) -> JSONValue {
    let isEmpty = status == "in_progress"
    switch item.kind {
    case .reasoning:
      return [
        "type": "reasoning", "id": .string(item.id), "summary": [],
        "content": isEmpty ? [] : [part(item, text: item.text)], "status": .string(status),
      ]
    case .message:
      return [
        "type": "message", "id": .string(item.id), "status": .string(status), "role": "assistant",
        "content": isEmpty ? [] : [part(item, text: item.text)],
      ]
    case .call:
      return [
        "type": "function_call", "id": .string(item.id), "call_id": .string(item.callID),
        "name": .string(item.name), "arguments": .string(isEmpty ? "" : item.text),
        "status": .string(status),
      ]
    }
  }

  private mutating func event(
    _ name: String, _ members: [(String, JSONValue?)], into bytes: inout [UInt8]
  ) {
    let head: [(String, JSONValue?)] = [
      ("type", .string(name)), ("sequence_number", .integer(sequenceNumber)),
    ]
    sequenceNumber += 1
    bytes += ServerSentEvents.event(name, .object(JSONObject(head + members)))
  }

  // MARK: The response object

  /// The status of the response as it stands.
  private func status(failure: GenerationFailure?) -> String {
    if failure != nil { return "failed" }
    switch outcome?.reason {
    case nil: return "in_progress"
    case .length: return "incomplete"
    case .aborted: return "cancelled"
    default: return "completed"
    }
  }

  /// The response object.
  func json(usage: TokenUsage?, failure: GenerationFailure? = nil) -> JSONValue {
    let status = status(failure: failure)
    var body = JSONObject([
      ("id", .string(id)), ("object", "response"), ("created_at", .integer(created)),
      ("status", .string(status)), ("model", .string(modelName)),
      (
        "error",
        failure.map { ["code": "server_error", "message": .string($0.description)] } ?? .null
      ),
      (
        "incomplete_details",
        status == "incomplete" ? ["reason": "max_output_tokens"] : .null
      ),
      ("output", .array(items.map { json($0, status: finalStatus($0)) })),
      ("usage", usage.map(Self.usage) ?? .null),
    ])
    for member in echoed.members { body[member.key] = member.value }
    return .object(body)
  }

  private static func usage(_ usage: TokenUsage) -> JSONValue {
    [
      "input_tokens": .integer(usage.prompt), "output_tokens": .integer(usage.generated),
      "total_tokens": .integer(usage.prompt + usage.generated),
      "input_tokens_details": ["cached_tokens": .integer(usage.cached), "cache_write_tokens": 0],
      "output_tokens_details": ["reasoning_tokens": .integer(usage.reasoning)],
    ]
  }

  /// The events that begin a stream.
  mutating func startFrames() -> [UInt8] {
    var bytes: [UInt8] = []
    for name in ["response.created", "response.in_progress"] {
      event(name, [("response", json(usage: nil))], into: &bytes)
    }
    return bytes
  }

  /// The events that end a stream.
  mutating func endFrames(usage: TokenUsage, failure: GenerationFailure?) -> [UInt8] {
    var bytes: [UInt8] = []
    close(into: &bytes)
    let status = status(failure: failure)
    let name = ["failed", "incomplete"].contains(status) ? status : "completed"
    event(
      "response.\(name)", [("response", json(usage: usage, failure: failure))], into: &bytes)
    return bytes
  }

  /// The answer as messages of the conversation, for a response that goes on from this one.
  var answerMessages: [JSONValue] {
    let calls = items.filter { $0.kind == .call }.map { item -> JSONValue in
      let arguments = try? JSONValue(parsing: item.text, duplicateKeys: .keepLast)
      return [
        "id": .string(item.callID), "type": "function",
        "function": ["name": .string(item.name), "arguments": arguments ?? [:]],
      ]
    }
    let text = items.filter { $0.kind == .message }.map(\.text).joined(separator: "\n")
    let thoughts = items.filter { $0.kind == .reasoning }.map(\.text).joined(separator: "\n")
    return [
      .object(
        JSONObject([
          ("role", "assistant"), ("content", .string(text)),
          ("reasoning_content", thoughts.isEmpty ? nil : .string(thoughts)),
          ("tool_calls", calls.isEmpty ? nil : .array(calls)),
        ]))
    ]
  }
}
