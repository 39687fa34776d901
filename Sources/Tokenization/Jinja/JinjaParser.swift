/// Builds a template's statements from its tokens (the grammar of `jinja2.parser`).
struct JinjaParser {
  private let tokens: [JinjaToken]
  private var position = 0
  /// Loops around the statement being read, for `break` and `continue`.
  private var loopDepth = 0
  private var depth = 0
  /// Names used by the macro body being read, to know whether it catches extra arguments.
  var usedNames: Set<String> = []

  private static let depthLimit = 120
  private static let chainLimit = 300

  /// The statements of `source`.
  static func statements(of source: String) throws(TemplateError) -> [JinjaStatement] {
    var parser = JinjaParser(tokens: try JinjaLexer.tokens(of: source))
    return try parser.parseBody(until: [])
  }

  private init(tokens: [JinjaToken]) { self.tokens = tokens }

  // MARK: Tokens

  var current: JinjaToken { tokens[position] }
  var following: JinjaToken { tokens[min(position + 1, tokens.count - 1)] }
  var line: Int { current.line }

  @discardableResult
  mutating func advance() -> JinjaToken {
    defer { if position + 1 < tokens.count { position += 1 } }
    return tokens[position]
  }

  func isSymbol(_ symbol: String) -> Bool { current.kind == .symbol(symbol) }
  func isName(_ name: String) -> Bool { current.kind == .name(name) }

  mutating func skip(symbol: String) -> Bool {
    guard isSymbol(symbol) else { return false }
    advance()
    return true
  }

  mutating func skip(name: String) -> Bool {
    guard isName(name) else { return false }
    advance()
    return true
  }

  func failure(expected: String) -> TemplateError {
    .syntax(line: line, expected: expected, found: current.description)
  }

  mutating func expect(symbol: String) throws(TemplateError) {
    guard skip(symbol: symbol) else { throw failure(expected: "'\(symbol)'") }
  }

  mutating func expectName() throws(TemplateError) -> String {
    guard case .name(let name) = current.kind else { throw failure(expected: "a name") }
    advance()
    return name
  }

  private mutating func expectBlockEnd() throws(TemplateError) {
    guard current.kind == .blockEnd else { throw failure(expected: "'%}'") }
    advance()
  }

  /// Runs a nested part of the grammar; sources nested without end would exhaust the stack.
  mutating func descend() throws(TemplateError) {
    depth += 1
    guard depth <= Self.depthLimit else { throw .limitExceeded(line: line, .depth) }
  }

  mutating func ascend() { depth -= 1 }

  /// Counts one more operator of a chain: each makes the tree one level deeper.
  func lengthen(_ chain: inout Int) throws(TemplateError) {
    chain += 1
    guard chain <= Self.chainLimit else { throw .limitExceeded(line: line, .depth) }
  }

  // MARK: Statements

  /// Reads statements up to a tag with one of `names`, which stays unread but for its `{%`.
  private mutating func parseBody(until names: [String]) throws(TemplateError) -> [JinjaStatement] {
    try descend()
    defer { ascend() }
    var statements: [JinjaStatement] = []
    while true {
      switch current.kind {
      case .data(let text):
        statements.append(.text(text))
        advance()
      case .variableBegin:
        advance()
        statements.append(.output(try parseTuple()))
        guard current.kind == .variableEnd else { throw failure(expected: "'}}'") }
        advance()
      case .blockBegin:
        advance()
        if case .name(let name) = current.kind, names.contains(name) { return statements }
        statements.append(try parseStatement())
        try expectBlockEnd()
      default:
        guard names.isEmpty else {
          throw failure(expected: names.map { "'\($0)'" }.joined(separator: " or "))
        }
        return statements
      }
    }
  }

  /// Reads a body after its opening tag, up to the tag `end`, which is read too.
  private mutating func parseBlock(_ end: String) throws(TemplateError) -> [JinjaStatement] {
    try expectBodyStart()
    let body = try parseBody(until: [end])
    advance()
    return body
  }

  private mutating func expectBodyStart() throws(TemplateError) {
    _ = skip(symbol: ":")
    try expectBlockEnd()
  }

  private mutating func parseStatement() throws(TemplateError) -> JinjaStatement {
    let line = line
    let name = try expectName()
    switch name {
    case "if": return try parseIf()
    case "for": return try parseFor(line)
    case "set": return try parseSet(line)
    case "macro": return try parseMacro()
    case "call": return try parseCall(line)
    case "filter":
      let filter = try parseFilterChain(
        JinjaNode(expression: .captured, line: line), startsInline: true)
      return .filterBlock(filter, body: try parseBlock("endfilter"))
    case "with": return try parseWith(line)
    case "print": return .output(try parseTuple())
    // Marks what the model is trained to say; a scope of its own, as transformers makes it.
    case "generation": return .with([], body: try parseBlock("endgeneration"), line: line)
    case "break", "continue":
      guard loopDepth > 0 else {
        throw .syntax(line: line, expected: "a loop around it", found: "'\(name)'")
      }
      return name == "break" ? .breakLoop : .continueLoop
    default: throw .unsupported(line: line, construct: "the statement '\(name)'")
    }
  }

  private mutating func parseIf() throws(TemplateError) -> JinjaStatement {
    var branches: [(test: JinjaNode, body: [JinjaStatement])] = []
    var otherwise: [JinjaStatement] = []
    while true {
      let test = try parseTuple(allowsCondition: false)
      try expectBodyStart()
      branches.append((test, try parseBody(until: ["elif", "else", "endif"])))
      if skip(name: "elif") { continue }
      if skip(name: "else") { otherwise = try parseBlock("endif") } else { advance() }
      return .condition(branches, otherwise: otherwise)
    }
  }

  private mutating func parseFor(_ line: Int) throws(TemplateError) -> JinjaStatement {
    let target = try parseTarget(endingWith: "in")
    guard skip(name: "in") else { throw failure(expected: "'in'") }
    let sequence = try parseTuple(allowsCondition: false, endingWith: "recursive")
    let filter = skip(name: "if") ? try parseExpression() : nil
    let isRecursive = skip(name: "recursive")
    try expectBodyStart()
    loopDepth += 1
    let body = try parseBody(until: ["endfor", "else"])
    loopDepth -= 1
    var otherwise: [JinjaStatement] = []
    if skip(name: "else") { otherwise = try parseBlock("endfor") } else { advance() }
    return .loop(
      JinjaLoop(
        target: target, sequence: sequence, filter: filter, isRecursive: isRecursive, body: body,
        otherwise: otherwise, line: line))
  }

  private mutating func parseSet(_ line: Int) throws(TemplateError) -> JinjaStatement {
    let target = try parseTarget(allowsAttribute: true)
    if skip(symbol: "=") { return .assignment(target, try parseTuple(), line: line) }
    var filter: JinjaNode?
    if isSymbol("|") {
      filter = try parseFilterChain(
        JinjaNode(expression: .captured, line: line), startsInline: false)
    }
    return .blockAssignment(target, filter: filter, body: try parseBlock("endset"), line: line)
  }

  private mutating func parseMacro() throws(TemplateError) -> JinjaStatement {
    let name = try expectName()
    return .macro(try parseDefinition(name, try parseSignature(), end: "endmacro"))
  }

  private mutating func parseCall(_ line: Int) throws(TemplateError) -> JinjaStatement {
    let signature = isSymbol("(") ? try parseSignature() : JinjaSignature()
    let call = try parseExpression()
    guard case .call = call.expression else {
      throw .syntax(line: line, expected: "a call", found: "another expression")
    }
    let definition = try parseDefinition("caller", signature, end: "endcall")
    return .callBlock(definition, call: call, line: line)
  }

  private mutating func parseDefinition(
    _ name: String, _ signature: JinjaSignature, end: String
  ) throws(TemplateError) -> JinjaMacroDefinition {
    let outerNames = usedNames
    let outerLoops = loopDepth
    usedNames = []
    loopDepth = 0
    let body = try parseBlock(end)
    let definition = JinjaMacroDefinition(
      name: name, signature: signature, body: body,
      catchesPositional: usedNames.contains("varargs"),
      catchesNamed: usedNames.contains("kwargs"))
    usedNames.formUnion(outerNames)
    loopDepth = outerLoops
    return definition
  }

  private mutating func parseSignature() throws(TemplateError) -> JinjaSignature {
    var signature = JinjaSignature()
    try expect(symbol: "(")
    while !isSymbol(")") {
      if !signature.names.isEmpty { try expect(symbol: ",") }
      signature.names.append(try expectName())
      if skip(symbol: "=") {
        signature.defaults.append(try parseExpression())
      } else if !signature.defaults.isEmpty {
        throw failure(expected: "a default for the parameter")
      }
    }
    advance()
    return signature
  }

  private mutating func parseWith(_ line: Int) throws(TemplateError) -> JinjaStatement {
    var bindings: [(target: JinjaTarget, value: JinjaNode)] = []
    while current.kind != .blockEnd {
      if !bindings.isEmpty { try expect(symbol: ",") }
      let target = try parseTarget(allowsTuple: false)
      try expect(symbol: "=")
      bindings.append((target, try parseExpression()))
    }
    return .with(bindings, body: try parseBlock("endwith"), line: line)
  }

  // MARK: Targets

  private mutating func parseTarget(
    endingWith end: String? = nil, allowsAttribute: Bool = false, allowsTuple: Bool = true
  ) throws(TemplateError) -> JinjaTarget {
    var targets: [JinjaTarget] = []
    while true {
      if let end, isName(end), !targets.isEmpty { break }
      targets.append(try parseSingleTarget(allowsAttribute: allowsAttribute))
      guard allowsTuple, skip(symbol: ",") else {
        if targets.count == 1 { return targets[0] }
        break
      }
      if isSymbol("=") || current.kind == .blockEnd { break }
    }
    return .tuple(targets)
  }

  private mutating func parseSingleTarget(
    allowsAttribute: Bool
  ) throws(TemplateError) -> JinjaTarget {
    if skip(symbol: "(") {
      try descend()
      defer { ascend() }
      var targets: [JinjaTarget] = []
      while !isSymbol(")") {
        if !targets.isEmpty { try expect(symbol: ",") }
        if isSymbol(")") { break }
        targets.append(try parseSingleTarget(allowsAttribute: allowsAttribute))
      }
      advance()
      return .tuple(targets)
    }
    let name = try expectName()
    guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
      throw .syntax(line: line, expected: "a name that can be assigned", found: "'\(name)'")
    }
    if allowsAttribute, skip(symbol: ".") { return .attribute(name, try expectName()) }
    return .name(name)
  }
}
