package import JSONScanning

/// A tool that an output must or may call.
package struct ConstrainedTool: Sendable {
  /// The tool's name.
  package let name: String
  /// The JSON schema of its arguments; nil for none.
  package let parameters: JSONValue?

  /// A tool of this name and schema.
  package init(name: String, parameters: JSONValue?) {
    self.name = name
    self.parameters = parameters
  }
}

/// Writes calls in Step3's tool format: the frame, and for every parameter what its schema allows.
///
/// Values are plain text between literal tags. A string is any text that does not hold the closing
/// tag; with a pattern, format, bounds or a list of values it is what those allow; any other type
/// is JSON.
struct ToolGrammar {
  var builder: GrammarBuilder
  private let close = "</steptml:parameter>"

  init(builder: GrammarBuilder) {
    self.builder = builder
  }

  /// One call of one of `tools`, or several.
  mutating func compile(
    _ tools: [ConstrainedTool], allowsSeveral: Bool
  ) throws(GrammarError) -> Expression {
    guard !tools.isEmpty else { throw .unsatisfiable(path: "tools") }
    var elements: [Expression] = []
    for (index, tool) in tools.enumerated() {
      elements.append(try element(tool, path: "tools/\(index)/parameters"))
    }
    let line = Expression.optional(.text("\n"))
    let rule = builder.declareRule()
    builder.define(
      rule,
      .sequence([
        builder.marker("<｜tool_call_begin｜>"), .text("function"),
        builder.marker("<｜tool_sep｜>"), .choice(elements), builder.marker("<｜tool_call_end｜>"),
      ]))
    let more = Expression.repeated(.sequence([line, .rule(rule)]), min: 0, max: nil)
    return .sequence([
      builder.marker("<｜tool_calls_begin｜>"), line, .rule(rule),
      allowsSeveral ? more : .empty, line, builder.marker("<｜tool_calls_end｜>"),
    ])
  }

  private mutating func element(
    _ tool: ConstrainedTool, path: String
  ) throws(GrammarError) -> Expression {
    guard !tool.name.isEmpty, !tool.name.contains("\"") else {
      throw .invalid(path: path, construct: "name", expected: "a name without quotes")
    }
    let line = Expression.optional(.text("\n"))
    var parts: [Expression] = [.text("<steptml:invoke name=\"\(tool.name)\">"), line]
    for (name, schema, isRequired) in try parameters(of: tool, path: path) {
      let place = "\(path)/properties/\(name)"
      guard !name.contains("\"") else {
        throw .invalid(path: place, construct: "name", expected: "a name without quotes")
      }
      let value = try value(schema, root: tool.parameters ?? schema, path: place)
      if value == .never {
        if isRequired { throw .unsatisfiable(path: place) }
        continue
      }
      let parameter = Expression.sequence([
        .text("<steptml:parameter name=\"\(name)\">"), value, line,
      ])
      parts.append(isRequired ? parameter : .optional(parameter))
    }
    return .sequence(parts + [.text("</steptml:invoke>")])
  }

  private func parameters(
    of tool: ConstrainedTool, path: String
  ) throws(GrammarError) -> [(String, JSONValue, Bool)] {
    guard let schema = tool.parameters else { return [] }
    let compiler = SchemaCompiler(root: schema, builder: builder)
    var whole = try compiler.expanded(schema, path: path)
    if let parts = whole["allOf"]?.array, case .object(var rest) = whole {
      rest["allOf"] = nil
      whole = .object(rest)
      for part in parts {
        whole = try SchemaMerge.merge(
          whole, try compiler.expanded(part, path: path), path: path)
      }
    }
    for keyword in ["anyOf", "oneOf", "not", "if", "$dynamicRef"] where whole[keyword] != nil {
      throw .unsupported(
        path: path, construct: keyword, reason: "arguments need one list of properties")
    }
    if let type = whole["type"], type != "object", type.array?.contains("object") != true {
      throw .invalid(path: path, construct: "type", expected: "object, for arguments are named")
    }
    let required = (whole["required"]?.array ?? []).compactMap(\.string)
    let properties = whole["properties"]?.object ?? JSONObject()
    var list = properties.members.map { ($0.key, $0.value, required.contains($0.key)) }
    for name in required where properties[name] == nil {
      guard whole["additionalProperties"] != .boolean(false) else {
        throw .unsatisfiable(path: path + "/required")
      }
      list.append((name, whole["additionalProperties"] ?? .boolean(true), true))
    }
    return list
  }

  // MARK: Values

  /// A parameter's value with its closing tag.
  private mutating func value(
    _ schema: JSONValue, root: JSONValue, path: String
  ) throws(GrammarError) -> Expression {
    let compiler = SchemaCompiler(root: root, builder: builder)
    let whole = try compiler.expanded(schema, path: path)
    for keyword in ["anyOf", "oneOf"] {
      guard let branches = whole[keyword]?.array, case .object(var rest) = whole else { continue }
      rest[keyword] = nil
      var choices: [Expression] = []
      for (index, branch) in branches.enumerated() {
        let place = "\(path)/\(keyword)/\(index)"
        let merged = try SchemaMerge.merge(
          .object(rest), try compiler.expanded(branch, path: place), path: place)
        choices.append(try value(merged, root: root, path: place))
      }
      return .choice(choices)
    }
    if let values = whole["enum"]?.array ?? whole["const"].map({ [$0] }) {
      return .sequence([try plain(values, path: path), .text(close)])
    }
    guard let names = whole["type"].map(SchemaMerge.types) else {
      if whole["properties"] != nil || whole["items"] != nil {
        return try json(whole, root: root, path: path)
      }
      // Any text is a value of no type.
      return try string(whole, path: path)
    }
    let others = names.filter { $0 != "string" }
    var choices: [Expression] = []
    if names.contains("string") { choices.append(try string(whole, path: path)) }
    if !others.isEmpty, case .object(var rest) = whole {
      rest["type"] = .array(others.map { .string($0) })
      choices.append(try json(.object(rest), root: root, path: path))
    }
    return choices.count == 1 ? choices[0] : .choice(choices)
  }

  private mutating func json(
    _ schema: JSONValue, root: JSONValue, path: String
  ) throws(GrammarError) -> Expression {
    var compiler = SchemaCompiler(root: root, builder: builder)
    let value = try compiler.compile(schema, path: path)
    builder = compiler.builder
    return value == .never ? .never : .sequence([value, .text(close)])
  }

  /// Listed values: strings as they are, all others as JSON.
  private mutating func plain(
    _ values: [JSONValue], path: String
  ) throws(GrammarError) -> Expression {
    for case .string(let text) in values where text.contains(close) {
      throw .unsupported(
        path: path, construct: "enum", reason: "a value must not hold '\(close)'")
    }
    return try builder.leaf(.choice(values.map { .text($0.string ?? $0.text()) }), path: path)
  }

  private mutating func string(
    _ schema: JSONValue, path: String
  ) throws(GrammarError) -> Expression {
    let until = try builder.automaton(UntilMarker(close), path: path)
    guard let until else { return .never }
    let object = schema.object ?? JSONObject()
    var restricted = object
    let hasBounds = object["minLength"] != nil || object["maxLength"] != nil
    if hasBounds, object["pattern"] == nil { restricted["pattern"] = "" }
    let compiler = SchemaCompiler(root: schema, builder: builder)
    guard
      let content = try compiler.stringContent(restricted, encoding: .plain, path: path)
    else { return builder.leaf(until) }
    guard let closed = try compiler.surround(content, "", close, path: path),
      let exact = try closed.combined(with: until, budget: builder.budget, path: path)
    else { throw .unsatisfiable(path: path) }
    return builder.leaf(exact)
  }
}
