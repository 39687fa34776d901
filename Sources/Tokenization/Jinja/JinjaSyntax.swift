/// An expression of a template.
indirect enum JinjaExpression: Sendable {
  case constant(JinjaConstant)
  case name(String)
  case list([JinjaNode])
  case tuple([JinjaNode])
  case mapping([(key: JinjaNode, value: JinjaNode)])
  case attribute(JinjaNode, String)
  case item(JinjaNode, JinjaNode)
  case slice(JinjaNode, start: JinjaNode?, stop: JinjaNode?, step: JinjaNode?)
  case call(JinjaNode, JinjaArguments)
  case filter(JinjaNode, String, JinjaArguments)
  case test(JinjaNode, String, JinjaArguments)
  case negation(JinjaNode)
  case unary(String, JinjaNode)
  case binary(String, JinjaNode, JinjaNode)
  case concatenation([JinjaNode])
  case comparison(JinjaNode, [(operation: String, operand: JinjaNode)])
  case and(JinjaNode, JinjaNode)
  case or(JinjaNode, JinjaNode)
  case condition(JinjaNode, then: JinjaNode, otherwise: JinjaNode?)
  /// The text that a filter block or a filtered `set` block has produced.
  case captured
}

/// An expression and where it stands.
struct JinjaNode: Sendable {
  let expression: JinjaExpression
  let line: Int
}

/// A value written out in the source.
enum JinjaConstant: Sendable {
  case none
  case boolean(Bool)
  case integer(Int)
  case float(Double)
  case string(String)
}

/// The arguments of a call as written.
struct JinjaArguments: Sendable {
  var positional: [JinjaNode] = []
  var named: [(name: String, value: JinjaNode)] = []
  var unpackedList: JinjaNode?
  var unpackedMapping: JinjaNode?
}

/// What an assignment or a loop gives a value to.
indirect enum JinjaTarget: Sendable {
  case name(String)
  case tuple([JinjaTarget])
  case attribute(String, String)
}

/// A macro's parameters: those without a default come first.
struct JinjaSignature: Sendable {
  var names: [String] = []
  /// Defaults of the last parameters.
  var defaults: [JinjaNode] = []
}

/// A macro as written.
struct JinjaMacroDefinition: Sendable {
  let name: String
  let signature: JinjaSignature
  let body: [JinjaStatement]
  /// Which of Python's catch-all names the body uses: only then are extra arguments taken.
  let catchesPositional: Bool
  let catchesNamed: Bool
}

/// A statement of a template.
indirect enum JinjaStatement: Sendable {
  case text(String)
  case output(JinjaNode)
  case condition([(test: JinjaNode, body: [JinjaStatement])], otherwise: [JinjaStatement])
  case loop(JinjaLoop)
  case assignment(JinjaTarget, JinjaNode, line: Int)
  /// A `set` block; the filter, if any, works on `.captured`.
  case blockAssignment(JinjaTarget, filter: JinjaNode?, body: [JinjaStatement], line: Int)
  case macro(JinjaMacroDefinition)
  case callBlock(JinjaMacroDefinition, call: JinjaNode, line: Int)
  case filterBlock(JinjaNode, body: [JinjaStatement])
  case with([(target: JinjaTarget, value: JinjaNode)], body: [JinjaStatement], line: Int)
  case breakLoop
  case continueLoop
}

/// A `for` loop as written.
struct JinjaLoop: Sendable {
  let target: JinjaTarget
  let sequence: JinjaNode
  let filter: JinjaNode?
  let isRecursive: Bool
  let body: [JinjaStatement]
  let otherwise: [JinjaStatement]
  let line: Int
}
