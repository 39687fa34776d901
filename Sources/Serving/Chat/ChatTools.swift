import JSONScanning

/// Reads tools and the choice among them.
enum ChatTools {
  /// Tools in OpenAI's chat form, `{"type": "function", "function": {…}}`, or flat as in Responses.
  static func read(_ fields: FieldReader, key: String = "tools") throws(APIError) -> [ChatTool] {
    guard let array = try fields.array(key) else { return [] }
    guard !array.isEmpty else {
      throw .badField(path: fields.path(key), reason: "must hold at least one tool.")
    }
    var tools: [ChatTool] = []
    for (index, element) in array.enumerated() {
      let tool = try FieldReader(element, path: "\(fields.path(key))[\(index)]")
      let type = try tool.string("type") ?? "function"
      guard type == "function" else {
        throw .badField(path: tool.path("type"), reason: "must be function; no other tools exist.")
      }
      let function = try tool.fields("function") ?? tool
      tools.append(try read(function: function, schemaKey: "parameters"))
    }
    return try checked(tools, path: fields.path(key))
  }

  /// One function with its schema under `schemaKey`.
  static func read(function: FieldReader, schemaKey: String) throws(APIError) -> ChatTool {
    let name = try function.requiredString("name")
    guard !name.isEmpty, name.utf8.count <= 256,
      name.unicodeScalars.allSatisfy({ $0.value > 0x20 && $0 != "\"" && $0 != "<" && $0 != ">" })
    else {
      throw .badField(
        path: function.path("name"),
        reason: "must be a name of letters, digits, underscores, dots and dashes.")
    }
    let schema = try function.fields(schemaKey)?.object
    return ChatTool(
      name: name, description: try function.string("description"),
      parameters: schema.map { .object($0) } ?? ["type": "object", "properties": [:]],
      isStrict: try function.boolean("strict") ?? false)
  }

  static func checked(_ tools: [ChatTool], path: String) throws(APIError) -> [ChatTool] {
    var seen: Set<String> = []
    for (index, tool) in tools.enumerated() where !seen.insert(tool.name).inserted {
      throw .badField(
        path: "\(path)[\(index)].function.name", reason: "names a tool that was named before.")
    }
    return tools
  }

  /// `tool_choice` in OpenAI's forms.
  static func choice(_ fields: FieldReader, tools: [ChatTool]) throws(APIError) -> ToolChoice {
    let path = fields.path("tool_choice")
    guard let value = fields.value("tool_choice") else { return tools.isEmpty ? .none : .auto }
    if let word = value.string {
      switch word {
      case "none": return .none
      case "auto":
        guard !tools.isEmpty else { throw .badField(path: path, reason: "needs `tools`.") }
        return .auto
      case "required", "any":
        guard !tools.isEmpty else { throw .badField(path: path, reason: "needs `tools`.") }
        return .required
      default:
        throw .badField(path: path, reason: "must be none, auto, required or an object.")
      }
    }
    guard !tools.isEmpty else { throw .badField(path: path, reason: "needs `tools`.") }
    let choice = try FieldReader(value, path: path)
    switch try choice.requiredString("type") {
    case "function":
      let function = try choice.fields("function") ?? choice
      let name = try function.requiredString("name")
      guard tools.contains(where: { $0.name == name }) else {
        throw .badField(path: function.path("name"), reason: "is not among the tools.")
      }
      return .named(name)
    case "allowed_tools": return try allowed(choice, tools: tools)
    default:
      throw .badField(path: choice.path("type"), reason: "must be function or allowed_tools.")
    }
  }

  private static func allowed(
    _ choice: FieldReader, tools: [ChatTool]
  ) throws(APIError) -> ToolChoice {
    let inner = try choice.fields("allowed_tools") ?? choice
    let mode = try inner.choice("mode", of: ["auto", "required"]) ?? "auto"
    var names: [String] = []
    for (index, element) in try inner.requiredArray("tools").enumerated() {
      let tool = try FieldReader(element, path: "\(inner.path("tools"))[\(index)]")
      let function = try tool.fields("function") ?? tool
      let name = try function.requiredString("name")
      guard tools.contains(where: { $0.name == name }) else {
        throw .badField(path: function.path("name"), reason: "is not among the tools.")
      }
      names.append(name)
    }
    return .allowed(names, isRequired: mode == "required")
  }
}
