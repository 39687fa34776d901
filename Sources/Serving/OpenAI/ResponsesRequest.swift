import JSONScanning
import Sampling

/// The request of `POST /v1/responses`, turned into a chat request.
struct ResponsesRequest: Sendable {
  var modelName: String
  var chat: ChatRequest
  var stores: Bool
  /// The messages before the answer, for the store.
  var conversation: [JSONValue]
  /// Request fields that the response repeats.
  var echoed: JSONObject

  init(_ fields: FieldReader, context: APIContext) throws(APIError) {
    let settings = context.settings
    modelName = try context.resolve(model: try fields.string("model"))
    if try fields.boolean("background") == true {
      throw .badField(
        path: fields.path("background"), reason: "must be false: there are no background runs.")
    }
    let truncation = try fields.choice("truncation", of: ["auto", "disabled"]) ?? "disabled"
    var messages: [JSONValue] = []
    if let previous = try fields.string("previous_response_id") {
      guard let entry = context.responses.entry(previous) else {
        throw .notStored(
          kind: "response", id: String(previous.prefix(100)),
          path: fields.path("previous_response_id"))
      }
      messages = entry.conversation
    }
    messages += try ResponsesInput.messages(fields)
    guard !messages.isEmpty else {
      throw .badField(path: fields.path("input"), reason: "must hold at least one item.")
    }
    conversation = messages
    if let instructions = try fields.string("instructions") {
      messages.insert(["role": "system", "content": .string(instructions)], at: 0)
    }
    var options = try GenerationOptions(defaults: settings.defaults, fields: fields)
    options.maximumTokens = try fields.integer("max_output_tokens", in: 1...Int.max)
    options.streams = try fields.boolean("stream") ?? false
    stores = try fields.boolean("store") ?? true
    chat = ChatRequest(input: ChatTemplateInput(messages: messages), options: options)
    chat.promptPath = "input"
    chat.tools =
      try fields.array("tools")?.isEmpty == true ? [] : ChatTools.read(fields)
    chat.toolChoice = try ChatTools.choice(fields, tools: chat.tools)
    chat.allowsParallelCalls = try fields.boolean("parallel_tool_calls") ?? true
    if let effort = try fields.fields("reasoning")?.choice(
      "effort", of: ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
    {
      chat.input.setEffort(effort)
    }
    chat.constraint = try Self.format(fields)
    echoed = try Self.echo(fields, chat: chat, stores: stores, truncation: truncation)
  }

  private static func format(
    _ fields: FieldReader
  ) throws(APIError) -> ConstraintSpecification? {
    guard let format = try fields.fields("text")?.fields("format") else { return nil }
    switch try format.requiredString("type") {
    case "text": return nil
    case "json_object": return .jsonObject
    case "json_schema": return .jsonSchema(.object(try format.requiredFields("schema").object))
    default:
      throw .badField(
        path: format.path("type"), reason: "must be text, json_object or json_schema.")
    }
  }

  /// What the SDK's types need back: the fields as given, or their defaults.
  private static func echo(
    _ fields: FieldReader, chat: ChatRequest, stores: Bool, truncation: String
  ) throws(APIError) -> JSONObject {
    var metadata = JSONObject()
    for member in try fields.fields("metadata")?.object.members ?? [] {
      metadata[member.key] = member.value
    }
    let sampling = chat.options.sampling
    return JSONObject([
      ("instructions", .optional(try fields.string("instructions"))),
      ("metadata", .object(metadata)),
      ("parallel_tool_calls", .boolean(chat.allowsParallelCalls)),
      ("temperature", .number(sampling.temperature)), ("top_p", .number(sampling.topP)),
      ("tool_choice", toolChoice(chat)), ("tools", .array(chat.tools.map(flat))),
      ("max_output_tokens", .optional(chat.options.maximumTokens)),
      ("previous_response_id", .optional(try fields.string("previous_response_id"))),
      (
        "reasoning",
        [
          "effort": .optional(try fields.fields("reasoning")?.string("effort")), "summary": nil,
        ]
      ),
      ("text", fields.value("text") ?? ["format": ["type": "text"]]),
      ("truncation", .string(truncation)), ("store", .boolean(stores)), ("background", false),
      ("service_tier", "default"), ("top_logprobs", 0),
    ])
  }

  private static func toolChoice(_ chat: ChatRequest) -> JSONValue {
    switch chat.toolChoice {
    case .none: chat.tools.isEmpty ? "auto" : "none"
    case .auto: "auto"
    case .required: "required"
    case .named(let name): ["type": "function", "name": .string(name)]
    case .allowed(let names, let isRequired):
      [
        "type": "allowed_tools", "mode": isRequired ? "required" : "auto",
        "tools": .array(names.map { ["type": "function", "name": .string($0)] }),
      ]
    }
  }

  private static func flat(_ tool: ChatTool) -> JSONValue {
    [
      "type": "function", "name": .string(tool.name), "description": .optional(tool.description),
      "parameters": tool.parameters, "strict": .boolean(tool.isStrict),
    ]
  }
}

/// Turns the items of a Responses input into chat messages.
enum ResponsesInput {
  static func messages(_ fields: FieldReader) throws(APIError) -> [JSONValue] {
    let value = try fields.required("input")
    if let text = value.string { return [["role": "user", "content": .string(text)]] }
    guard let items = value.array else {
      throw .badField(path: fields.path("input"), reason: "must be a string or an array of items.")
    }
    var turns: [JSONObject] = []
    var isOpen = false
    for (index, value) in items.enumerated() {
      let item = try FieldReader(value, path: "\(fields.path("input"))[\(index)]")
      let type = try item.string("type") ?? "message"
      switch type {
      case "message":
        let message = try self.message(item)
        // Reasoning and the message it led to are one turn.
        if isOpen, message["role"] == "assistant", turns[turns.count - 1]["content"] == "" {
          turns[turns.count - 1]["content"] = message["content"]
        } else {
          turns.append(message)
        }
        isOpen = message["role"] == "assistant"
      case "reasoning":
        openTurn(&turns, &isOpen)
        turns[turns.count - 1]["reasoning_content"] = .string(try reasoning(item))
      case "function_call":
        openTurn(&turns, &isOpen)
        let calls = turns[turns.count - 1]["tool_calls"]?.array ?? []
        turns[turns.count - 1]["tool_calls"] = .array(calls + [try call(item)])
      case "function_call_output":
        isOpen = false
        turns.append(
          JSONObject([
            ("role", "tool"), ("tool_call_id", .string(try item.requiredString("call_id"))),
            ("content", .string(try text(item, "output"))),
          ]))
      default:
        throw .badField(
          path: item.path("type"),
          reason: "must be message, reasoning, function_call or function_call_output.")
      }
    }
    return turns.map { .object($0) }
  }

  private static func openTurn(_ turns: inout [JSONObject], _ isOpen: inout Bool) {
    guard !isOpen else { return }
    turns.append(JSONObject([("role", "assistant"), ("content", "")]))
    isOpen = true
  }

  private static func message(_ item: FieldReader) throws(APIError) -> JSONObject {
    let role = try item.requiredString("role")
    let roles = ["system", "developer", "user", "assistant"]
    guard roles.contains(role) else {
      throw .badField(
        path: item.path("role"), reason: "must be one of \(roles.joined(separator: ", ")).")
    }
    return JSONObject([
      ("role", .string(role == "developer" ? "system" : role)),
      ("content", try content(item, takesImages: role != "assistant")),
    ])
  }

  /// A message's text, or its parts where there are images.
  private static func content(
    _ item: FieldReader, takesImages: Bool
  ) throws(APIError) -> JSONValue {
    guard takesImages, let parts = item.value("content")?.array,
      parts.contains(where: { $0["type"]?.string == "input_image" })
    else { return .string(try text(item, "content")) }
    var content = MessageContent()
    for (index, value) in parts.enumerated() {
      let part = try FieldReader(value, path: "\(item.path("content"))[\(index)]")
      if try part.requiredString("type") == "input_image" {
        try content.appendImageURL(part)
      } else {
        content.append(try text(of: part))
      }
    }
    return content.json
  }

  private static func text(_ item: FieldReader, _ key: String) throws(APIError) -> String {
    let value = try item.required(key)
    if let text = value.string { return text }
    var texts: [String] = []
    for (index, part) in (try item.requiredArray(key)).enumerated() {
      texts.append(try text(of: FieldReader(part, path: "\(item.path(key))[\(index)]")))
    }
    return texts.joined(separator: "\n")
  }

  private static func text(of part: FieldReader) throws(APIError) -> String {
    switch try part.requiredString("type") {
    case "input_text", "output_text", "text", "reasoning_text", "summary_text":
      return try part.requiredString("text")
    case "refusal": return try part.requiredString("refusal")
    case "input_image":
      throw .badField(path: part.path, reason: "is an image where only text may stand.")
    default:
      throw .badField(
        path: part.path("type"),
        reason: "must be input_text or input_image; this model takes "
          + "text and images.")
    }
  }

  private static func reasoning(_ item: FieldReader) throws(APIError) -> String {
    if item.has("content") { return try text(item, "content") }
    return item.has("summary") ? try text(item, "summary") : ""
  }

  private static func call(_ item: FieldReader) throws(APIError) -> JSONValue {
    let text = try item.string("arguments") ?? "{}"
    let arguments: JSONValue
    do throws(JSONError) {
      arguments = try JSONValue(parsing: text.isEmpty ? "{}" : text, duplicateKeys: .keepLast)
    } catch {
      throw .badField(path: item.path("arguments"), reason: "is not JSON: \(error).")
    }
    guard arguments.object != nil else {
      throw .badField(path: item.path("arguments"), reason: "must hold a JSON object.")
    }
    return [
      "id": .string(try item.requiredString("call_id")), "type": "function",
      "function": ["name": .string(try item.requiredString("name")), "arguments": arguments],
    ]
  }
}
