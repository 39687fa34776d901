package import JSONScanning

/// What an output is constrained to.
package indirect enum GrammarSource: Sendable {
  /// A JSON value that a schema allows.
  case jsonSchema(JSONValue)
  /// Any JSON object.
  case jsonObject
  /// A text that a regular expression matches as a whole.
  case regex(String)
  /// One of these texts.
  case choice([String])
  /// A call of one of these tools in Step3's format, or several calls.
  case toolCalls([ConstrainedTool], allowsSeveral: Bool)
  /// What either of two allows, such as a value or calls.
  case either(GrammarSource, GrammarSource)
}

extension Grammar {
  /// Compiles a constraint for a vocabulary, or says what about it cannot be enforced.
  ///
  /// With `afterThinking` the output begins within a think block: any text goes up to the first
  /// `</think>`, the constraint begins behind it, and the output cannot end before. Special tokens
  /// that the grammar does not name are never allowed.
  package static func compile(
    _ source: GrammarSource, vocabulary: TokenVocabulary, afterThinking: Bool = false
  ) throws(GrammarError) -> Grammar {
    var builder = GrammarBuilder(vocabulary: vocabulary)
    var expression = try builder.expression(source)
    if afterThinking {
      expression = .sequence([
        try thinking(&builder), .repeated(.text("\n"), min: 0, max: 2), expression,
      ])
    }
    return try Grammar(expression, builder)
  }

  /// Any text up to `</think>`.
  private static func thinking(
    _ builder: inout GrammarBuilder
  ) throws(GrammarError) -> Expression {
    let marker = "</think>"
    let until = UntilMarker(marker, token: builder.vocabulary.specialID(marker))
    let automaton = try builder.automaton(until, path: "$")
    return automaton.map { builder.leaf($0) } ?? .never
  }
}

extension GrammarBuilder {
  /// What a source allows.
  fileprivate mutating func expression(
    _ source: GrammarSource
  ) throws(GrammarError) -> Expression {
    switch source {
    case .jsonSchema(let schema):
      var compiler = SchemaCompiler(root: schema, builder: self)
      defer { self = compiler.builder }
      return try compiler.compile(schema, path: "$")
    case .jsonObject:
      var compiler = SchemaCompiler(root: .boolean(true), builder: self)
      defer { self = compiler.builder }
      return compiler.anyObject()
    case .regex(let pattern):
      return try leaf(try RegexParser.parse(pattern, path: "regex"), path: "regex")
    case .choice(let texts):
      return try leaf(.choice(texts.map { .text($0) }), path: "choice")
    case .toolCalls(let tools, let allowsSeveral):
      var compiler = ToolGrammar(builder: self)
      defer { self = compiler.builder }
      return try compiler.compile(tools, allowsSeveral: allowsSeveral)
    case .either(let first, let second):
      return .choice([try expression(first), try expression(second)])
    }
  }
}
