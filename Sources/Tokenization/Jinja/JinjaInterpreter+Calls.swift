extension JinjaInterpreter {
  /// Functions that every template has.
  static let globalNames: Set<String> = [
    "range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now",
  ]

  /// Methods by the kind of value.
  static let methodNames: [String: Set<String>] = [
    "string": [
      "capitalize", "casefold", "center", "count", "endswith", "expandtabs", "find", "format",
      "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric",
      "isspace", "istitle", "isupper", "join", "ljust", "lower", "lstrip", "partition",
      "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit",
      "rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill",
    ],
    "list": ["copy", "count", "index"],
    "tuple": ["count", "index"],
    "mapping": ["copy", "get", "items", "keys", "values"],
  ]

  /// Methods that would change a value, which the sandbox of transformers forbids.
  static let mutatingMethodNames: [String: Set<String>] = [
    "list": ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"],
    "mapping": ["clear", "pop", "popitem", "setdefault", "update"],
  ]

  /// The value of a call; `caller` is what a call block passes along.
  mutating func evaluateCall(
    _ node: JinjaNode, caller: JinjaValue?
  ) throws(TemplateError) -> JinjaValue {
    guard case .call(let operand, let written) = node.expression else {
      return try evaluate(node)
    }
    let callee = try evaluate(operand)
    let arguments = try evaluate(written)
    line = node.line
    switch callee {
    case .macro(let macro): return try call(macro, arguments, caller: caller)
    case .function(let name):
      return try callFunction(name, JinjaArgumentReader(name, arguments, line: line))
    case .method(let receiver, let name):
      return try callMethod(
        name, of: receiver, JinjaArgumentReader(name, arguments, line: line))
    case .loop(let state):
      guard let sequence = arguments.positional.first, arguments.positional.count == 1 else {
        throw .badArguments(line: line, function: "loop", problem: "takes one sequence")
      }
      return try recurse(state, over: sequence)
    case .joiner(let joiner):
      joiner.position += 1
      return joiner.position > 1 ? joiner.items[0] : .string("")
    case .undefined(let what):
      if what.hasPrefix("access to") { throw .forbidden(line: line, construct: what) }
      throw .undefined(line: line, name: what)
    default: throw .wrongKind(line: line, operation: "a call", kind: callee.kind)
    }
  }

  private func callFunction(
    _ name: String, _ arguments: JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    var arguments = arguments
    switch name {
    case "range": return try range(arguments)
    case "dict", "namespace":
      let mapping = try self.mapping(arguments)
      return name == "dict" ? .mapping(mapping) : .namespace(JinjaNamespace(mapping))
    case "cycler":
      let items = arguments.rest().positional
      guard !items.isEmpty else { throw arguments.problem("needs at least one item") }
      return .cycler(JinjaCycler(items))
    case "joiner":
      let separator = try arguments.string("sep", default: ", ")
      return .joiner(JinjaCycler([.string(separator)]))
    case "raise_exception": throw .raised(message: try arguments.required("message").text)
    default:
      let format = try arguments.string("format")
      return .string(try date.formatted(format, line: line))
    }
  }

  private func range(_ arguments: JinjaArgumentReader) throws(TemplateError) -> JinjaValue {
    var arguments = arguments
    var bounds: [Int] = []
    for value in arguments.rest().positional {
      guard let bound = value.integer else { throw arguments.problem("bounds must be integers") }
      bounds.append(bound)
    }
    guard (1...3).contains(bounds.count) else { throw arguments.problem("takes 1 to 3 integers") }
    let start = bounds.count == 1 ? 0 : bounds[0]
    let stop = bounds.count == 1 ? bounds[0] : bounds[1]
    let step = bounds.count == 3 ? bounds[2] : 1
    guard step != 0 else { throw arguments.problem("the step is zero") }
    let distance = step > 0 ? Double(stop) - Double(start) : Double(start) - Double(stop)
    guard distance / Double(step.magnitude) <= Double(limits.rangeLength) else {
      throw .limitExceeded(line: line, .rangeLength)
    }
    return .list(stride(from: start, to: stop, by: step).map { .integer($0) })
  }

  /// What `dict(...)` and `namespace(...)` are made of: a mapping or pairs, and named arguments.
  private func mapping(_ arguments: JinjaArgumentReader) throws(TemplateError) -> JinjaMapping {
    var arguments = arguments
    let (positional, named) = arguments.rest()
    var result = JinjaMapping()
    guard positional.count <= 1 else { throw arguments.problem("takes at most one mapping") }
    switch positional.first {
    case .mapping(let mapping): result = mapping
    case nil: break
    case let pairs?:
      for pair in try items(of: pairs) {
        let parts = try items(of: pair)
        guard parts.count == 2, JinjaMapping.canHold(key: parts[0]) else {
          throw arguments.problem("takes a mapping or pairs")
        }
        result[parts[0]] = parts[1]
      }
    }
    for (name, value) in named { result[.string(name)] = value }
    return result
  }

  // MARK: Methods

  private func callMethod(
    _ name: String, of receiver: JinjaValue, _ arguments: JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    switch receiver {
    case .string(let text):
      let value = try JinjaStringMethods(text: text, line: line, interpreter: self)
        .call(name, arguments)
      if case .string(let result) = value { return try checked(result) }
      return value
    case .list(let elements), .tuple(let elements):
      return try callListMethod(name, receiver, elements, arguments)
    case .mapping(let mapping): return try callMappingMethod(name, mapping, arguments)
    case .loop(let state): return try callLoopMethod(name, state, arguments)
    case .cycler(let cycler):
      let current = cycler.items[cycler.position % cycler.items.count]
      cycler.position = name == "reset" ? 0 : cycler.position + 1
      return name == "reset" ? .none : current
    default: throw .wrongKind(line: line, operation: "the method \(name)", kind: receiver.kind)
    }
  }

  private func callListMethod(
    _ name: String, _ receiver: JinjaValue, _ elements: [JinjaValue],
    _ arguments: JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    var arguments = arguments
    if name == "copy" { return receiver }
    let sought = try arguments.required("value")
    try arguments.finish()
    if name == "count" { return .integer(elements.filter { $0.isEqual(to: sought) }.count) }
    guard let place = elements.firstIndex(where: { $0.isEqual(to: sought) }) else {
      throw .impossible(line: line, operation: "\(sought.representation) is not in the list")
    }
    return .integer(place)
  }

  private func callMappingMethod(
    _ name: String, _ mapping: JinjaMapping, _ arguments: JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    var arguments = arguments
    defer { _ = arguments.rest() }
    switch name {
    case "get":
      let key = try arguments.required("key")
      return mapping[key] ?? arguments.next("default") ?? .none
    case "items": return .list(mapping.entries.map { .tuple([$0.key, $0.value]) })
    case "keys": return .list(mapping.entries.map(\.key))
    case "values": return .list(mapping.entries.map(\.value))
    default: return .mapping(mapping)
    }
  }

  private func callLoopMethod(
    _ name: String, _ state: JinjaLoopState, _ arguments: JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    var arguments = arguments
    let values = arguments.rest().positional
    if name == "cycle" {
      guard !values.isEmpty else { throw arguments.problem("needs at least one item") }
      return values[state.index % values.count]
    }
    let isSame =
      state.lastChanged.map { last in
        last.count == values.count && zip(last, values).allSatisfy { $0.isEqual(to: $1) }
      } ?? false
    state.lastChanged = values
    return .boolean(!isSame)
  }
}
