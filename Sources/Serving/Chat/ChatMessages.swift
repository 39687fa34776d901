import JSONScanning

/// Checks the messages of OpenAI's chat form and puts them into the form templates expect.
///
/// Roles are system, user, assistant and tool; content is a string; the arguments of tool calls
/// are JSON values; reasoning of earlier turns is `reasoning_content`.
enum ChatMessages {
  static func normalised(_ messages: [JSONValue], path: String) throws(APIError) -> [JSONValue] {
    guard !messages.isEmpty else {
      throw .badField(path: path, reason: "must hold at least one message.")
    }
    var result: [JSONValue] = []
    for (index, message) in messages.enumerated() {
      let fields = try FieldReader(message, path: "\(path)[\(index)]")
      result.append(.object(try normalised(fields)))
    }
    return result
  }

  private static func normalised(_ fields: FieldReader) throws(APIError) -> JSONObject {
    let role = try fields.requiredString("role")
    var message = JSONObject()
    switch role {
    case "system", "developer": message["role"] = "system"
    case "user", "assistant": message["role"] = .string(role)
    case "tool", "function": message["role"] = "tool"
    default:
      throw .badField(
        path: fields.path("role"),
        reason: "must be one of system, developer, user, assistant, tool, function, not "
          + "\(JSONValue.string(String(role.prefix(40))).text(.compact)).")
    }
    let calls = role == "assistant" ? try toolCalls(fields) : []
    let mayBeEmpty = role == "assistant"
    if let content = try content(fields, mayBeEmpty: mayBeEmpty) {
      message["content"] = content
    } else {
      // Templates join the content to strings, so it is never null, not even beside calls.
      message["content"] = .string(try fields.string("refusal") ?? "")
    }
    if let name = try fields.string("name") { message["name"] = .string(name) }
    if role == "assistant" {
      if let reasoning = try reasoning(fields) { message["reasoning_content"] = .string(reasoning) }
      if !calls.isEmpty { message["tool_calls"] = .array(calls) }
    }
    if role == "tool", let id = try fields.string("tool_call_id") {
      message["tool_call_id"] = .string(id)
    }
    return message
  }

  /// The content as one string, or as parts where there are images.
  private static func content(
    _ fields: FieldReader, mayBeEmpty: Bool
  ) throws(APIError) -> JSONValue? {
    guard let value = fields.value("content") else {
      guard mayBeEmpty else {
        throw .badField(path: fields.path("content"), reason: "is required.")
      }
      return nil
    }
    if let string = value.string { return .string(string) }
    guard let parts = value.array else {
      throw .badField(
        path: fields.path("content"),
        reason: "must be a string or an array of parts, not \(value.kindPhrase).")
    }
    var content = MessageContent()
    for (index, part) in parts.enumerated() {
      let path = "\(fields.path("content"))[\(index)]"
      if let string = part.string {
        content.append(string)
      } else {
        // What the model has written is text: a turn of its own shows no images.
        try append(FieldReader(part, path: path), to: &content, takesImages: !mayBeEmpty)
      }
    }
    return content.json
  }

  /// Adds one part; those that are neither text nor image are refused.
  private static func append(
    _ part: FieldReader, to content: inout MessageContent, takesImages: Bool
  ) throws(APIError) {
    let type = try part.requiredString("type")
    switch type {
    case "text", "input_text", "output_text":
      content.append(try part.requiredString("text"))
    case "refusal": content.append(try part.requiredString("refusal"))
    case "thinking": content.append(try part.requiredString("thinking"))
    case "image_url", "input_image":
      guard takesImages else {
        throw .badField(path: part.path, reason: "is an image in an assistant's turn.")
      }
      try content.appendImageURL(part)
    default:
      throw .badField(
        path: part.path("type"),
        reason: "must be text or image_url, not "
          + "\(JSONValue.string(String(type.prefix(40))).text(.compact)); this model takes text "
          + "and images.")
    }
  }

  private static func toolCalls(_ fields: FieldReader) throws(APIError) -> [JSONValue] {
    var calls: [JSONValue] = []
    for (index, call) in (try fields.array("tool_calls") ?? []).enumerated() {
      let call = try FieldReader(call, path: "\(fields.path("tool_calls"))[\(index)]")
      let function = try call.requiredFields("function")
      calls.append(
        .object(
          JSONObject([
            ("id", try call.string("id").map { .string($0) }),
            ("type", "function"),
            (
              "function",
              [
                "name": .string(try function.requiredString("name")),
                "arguments": try arguments(function),
              ]
            ),
          ])))
    }
    if calls.isEmpty, let function = try fields.fields("function_call") {
      calls.append([
        "type": "function",
        "function": [
          "name": .string(try function.requiredString("name")),
          "arguments": try arguments(function),
        ],
      ])
    }
    return calls
  }

  /// A call's arguments: a JSON object as text, or one as it is.
  private static func arguments(_ function: FieldReader) throws(APIError) -> JSONValue {
    guard let value = function.value("arguments") else { return .object(JSONObject()) }
    if value.object != nil { return value }
    let path = function.path("arguments")
    guard let text = value.string else {
      throw .badField(path: path, reason: "must be JSON as a string, not \(value.kindPhrase).")
    }
    if text.allSatisfy(\.isWhitespace) { return .object(JSONObject()) }
    let parsed: JSONValue
    do throws(JSONError) {
      parsed = try JSONValue(parsing: text, duplicateKeys: .keepLast, depthLimit: 128)
    } catch { throw .badField(path: path, reason: "is not JSON: \(error).") }
    guard parsed.object != nil else {
      throw .badField(path: path, reason: "must hold a JSON object.")
    }
    return parsed
  }

  /// The reasoning of an earlier turn, under either of its names.
  private static func reasoning(_ fields: FieldReader) throws(APIError) -> String? {
    if let text = try fields.string("reasoning_content") { return text }
    return try fields.string("reasoning")
  }
}
