import JSONScanning

/// The request of `POST /v1/messages`, turned into a chat request.
struct MessagesRequest: Sendable {
  var modelName: String
  var chat: ChatRequest
  var stream: Bool

  /// Reads a request; counting tokens needs no `max_tokens`.
  init(
    _ fields: FieldReader, needsMaximum: Bool, context: APIContext
  ) throws(APIError) {
    let settings = context.settings
    modelName = try context.resolve(model: try fields.string("model"))
    var messages = try Self.system(fields)
    for (index, message) in (try fields.requiredArray("messages")).enumerated() {
      let message = try FieldReader(message, path: "\(fields.path("messages"))[\(index)]")
      messages += try Self.messages(message)
    }
    guard messages.contains(where: { $0["role"]?.string != "system" }) else {
      throw .badField(path: fields.path("messages"), reason: "must hold at least one message.")
    }
    var options = try GenerationOptions(
      defaults: settings.defaults, fields: fields)
    let maximum = try fields.integer("max_tokens", in: 1...Int.max)
    if needsMaximum && maximum == nil { _ = try fields.required("max_tokens") }
    options.maximumTokens = maximum
    options.stops = try GenerationOptions.stops(
      fields, key: "stop_sequences", limit: settings.limits.stopCount)
    stream = try fields.boolean("stream") ?? false
    options.streams = stream
    chat = ChatRequest(input: ChatTemplateInput(messages: messages), options: options)
    chat.tools = try Self.tools(fields)
    try Self.readChoice(fields, into: &chat)
    try Self.readThinking(fields, into: &chat)
    if let output = try fields.fields("output_config"), let format = try output.fields("format") {
      chat.constraint = .jsonSchema(try format.required("schema"))
    }
  }

  private static func system(_ fields: FieldReader) throws(APIError) -> [JSONValue] {
    guard let value = fields.value("system") else { return [] }
    let text: String
    if let string = value.string {
      text = string
    } else {
      text = try joinedText(blocks: try fields.array("system") ?? [], fields.path("system"))
    }
    return [["role": "system", "content": .string(text)]]
  }

  /// Texts and images of blocks, as one string where there are no images.
  private static func content(
    of blocks: [(path: String, block: JSONValue)]
  ) throws(APIError) -> JSONValue {
    var content = MessageContent()
    for (path, block) in blocks {
      let block = try FieldReader(block, path: path)
      switch try block.requiredString("type") {
      case "text": content.append(try block.requiredString("text"))
      case "image": try content.appendImageSource(block)
      default:
        throw .badField(
          path: block.path("type"),
          reason: "must be text, image or tool_result; this model takes text and images.")
      }
    }
    return content.json
  }

  private static func joinedText(
    blocks: [JSONValue], _ path: String
  ) throws(APIError) -> String {
    var texts: [String] = []
    for (index, block) in blocks.enumerated() {
      let block = try FieldReader(block, path: "\(path)[\(index)]")
      switch try block.requiredString("type") {
      case "text": texts.append(try block.requiredString("text"))
      case "image":
        throw .badField(path: block.path, reason: "is an image where only text may stand.")
      default:
        throw .badField(path: block.path("type"), reason: "must be text; this model takes text.")
      }
    }
    return texts.joined(separator: "\n")
  }

  /// The chat messages that one message makes: tool results become messages of their own.
  private static func messages(_ message: FieldReader) throws(APIError) -> [JSONValue] {
    let role = try message.requiredString("role")
    guard ["user", "assistant", "system"].contains(role) else {
      throw .badField(path: message.path("role"), reason: "must be user or assistant.")
    }
    let content = try message.required("content")
    if let text = content.string { return [["role": .string(role), "content": .string(text)]] }
    let blocks = try message.requiredArray("content")
    return role == "assistant"
      ? [try assistant(blocks, message.path("content"))]
      : try user(blocks, role: role, message.path("content"))
  }

  private static func user(
    _ blocks: [JSONValue], role: String, _ path: String
  ) throws(APIError) -> [JSONValue] {
    var messages: [JSONValue] = []
    var shown: [(path: String, block: JSONValue)] = []
    for (index, value) in blocks.enumerated() {
      let block = try FieldReader(value, path: "\(path)[\(index)]")
      guard try block.requiredString("type") == "tool_result" else {
        shown.append((block.path, value))
        continue
      }
      let result: JSONValue
      if let string = block.value("content")?.string {
        result = .string(string)
      } else {
        let inner = try block.array("content") ?? []
        result = try content(
          of: inner.enumerated().map { ("\(block.path("content"))[\($0)]", $1) })
      }
      messages.append([
        "role": "tool", "tool_call_id": .string(try block.requiredString("tool_use_id")),
        "content": result,
      ])
    }
    if !shown.isEmpty || messages.isEmpty {
      messages.append(["role": .string(role), "content": try content(of: shown)])
    }
    return messages
  }

  private static func assistant(
    _ blocks: [JSONValue], _ path: String
  ) throws(APIError) -> JSONValue {
    var texts: [String] = []
    var thoughts: [String] = []
    var calls: [JSONValue] = []
    for (index, value) in blocks.enumerated() {
      let block = try FieldReader(value, path: "\(path)[\(index)]")
      switch try block.requiredString("type") {
      case "text": texts.append(try block.requiredString("text"))
      case "thinking": thoughts.append(try block.requiredString("thinking"))
      case "redacted_thinking": break
      case "tool_use":
        calls.append([
          "id": .string(try block.requiredString("id")), "type": "function",
          "function": [
            "name": .string(try block.requiredString("name")),
            "arguments": .object(try block.fields("input")?.object ?? JSONObject()),
          ],
        ])
      default:
        throw .badField(
          path: block.path("type"), reason: "must be text, thinking or tool_use in this turn.")
      }
    }
    return .object(
      JSONObject([
        ("role", "assistant"), ("content", .string(texts.joined(separator: "\n"))),
        (
          "reasoning_content",
          thoughts.isEmpty ? nil : .string(thoughts.joined(separator: "\n"))
        ),
        ("tool_calls", calls.isEmpty ? nil : .array(calls)),
      ]))
  }

  private static func tools(_ fields: FieldReader) throws(APIError) -> [ChatTool] {
    var tools: [ChatTool] = []
    for (index, value) in (try fields.array("tools") ?? []).enumerated() {
      let tool = try FieldReader(value, path: "\(fields.path("tools"))[\(index)]")
      let type = try tool.string("type") ?? "custom"
      guard type == "custom" else {
        throw .badField(path: tool.path("type"), reason: "must be custom; no other tools exist.")
      }
      tools.append(try ChatTools.read(function: tool, schemaKey: "input_schema"))
    }
    return try ChatTools.checked(tools, path: fields.path("tools"))
  }

  private static func readChoice(
    _ fields: FieldReader, into chat: inout ChatRequest
  ) throws(APIError) {
    chat.toolChoice = chat.tools.isEmpty ? .none : .auto
    guard let choice = try fields.fields("tool_choice") else { return }
    chat.allowsParallelCalls = try choice.boolean("disable_parallel_tool_use") != true
    switch try choice.requiredString("type") {
    case "auto": break
    case "none": chat.toolChoice = .none
    case "any": chat.toolChoice = .required
    case "tool":
      let name = try choice.requiredString("name")
      guard chat.tools.contains(where: { $0.name == name }) else {
        throw .badField(path: choice.path("name"), reason: "is not among the tools.")
      }
      chat.toolChoice = .named(name)
    default:
      throw .badField(path: choice.path("type"), reason: "must be auto, any, tool or none.")
    }
    if chat.toolChoice.isForced && chat.tools.isEmpty {
      throw .badField(path: choice.path, reason: "needs `tools`.")
    }
  }

  private static func readThinking(
    _ fields: FieldReader, into chat: inout ChatRequest
  ) throws(APIError) {
    guard let thinking = try fields.fields("thinking") else { return }
    switch try thinking.requiredString("type") {
    case "enabled":
      chat.options.thinkingTokenBudget = try thinking.integer("budget_tokens", in: 1...Int.max)
      chat.input.setThinking(true)
    case "adaptive": break
    case "disabled":
      chat.input.setThinking(false)
      chat.reasoning.isIncluded = false
    default:
      throw .badField(
        path: thinking.path("type"), reason: "must be enabled, disabled or adaptive.")
    }
  }
}
