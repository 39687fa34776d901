internal import JSONScanning

/// Runs the statements of a template.
///
/// The semantics are those of `jinja2` in the environment that transformers makes: sandboxed and
/// immutable, no automatic escaping, undefined values that print nothing. Every statement and
/// expression counts as a step, and depth, output and the size of values are limited, so that no
/// template can run away with the process.
struct JinjaInterpreter {
  /// How far a statement list got.
  enum Flow {
    case normal
    case breaking
    case continuing
  }

  /// What bounds one rendering.
  struct Limits: Sendable {
    var steps = 2_000_000
    var depth = 400
    var outputByteCount = 64 << 20
    var stringByteCount = 64 << 20
    var rangeLength = 100_000
  }

  let limits: Limits
  let date: TemplateDate
  var output = ""
  var scope: JinjaScope
  /// What a filter block has produced, for its filters.
  var captured: [String] = []
  var line = 1
  private var steps = 0
  private var depth = 0
  /// Scopes that macros hold on to, to be cleared at the end.
  private var heldScopes: [JinjaScope] = []

  /// Renders `statements` with the variables given.
  static func render(
    _ statements: [JinjaStatement], variables: [String: JinjaValue], date: TemplateDate,
    limits: Limits = Limits()
  ) throws(TemplateError) -> String {
    let scope = JinjaScope(parent: nil)
    for (name, value) in variables { scope.set(name, value) }
    // The template's own variables do not hide what macros see of the context, but shadow it.
    var interpreter = JinjaInterpreter(limits: limits, date: date, scope: JinjaScope(parent: scope))
    defer { interpreter.releaseScopes() }
    _ = try interpreter.run(statements)
    return interpreter.output
  }

  private init(limits: Limits, date: TemplateDate, scope: JinjaScope) {
    self.limits = limits
    self.date = date
    self.scope = scope
  }

  private func releaseScopes() {
    for scope in heldScopes { scope.removeAll() }
  }

  // MARK: Limits

  mutating func countStep() throws(TemplateError) {
    steps += 1
    guard steps <= limits.steps else { throw .limitExceeded(line: line, .steps) }
  }

  mutating func descend() throws(TemplateError) {
    depth += 1
    guard depth <= limits.depth else { throw .limitExceeded(line: line, .depth) }
    try countStep()
  }

  mutating func ascend() { depth -= 1 }

  mutating func write(_ text: String) throws(TemplateError) {
    output += text
    guard output.utf8.count <= limits.outputByteCount else {
      throw .limitExceeded(line: line, .outputBytes)
    }
  }

  /// A string value, if it is not too long.
  func checked(_ text: String) throws(TemplateError) -> JinjaValue {
    guard text.utf8.count <= limits.stringByteCount else {
      throw .limitExceeded(line: line, .stringBytes)
    }
    return .string(text)
  }

  /// The text of a value that is not too large to be written out.
  mutating func text(of value: JinjaValue) throws(TemplateError) -> String {
    if case .string(let text) = value { return text }
    try measure(value)
    return value.text
  }

  /// Refuses values nested too deep or with too many parts, a namespace within itself included.
  mutating func measure(_ value: JinjaValue) throws(TemplateError) {
    try descend()
    defer { ascend() }
    switch value {
    case .list(let elements), .tuple(let elements):
      for element in elements { try measure(element) }
    case .mapping(let mapping):
      for entry in mapping.entries { try measure(entry.value) }
    case .namespace(let namespace):
      for entry in namespace.members.entries { try measure(entry.value) }
    case .cycler(let cycler), .joiner(let cycler):
      for element in cycler.items { try measure(element) }
    case .method(let receiver, _): try measure(receiver)
    default: break
    }
  }

  // MARK: Statements

  mutating func run(_ statements: [JinjaStatement]) throws(TemplateError) -> Flow {
    try descend()
    defer { ascend() }
    for statement in statements {
      let flow = try run(statement)
      if flow != .normal { return flow }
    }
    return .normal
  }

  private mutating func run(_ statement: JinjaStatement) throws(TemplateError) -> Flow {
    try countStep()
    switch statement {
    case .text(let text): try write(text)
    case .output(let node): try write(try text(of: try evaluate(node)))
    case .condition(let branches, let otherwise):
      for (test, body) in branches where try evaluate(test).isTrue { return try run(body) }
      return try run(otherwise)
    case .loop(let loop):
      try runLoop(loop, over: try loopItems(try evaluate(loop.sequence), loop), outer: scope)
    case .assignment(let target, let node, let line):
      try assign(try evaluate(node), to: target, line)
    case .blockAssignment(let target, let filter, let body, let line):
      var text = try capture(body)
      if let filter {
        captured.append(text)
        defer { captured.removeLast() }
        text = try self.text(of: try evaluate(filter))
      }
      try assign(.string(text), to: target, line)
    case .macro(let definition):
      scope.set(definition.name, .macro(makeMacro(definition)))
    case .callBlock(let definition, let call, let line):
      self.line = line
      try write(try text(of: try evaluateCall(call, caller: .macro(makeMacro(definition)))))
    case .filterBlock(let filter, let body):
      captured.append(try capture(body))
      defer { captured.removeLast() }
      try write(try text(of: try evaluate(filter)))
    case .with(let bindings, let body, let line):
      return try runWith(bindings, body, line)
    case .breakLoop: return .breaking
    case .continueLoop: return .continuing
    }
    return .normal
  }

  private mutating func makeMacro(_ definition: JinjaMacroDefinition) -> JinjaMacro {
    heldScopes.append(scope)
    return JinjaMacro(definition, scope: scope, line: line)
  }

  /// The text that `body` writes, in a scope of its own.
  private mutating func capture(_ body: [JinjaStatement]) throws(TemplateError) -> String {
    let outerOutput = output
    let outerScope = scope
    output = ""
    scope = JinjaScope(parent: scope)
    defer {
      output = outerOutput
      scope = outerScope
    }
    _ = try run(body)
    return output
  }

  private mutating func runWith(
    _ bindings: [(target: JinjaTarget, value: JinjaNode)], _ body: [JinjaStatement], _ line: Int
  ) throws(TemplateError) -> Flow {
    let outer = scope
    let inner = JinjaScope(parent: outer)
    defer { scope = outer }
    for (target, node) in bindings {
      // Values see the variables outside, not the ones bound beside them.
      scope = outer
      let value = try evaluate(node)
      scope = inner
      try assign(value, to: target, line)
    }
    scope = inner
    return try run(body)
  }

  mutating func assign(
    _ value: JinjaValue, to target: JinjaTarget, _ line: Int
  ) throws(TemplateError) {
    switch target {
    case .name(let name): scope.set(name, value)
    case .attribute(let name, let member):
      guard case .namespace(let namespace) = scope.value(of: name) else {
        throw .wrongKind(
          line: line, operation: "assignment to \(name).\(member)",
          kind: scope.value(of: name)?.kind ?? "undefined")
      }
      // Namespaces are the only way to build up a value without end.
      try measure(value)
      namespace.members[.string(member)] = value
    case .tuple(let targets):
      let items = try items(of: value)
      guard items.count == targets.count else {
        throw .impossible(
          line: line, operation: "\(items.count) values cannot be given to \(targets.count) names")
      }
      for (target, item) in zip(targets, items) { try assign(item, to: target, line) }
    }
  }

  // MARK: Loops

  /// What a loop goes through: the items that its filter lets pass.
  private mutating func loopItems(
    _ sequence: JinjaValue, _ loop: JinjaLoop
  ) throws(TemplateError) -> [JinjaValue] {
    line = loop.line
    let all = try items(of: sequence)
    guard let filter = loop.filter else { return all }
    let outer = scope
    defer { scope = outer }
    var kept: [JinjaValue] = []
    for item in all {
      scope = JinjaScope(parent: outer)
      try assign(item, to: loop.target, loop.line)
      if try evaluate(filter).isTrue { kept.append(item) }
    }
    return kept
  }

  private mutating func runLoop(
    _ loop: JinjaLoop, over items: [JinjaValue], outer: JinjaScope, level: Int = 0
  ) throws(TemplateError) {
    try descend()
    let returning = scope
    defer {
      ascend()
      scope = returning
    }
    if items.isEmpty {
      scope = JinjaScope(parent: outer)
      _ = try run(loop.otherwise)
      return
    }
    let state = JinjaLoopState(items, depth: level, statement: loop, scope: outer)
    for (index, item) in items.enumerated() {
      state.index = index
      scope = JinjaScope(parent: outer)
      scope.set("loop", .loop(state))
      try assign(item, to: loop.target, loop.line)
      if try run(loop.body) == .breaking { break }
    }
  }

  /// Runs a recursive loop again over `sequence`, as `loop(...)` asks for.
  mutating func recurse(
    _ state: JinjaLoopState, over sequence: JinjaValue
  ) throws(TemplateError) -> JinjaValue {
    guard state.statement.isRecursive else {
      throw .badArguments(line: line, function: "loop", problem: "the loop is not 'recursive'")
    }
    let outerOutput = output
    output = ""
    defer { output = outerOutput }
    let outerScope = scope
    scope = state.scope
    defer { scope = outerScope }
    let items = try loopItems(sequence, state.statement)
    try runLoop(state.statement, over: items, outer: state.scope, level: state.depth + 1)
    return .string(output)
  }

  /// Python's `list(value)`.
  func items(of value: JinjaValue) throws(TemplateError) -> [JinjaValue] {
    switch value {
    case .list(let elements), .tuple(let elements): return elements
    case .mapping(let mapping): return mapping.entries.map(\.key)
    case .string(let text): return text.scalarStrings.map { .string($0) }
    case .undefined: return []
    default: throw .wrongKind(line: line, operation: "iteration", kind: value.kind)
    }
  }

  // MARK: Macros

  /// Calls a macro: arguments become variables of a scope within the one it was defined in.
  mutating func call(
    _ macro: JinjaMacro, _ arguments: JinjaCallArguments, caller: JinjaValue?
  ) throws(TemplateError) -> JinjaValue {
    try descend()
    defer { ascend() }
    let inner = JinjaScope(parent: macro.scope)
    let outerScope = scope
    let outerOutput = output
    scope = inner
    output = ""
    defer {
      scope = outerScope
      output = outerOutput
    }
    try bind(macro.definition, arguments, caller: caller)
    _ = try run(macro.definition.body)
    return .string(output)
  }

  private mutating func bind(
    _ definition: JinjaMacroDefinition, _ arguments: JinjaCallArguments, caller: JinjaValue?
  ) throws(TemplateError) {
    let signature = definition.signature
    var named = arguments.named
    let firstDefault = signature.names.count - signature.defaults.count
    for (index, name) in signature.names.enumerated() {
      let place = named.firstIndex { $0.name == name }
      if index < arguments.positional.count {
        guard place == nil else {
          throw .badArguments(
            line: line, function: definition.name, problem: "\(name) is given twice")
        }
        scope.set(name, arguments.positional[index])
      } else if let place {
        scope.set(name, named.remove(at: place).value)
      } else if index >= firstDefault {
        scope.set(name, try evaluate(signature.defaults[index - firstDefault]))
      } else {
        scope.set(name, .undefined("parameter '\(name)' was not provided"))
      }
    }
    let extra = Array(arguments.positional.dropFirst(signature.names.count))
    if definition.catchesPositional {
      scope.set("varargs", .tuple(extra))
    } else if !extra.isEmpty {
      throw .badArguments(
        line: line, function: definition.name,
        problem: "takes at most \(signature.names.count) arguments")
    }
    if definition.catchesNamed {
      var mapping = JinjaMapping()
      for (name, value) in named { mapping[.string(name)] = value }
      scope.set("kwargs", .mapping(mapping))
    } else if let unknown = named.first {
      throw .badArguments(
        line: line, function: definition.name, problem: "takes no argument '\(unknown.name)'")
    }
    scope.set("caller", caller ?? .undefined("No caller defined"))
  }
}

/// The arguments of a call, evaluated.
struct JinjaCallArguments {
  var positional: [JinjaValue] = []
  var named: [(name: String, value: JinjaValue)] = []
}
