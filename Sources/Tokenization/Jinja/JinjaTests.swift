extension JinjaInterpreter {
  /// Whether `value is name(arguments)`.
  func applyTest(
    _ name: String, _ value: JinjaValue, _ arguments: [JinjaValue]
  ) throws(TemplateError) -> Bool {
    if let result = kindTest(name, value) { return result }
    if let operation = Self.comparisonTests[name] {
      return try compare(operation, value, try argument(name, arguments))
    }
    switch name {
    case "even", "odd", "divisibleby":
      let divisor = name == "divisibleby" ? try argument(name, arguments) : .integer(2)
      guard let number = value.integer, let by = divisor.integer, by != 0 else {
        throw .wrongKind(line: line, operation: "the test '\(name)'", kind: value.kind)
      }
      return (number % by == 0) != (name == "odd")
    case "lower", "upper":
      let text = value.text
      let cased = text.unicodeScalars.filter(\.properties.isCased)
      return !cased.isEmpty
        && text.isIdentical(to: name == "lower" ? text.lowercased() : text.uppercased())
    case "sameas":
      let other = try argument(name, arguments)
      return value.kind == other.kind && value.isEqual(to: other)
    case "filter": return Self.filterNames.contains(value.text)
    case "test": return Self.isTest(value.text)
    default: throw .unsupported(line: line, construct: "the test '\(name)'")
    }
  }

  private static let comparisonTests = [
    "eq": "==", "equalto": "==", "ne": "!=", "lt": "<", "lessthan": "<", "le": "<=", "gt": ">",
    "greaterthan": ">", "ge": ">=", "in": "in",
  ]

  private static let kindTests: Set<String> = [
    "defined", "undefined", "none", "boolean", "true", "false", "integer", "float", "number",
    "string", "mapping", "sequence", "iterable", "callable", "escaped",
  ]

  /// Whether there is a test of this name.
  static func isTest(_ name: String) -> Bool {
    kindTests.contains(name) || comparisonTests[name] != nil
      || ["even", "odd", "divisibleby", "lower", "upper", "sameas", "filter", "test"].contains(name)
  }

  private func argument(
    _ name: String, _ arguments: [JinjaValue]
  ) throws(TemplateError) -> JinjaValue {
    guard let first = arguments.first, arguments.count == 1 else {
      throw .badArguments(line: line, function: "the test '\(name)'", problem: "takes one argument")
    }
    return first
  }

  private func kindTest(_ name: String, _ value: JinjaValue) -> Bool? {
    guard Self.kindTests.contains(name) else { return nil }
    switch (name, value) {
    case ("defined", _): return !value.isUndefined
    case ("undefined", _): return value.isUndefined
    case ("none", .none), ("boolean", .boolean), ("integer", .integer), ("float", .float),
      ("string", .string), ("mapping", .mapping):
      return true
    case ("true", .boolean(let truth)): return truth
    case ("false", .boolean(let truth)): return !truth
    case ("number", .integer), ("number", .float), ("number", .boolean): return true
    case ("sequence", .string), ("sequence", .list), ("sequence", .tuple),
      ("sequence", .mapping), ("sequence", .undefined):
      return true
    case ("iterable", .string), ("iterable", .list), ("iterable", .tuple),
      ("iterable", .mapping), ("iterable", .undefined):
      return true
    case ("callable", .macro), ("callable", .function), ("callable", .method), ("callable", .loop),
      ("callable", .joiner), ("callable", .undefined):
      return true
    default: return false
    }
  }
}
