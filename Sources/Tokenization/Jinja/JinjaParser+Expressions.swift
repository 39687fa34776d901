extension JinjaParser {
  /// One expression, or several separated by commas as a tuple.
  mutating func parseTuple(
    allowsCondition: Bool = true, endingWith end: String? = nil, isInParentheses: Bool = false
  ) throws(TemplateError) -> JinjaNode {
    let line = line
    var elements: [JinjaNode] = []
    var isTuple = false
    while !isTupleEnd(end) {
      elements.append(allowsCondition ? try parseExpression() : try parseOr())
      guard skip(symbol: ",") else { break }
      isTuple = true
    }
    if !isTuple {
      if let first = elements.first { return first }
      guard isInParentheses else { throw failure(expected: "an expression") }
    }
    return JinjaNode(expression: .tuple(elements), line: line)
  }

  private func isTupleEnd(_ end: String?) -> Bool {
    switch current.kind {
    case .variableEnd, .blockEnd, .symbol(")"): return true
    case .name(let name): return name == end
    default: return false
    }
  }

  /// One expression, conditions (`a if b else c`) included.
  mutating func parseExpression() throws(TemplateError) -> JinjaNode {
    try descend()
    defer { ascend() }
    let line = line
    var node = try parseOr()
    var chain = 0
    while skip(name: "if") {
      try lengthen(&chain)
      let test = try parseOr()
      let otherwise = skip(name: "else") ? try parseExpression() : nil
      node = JinjaNode(
        expression: .condition(test, then: node, otherwise: otherwise), line: line)
    }
    return node
  }

  mutating func parseOr() throws(TemplateError) -> JinjaNode {
    let line = line
    var left = try parseAnd()
    var chain = 0
    while skip(name: "or") {
      try lengthen(&chain)
      left = JinjaNode(expression: .or(left, try parseAnd()), line: line)
    }
    return left
  }

  private mutating func parseAnd() throws(TemplateError) -> JinjaNode {
    let line = line
    var left = try parseNot()
    var chain = 0
    while skip(name: "and") {
      try lengthen(&chain)
      left = JinjaNode(expression: .and(left, try parseNot()), line: line)
    }
    return left
  }

  private mutating func parseNot() throws(TemplateError) -> JinjaNode {
    let line = line
    guard skip(name: "not") else { return try parseComparison() }
    try descend()
    defer { ascend() }
    return JinjaNode(expression: .negation(try parseNot()), line: line)
  }

  private mutating func parseComparison() throws(TemplateError) -> JinjaNode {
    let line = line
    let first = try parseSum()
    var operations: [(operation: String, operand: JinjaNode)] = []
    while true {
      if case .symbol(let symbol) = current.kind,
        ["==", "!=", "<", "<=", ">", ">="].contains(symbol)
      {
        advance()
        operations.append((symbol, try parseSum()))
      } else if skip(name: "in") {
        operations.append(("in", try parseSum()))
      } else if isName("not"), following.kind == .name("in") {
        advance()
        advance()
        operations.append(("not in", try parseSum()))
      } else {
        break
      }
    }
    if operations.isEmpty { return first }
    return JinjaNode(expression: .comparison(first, operations), line: line)
  }

  private mutating func parseSum() throws(TemplateError) -> JinjaNode {
    let line = line
    var left = try parseConcatenation()
    var chain = 0
    while case .symbol(let symbol) = current.kind, symbol == "+" || symbol == "-" {
      try lengthen(&chain)
      advance()
      left = JinjaNode(
        expression: .binary(symbol, left, try parseConcatenation()), line: line)
    }
    return left
  }

  private mutating func parseConcatenation() throws(TemplateError) -> JinjaNode {
    let line = line
    var parts = [try parseProduct()]
    while skip(symbol: "~") { parts.append(try parseProduct()) }
    return parts.count == 1 ? parts[0] : JinjaNode(expression: .concatenation(parts), line: line)
  }

  private mutating func parseProduct() throws(TemplateError) -> JinjaNode {
    let line = line
    var left = try parsePower()
    var chain = 0
    while case .symbol(let symbol) = current.kind, ["*", "/", "//", "%"].contains(symbol) {
      try lengthen(&chain)
      advance()
      left = JinjaNode(expression: .binary(symbol, left, try parsePower()), line: line)
    }
    return left
  }

  private mutating func parsePower() throws(TemplateError) -> JinjaNode {
    let line = line
    var left = try parseUnary()
    var chain = 0
    while skip(symbol: "**") {
      try lengthen(&chain)
      left = JinjaNode(expression: .binary("**", left, try parseUnary()), line: line)
    }
    return left
  }

  private mutating func parseUnary(allowsFilter: Bool = true) throws(TemplateError) -> JinjaNode {
    let line = line
    var node: JinjaNode
    if case .symbol(let symbol) = current.kind, symbol == "-" || symbol == "+" {
      try descend()
      defer { ascend() }
      advance()
      node = JinjaNode(
        expression: .unary(symbol, try parseUnary(allowsFilter: false)), line: line)
    } else {
      node = try parsePrimary()
    }
    node = try parsePostfix(node)
    return allowsFilter ? try parseFilters(node) : node
  }

  private mutating func parsePrimary() throws(TemplateError) -> JinjaNode {
    let line = line
    func constant(_ value: JinjaConstant) -> JinjaNode {
      JinjaNode(expression: .constant(value), line: line)
    }
    switch current.kind {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return constant(.boolean(true))
      case "false", "False": return constant(.boolean(false))
      case "none", "None": return constant(.none)
      default:
        usedNames.insert(name)
        return JinjaNode(expression: .name(name), line: line)
      }
    case .string(var text):
      advance()
      while case .string(let more) = current.kind {
        text += more
        advance()
      }
      return constant(.string(text))
    case .integer(let value):
      advance()
      return constant(.integer(value))
    case .float(let value):
      advance()
      return constant(.float(value))
    case .symbol("("):
      advance()
      let node = try parseTuple(isInParentheses: true)
      try expect(symbol: ")")
      return node
    case .symbol("["): return try parseList()
    case .symbol("{"): return try parseMapping()
    default: throw failure(expected: "an expression")
    }
  }

  private mutating func parseList() throws(TemplateError) -> JinjaNode {
    let line = advance().line
    var elements: [JinjaNode] = []
    while !isSymbol("]") {
      if !elements.isEmpty { try expect(symbol: ",") }
      if isSymbol("]") { break }
      elements.append(try parseExpression())
    }
    advance()
    return JinjaNode(expression: .list(elements), line: line)
  }

  private mutating func parseMapping() throws(TemplateError) -> JinjaNode {
    let line = advance().line
    var members: [(key: JinjaNode, value: JinjaNode)] = []
    while !isSymbol("}") {
      if !members.isEmpty { try expect(symbol: ",") }
      if isSymbol("}") { break }
      let key = try parseExpression()
      try expect(symbol: ":")
      members.append((key, try parseExpression()))
    }
    advance()
    return JinjaNode(expression: .mapping(members), line: line)
  }

  // MARK: After an operand

  private mutating func parsePostfix(_ operand: JinjaNode) throws(TemplateError) -> JinjaNode {
    var node = operand
    var chain = 0
    while case .symbol(let symbol) = current.kind {
      try lengthen(&chain)
      switch symbol {
      case ".": node = try parseAttribute(node)
      case "[": node = try parseSubscript(node)
      case "(": node = JinjaNode(expression: .call(node, try parseArguments()), line: line)
      default: return node
      }
    }
    return node
  }

  private mutating func parseFilters(_ operand: JinjaNode) throws(TemplateError) -> JinjaNode {
    var node = operand
    var chain = 0
    while true {
      try lengthen(&chain)
      if isSymbol("|") {
        node = try parseFilterChain(node, startsInline: false)
      } else if isName("is") {
        node = try parseTest(node)
      } else if isSymbol("(") {
        node = JinjaNode(expression: .call(node, try parseArguments()), line: line)
      } else {
        return node
      }
    }
  }

  /// Filters one after the other; the first has no `|` before it where a tag begins with it.
  mutating func parseFilterChain(
    _ operand: JinjaNode, startsInline: Bool
  ) throws(TemplateError) -> JinjaNode {
    var node = operand
    var isInline = startsInline
    var chain = 0
    while isInline || isSymbol("|") {
      try lengthen(&chain)
      if !isInline { advance() }
      isInline = false
      let line = line
      let name = try expectName()
      let arguments = isSymbol("(") ? try parseArguments() : JinjaArguments()
      node = JinjaNode(expression: .filter(node, name, arguments), line: line)
    }
    return node
  }

  private mutating func parseTest(_ operand: JinjaNode) throws(TemplateError) -> JinjaNode {
    let line = advance().line
    let isNegated = skip(name: "not")
    let name: String
    if case .symbol(let symbol) = current.kind, ["==", "!=", "<", "<=", ">", ">="].contains(symbol)
    {
      throw failure(expected: "the name of a test")
    } else {
      name = try expectName()
    }
    var arguments = JinjaArguments()
    switch current.kind {
    case .symbol("("): arguments = try parseArguments()
    case .name("else"), .name("or"), .name("and"): break
    case .name("is"): throw failure(expected: "something other than a second test")
    case .name, .string, .integer, .float, .symbol("["), .symbol("{"):
      // `x is divisibleby 3`; a keyword such as `if` cannot begin an operand and ends the test.
      if isName("if") || isName("not") || isName("in") { break }
      arguments.positional = [try parsePostfix(try parsePrimary())]
    default: break
    }
    let node = JinjaNode(expression: .test(operand, name, arguments), line: line)
    return isNegated ? JinjaNode(expression: .negation(node), line: line) : node
  }

  private mutating func parseAttribute(_ operand: JinjaNode) throws(TemplateError) -> JinjaNode {
    let line = advance().line
    if case .integer(let index) = current.kind {
      advance()
      let key = JinjaNode(expression: .constant(.integer(index)), line: line)
      return JinjaNode(expression: .item(operand, key), line: line)
    }
    return JinjaNode(expression: .attribute(operand, try expectName()), line: line)
  }

  private mutating func parseSubscript(_ operand: JinjaNode) throws(TemplateError) -> JinjaNode {
    let line = advance().line
    var start: JinjaNode?
    if !isSymbol(":") {
      let index = try parseExpression()
      guard isSymbol(":") else {
        try expect(symbol: "]")
        return JinjaNode(expression: .item(operand, index), line: line)
      }
      start = index
    }
    advance()
    let stop = isSymbol(":") || isSymbol("]") ? nil : try parseExpression()
    var step: JinjaNode?
    if skip(symbol: ":"), !isSymbol("]") { step = try parseExpression() }
    try expect(symbol: "]")
    return JinjaNode(
      expression: .slice(operand, start: start, stop: stop, step: step), line: line)
  }

  mutating func parseArguments() throws(TemplateError) -> JinjaArguments {
    try expect(symbol: "(")
    var arguments = JinjaArguments()
    var isFirst = true
    while !isSymbol(")") {
      if !isFirst { try expect(symbol: ",") }
      isFirst = false
      if isSymbol(")") { break }
      let isLast = arguments.unpackedMapping != nil
      if skip(symbol: "*") {
        guard arguments.unpackedList == nil, !isLast else { throw failure(expected: "')'") }
        arguments.unpackedList = try parseExpression()
      } else if skip(symbol: "**") {
        guard !isLast else { throw failure(expected: "')'") }
        arguments.unpackedMapping = try parseExpression()
      } else if case .name(let name) = current.kind, following.kind == .symbol("=") {
        guard !isLast else { throw failure(expected: "')'") }
        advance()
        advance()
        arguments.named.append((name, try parseExpression()))
      } else {
        guard arguments.named.isEmpty, arguments.unpackedList == nil, !isLast else {
          throw failure(expected: "a named argument")
        }
        arguments.positional.append(try parseExpression())
      }
    }
    advance()
    return arguments
  }
}
