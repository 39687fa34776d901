package import JSONScanning

/// A checkpoint's chat template: turns messages into the prompt the model was trained on.
///
/// Templates are Jinja programs; this executes them as transformers does (`jinja2` in its
/// immutable sandbox with `trim_blocks`, `lstrip_blocks` and loop controls, `tojson` without HTML
/// escapes, `raise_exception` and `strftime_now`). What chat templates never use (inheritance,
/// includes, imports, autoescape) is refused by name.
package struct ChatTemplate: Sendable {
  /// The template's text.
  package let source: String
  /// Where it came from.
  package let origin: Origin
  private let statements: [JinjaStatement]
  /// The checkpoint's own template for messages with tools.
  private let toolStatements: [JinjaStatement]?

  /// Parses a template.
  package init(source: String) throws(TemplateError) {
    try self.init(source: source, origin: .source)
  }

  init(source: String, toolSource: String? = nil, origin: Origin) throws(TemplateError) {
    self.source = source
    self.origin = origin
    statements = try JinjaParser.statements(of: source)
    var toolStatements: [JinjaStatement]?
    if let toolSource { toolStatements = try JinjaParser.statements(of: toolSource) }
    self.toolStatements = toolStatements
  }

  /// The prompt for `messages`.
  ///
  /// `extra` sets further variables (`enable_thinking`, `documents`, ...) and wins over the
  /// others, as keyword arguments of `apply_chat_template` do. `date` is what `strftime_now` tells.
  package func render(
    messages: [JSONValue], tools: [JSONValue]? = nil, addGenerationPrompt: Bool = true,
    bosToken: String? = nil, eosToken: String? = nil, extra: [String: JSONValue] = [:],
    date: TemplateDate? = nil
  ) throws(TemplateError) -> String {
    var variables: [String: JinjaValue] = [
      "messages": .list(messages.map(JinjaValue.init)),
      "tools": tools.map { .list($0.map(JinjaValue.init)) } ?? .none,
      "documents": .none,
      "add_generation_prompt": .boolean(addGenerationPrompt),
    ]
    if let bosToken { variables["bos_token"] = .string(bosToken) }
    if let eosToken { variables["eos_token"] = .string(eosToken) }
    for (name, value) in extra { variables[name] = JinjaValue(value) }
    let program = tools == nil ? statements : toolStatements ?? statements
    return try JinjaInterpreter.render(
      program, variables: variables, date: date ?? TemplateDate.now)
  }
}
