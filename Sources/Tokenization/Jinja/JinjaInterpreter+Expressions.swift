extension JinjaInterpreter {
  /// The value of an expression.
  mutating func evaluate(_ node: JinjaNode) throws(TemplateError) -> JinjaValue {
    try descend()
    defer { ascend() }
    line = node.line
    switch node.expression {
    case .constant(let constant): return JinjaValue(constant)
    case .name(let name): return lookUp(name)
    case .list(let nodes): return .list(try evaluate(nodes))
    case .tuple(let nodes): return .tuple(try evaluate(nodes))
    case .mapping(let members): return try evaluateMapping(members)
    case .attribute(let operand, let name):
      let value = try evaluate(operand)
      line = node.line
      return try attribute(name, of: value)
    case .item(let operand, let index):
      let value = try evaluate(operand)
      let key = try evaluate(index)
      line = node.line
      return try item(key, of: value)
    case .slice(let operand, let start, let stop, let step):
      let value = try evaluate(operand)
      let bounds = (try evaluate(start), try evaluate(stop), try evaluate(step))
      return try slice(value, bounds.0, bounds.1, bounds.2)
    case .call: return try evaluateCall(node, caller: nil)
    case .filter(let operand, let name, let arguments):
      let value = try evaluate(operand)
      let evaluated = try evaluate(arguments)
      line = node.line
      return try applyFilter(name, value, JinjaArgumentReader(name, evaluated, line: node.line))
    case .test(let operand, let name, let arguments):
      let value = try evaluate(operand)
      let evaluated = try evaluate(arguments)
      line = node.line
      return .boolean(try applyTest(name, value, evaluated.positional))
    case .captured: return .string(captured.last ?? "")
    default: return try evaluateOperation(node)
    }
  }

  private mutating func evaluate(_ nodes: [JinjaNode]) throws(TemplateError) -> [JinjaValue] {
    var values: [JinjaValue] = []
    for node in nodes { values.append(try evaluate(node)) }
    return values
  }

  private mutating func evaluate(_ node: JinjaNode?) throws(TemplateError) -> JinjaValue? {
    guard let node else { return nil }
    return try evaluate(node)
  }

  private mutating func evaluateMapping(
    _ members: [(key: JinjaNode, value: JinjaNode)]
  ) throws(TemplateError) -> JinjaValue {
    var mapping = JinjaMapping()
    for (keyNode, valueNode) in members {
      let key = try evaluate(keyNode)
      guard JinjaMapping.canHold(key: key) else {
        throw .wrongKind(line: line, operation: "use as a key", kind: key.kind)
      }
      mapping[key] = try evaluate(valueNode)
    }
    return .mapping(mapping)
  }

  /// Logic, comparison and arithmetic.
  private mutating func evaluateOperation(_ node: JinjaNode) throws(TemplateError) -> JinjaValue {
    switch node.expression {
    case .and(let left, let right):
      let value = try evaluate(left)
      return value.isTrue ? try evaluate(right) : value
    case .or(let left, let right):
      let value = try evaluate(left)
      return value.isTrue ? value : try evaluate(right)
    case .negation(let operand): return .boolean(!(try evaluate(operand)).isTrue)
    case .condition(let test, let then, let otherwise):
      if try evaluate(test).isTrue { return try evaluate(then) }
      guard let otherwise else {
        return .undefined("the inline if-expression evaluated to false and has no else part")
      }
      return try evaluate(otherwise)
    case .concatenation(let parts):
      var text = ""
      for part in parts { text += try self.text(of: try evaluate(part)) }
      return try checked(text)
    case .comparison(let first, let operations):
      var left = try evaluate(first)
      for (operation, operand) in operations {
        let right = try evaluate(operand)
        line = node.line
        guard try compare(operation, left, right) else { return .boolean(false) }
        left = right
      }
      return .boolean(true)
    case .unary(let symbol, let operand):
      let value = try evaluate(operand)
      line = node.line
      return try JinjaArithmetic(line: node.line).unary(symbol, value)
    case .binary(let symbol, let left, let right):
      let (first, second) = (try evaluate(left), try evaluate(right))
      line = node.line
      if symbol == "%", case .string(let format) = first {
        return try checked(try self.format(format, with: second))
      }
      let value = try JinjaArithmetic(line: node.line, limits: limits).binary(symbol, first, second)
      if case .string(let text) = value { return try checked(text) }
      return value
    default: preconditionFailure("every other expression is evaluated by its own case")
    }
  }

  private func lookUp(_ name: String) -> JinjaValue {
    if let value = scope.value(of: name) { return value }
    if Self.globalNames.contains(name) { return .function(name) }
    return .undefined("'\(name)'")
  }

  // MARK: Comparison

  func compare(
    _ operation: String, _ left: JinjaValue, _ right: JinjaValue
  ) throws(TemplateError) -> Bool {
    switch operation {
    case "==": return left.isEqual(to: right)
    case "!=": return !left.isEqual(to: right)
    case "in", "not in":
      guard let isContained = right.contains(left) else {
        throw .wrongKind(line: line, operation: "'in' for a \(left.kind)", kind: right.kind)
      }
      return isContained == (operation == "in")
    default: return try order(operation, left, right)
    }
  }

  private func order(
    _ operation: String, _ left: JinjaValue, _ right: JinjaValue
  ) throws(TemplateError) -> Bool {
    for value in [left, right] {
      if case .undefined(let what) = value { throw .undefined(line: line, name: what) }
    }
    guard let isLess = left.isLess(than: right), let isGreater = right.isLess(than: left) else {
      throw .wrongKind(
        line: line, operation: "'\(operation)' after a \(left.kind)", kind: right.kind)
    }
    switch operation {
    case "<": return isLess
    case ">": return isGreater
    case "<=": return isLess || left.isEqual(to: right)
    default: return isGreater || left.isEqual(to: right)
    }
  }

  // MARK: Parts of values

  /// `value.name`: a method or a loop's member first, then an element.
  func attribute(_ name: String, of value: JinjaValue) throws(TemplateError) -> JinjaValue {
    if let member = try member(name, of: value) { return member }
    if case .mapping(let mapping) = value, let found = mapping[name] { return found }
    return .undefined("'\(value.kind) object' has no attribute '\(name)'")
  }

  private func member(_ name: String, of value: JinjaValue) throws(TemplateError) -> JinjaValue? {
    switch value {
    case .undefined(let what): throw .undefined(line: line, name: what)
    case .namespace(let namespace): return namespace.members[name]
    case .loop(let state):
      if let member = state.member(name) { return member }
      return ["cycle", "changed"].contains(name) ? .method(value, name) : nil
    case .cycler(let cycler):
      if name == "current" { return cycler.items[cycler.position % cycler.items.count] }
      return ["next", "reset"].contains(name) ? .method(value, name) : nil
    case .macro(let macro): return name == "name" ? .string(macro.definition.name) : nil
    default:
      if let names = Self.mutatingMethodNames[value.kind], names.contains(name) {
        return .undefined("access to '\(name)' of a \(value.kind)")
      }
      let isMethod = Self.methodNames[value.kind]?.contains(name) ?? false
      return isMethod ? .method(value, name) : nil
    }
  }

  /// `value[key]`: an element first, then, for names, an attribute.
  func item(_ key: JinjaValue, of value: JinjaValue) throws(TemplateError) -> JinjaValue {
    switch value {
    case .undefined(let what): throw .undefined(line: line, name: what)
    case .mapping(let mapping):
      if let found = mapping[key] { return found }
    case .list(let elements), .tuple(let elements):
      if let index = key.integer {
        let place = index < 0 ? index + elements.count : index
        if elements.indices.contains(place) { return elements[place] }
        return .undefined("element \(index) of a \(value.kind) of \(elements.count)")
      }
    case .string(let text):
      if let index = key.integer {
        let scalars = Array(text.unicodeScalars)
        let place = index < 0 ? index + scalars.count : index
        if scalars.indices.contains(place) { return .string(String(Character(scalars[place]))) }
        return .undefined("character \(index) of a string of \(scalars.count)")
      }
    default: break
    }
    if case .string(let name) = key {
      if let member = try member(name, of: value) { return member }
      return .undefined("'\(value.kind) object' has no attribute '\(name)'")
    }
    return .undefined("element \(key.representation) of a \(value.kind)")
  }

  private func slice(
    _ value: JinjaValue, _ start: JinjaValue?, _ stop: JinjaValue?, _ step: JinjaValue?
  ) throws(TemplateError) -> JinjaValue {
    func bound(_ bound: JinjaValue?) throws(TemplateError) -> Int? {
      guard let bound else { return nil }
      if case .none = bound { return nil }
      guard let index = bound.integer else {
        throw .wrongKind(line: line, operation: "slicing by", kind: bound.kind)
      }
      return index
    }
    let bounds = (try bound(start), try bound(stop), try bound(step) ?? 1)
    guard bounds.2 != 0 else { throw .impossible(line: line, operation: "slice step is zero") }
    func cut<Element>(_ elements: [Element]) -> [Element] {
      Self.slice(elements, bounds.0, bounds.1, bounds.2)
    }
    switch value {
    case .list(let elements): return .list(cut(elements))
    case .tuple(let elements): return .tuple(cut(elements))
    case .string(let text):
      var result = ""
      result.unicodeScalars.append(contentsOf: cut(Array(text.unicodeScalars)))
      return .string(result)
    case .undefined(let what): throw .undefined(line: line, name: what)
    default: return .undefined("a slice of a \(value.kind)")
    }
  }

  /// Python's slicing of a sequence.
  private static func slice<Element>(
    _ elements: [Element], _ start: Int?, _ stop: Int?, _ step: Int
  ) -> [Element] {
    let count = elements.count
    let lowest = step > 0 ? 0 : -1
    let highest = step > 0 ? count : count - 1
    func clamped(_ bound: Int?, _ fallback: Int) -> Int {
      guard let bound else { return fallback }
      let place = bound < 0 ? max(bound, -count - 1) + count : bound
      return min(max(place, lowest), highest)
    }
    let first = clamped(start, step > 0 ? lowest : highest)
    let last = clamped(stop, step > 0 ? highest : lowest)
    return stride(from: first, to: last, by: step).map { elements[$0] }
  }

  // MARK: Arguments

  mutating func evaluate(
    _ arguments: JinjaArguments
  ) throws(TemplateError) -> JinjaCallArguments {
    var result = JinjaCallArguments()
    result.positional = try evaluate(arguments.positional)
    for (name, node) in arguments.named { result.named.append((name, try evaluate(node))) }
    if let node = arguments.unpackedList {
      result.positional += try items(of: try evaluate(node))
    }
    if let node = arguments.unpackedMapping {
      let value = try evaluate(node)
      guard case .mapping(let mapping) = value else {
        throw .wrongKind(line: line, operation: "'**'", kind: value.kind)
      }
      for (key, value) in mapping.entries { result.named.append((key.text, value)) }
    }
    return result
  }
}
