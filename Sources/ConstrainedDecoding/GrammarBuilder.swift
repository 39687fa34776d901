/// A state of the pushdown automaton.
struct GrammarNode {
  var moves: [(ranges: [ClosedRange<UInt8>], target: Int32)] = []
  var empties: [Int32] = []
  /// Rules that may begin here, and where to go on after them.
  var calls: [(rule: Int32, after: Int32)] = []
  /// Leaves that may begin here, and where to go on after them.
  var leaves: [(leaf: Int32, after: Int32)] = []
  /// Whether the rule may end here.
  var isEnd = false
}

/// Collects the rules and leaves of one grammar.
struct GrammarBuilder {
  let vocabulary: TokenVocabulary
  let budget = CompileBudget()
  private(set) var nodes: [GrammarNode] = []
  private(set) var ruleStarts: [Int32] = []
  private(set) var leaves: [ByteAutomaton] = []
  private var leafIndex: [AutomatonSource: Int] = [:]
  private var bodies: [Expression?] = []

  /// The most nodes a grammar may have, and the most states on the way to an automaton.
  static let nodeLimit = 400_000
  /// What making a node costs, in units of the budget.
  private static let nodeCost = 300

  init(vocabulary: TokenVocabulary) {
    self.vocabulary = vocabulary
  }

  /// The index of a rule whose body comes later.
  mutating func declareRule() -> Int {
    bodies.append(nil)
    return bodies.count - 1
  }

  mutating func define(_ rule: Int, _ body: Expression) {
    bodies[rule] = body
  }

  /// A leaf that accepts `expression`; `never` when that is nothing.
  mutating func leaf(
    _ expression: Expression, encoding: TextEncoding = .plain, path: String
  ) throws(GrammarError) -> Expression {
    let key = AutomatonSource.expression(expression, encoding)
    if let known = leafIndex[key] { return .leaf(known) }
    guard let automaton = try automaton(expression, encoding: encoding, path: path) else {
      return .never
    }
    let added = leaf(automaton)
    if case .leaf(let index) = added { leafIndex[key] = index }
    return added
  }

  /// A leaf that is this automaton.
  mutating func leaf(_ automaton: ByteAutomaton) -> Expression {
    let shared = vocabulary.shared(automaton)
    if let index = leaves.firstIndex(where: { $0 === shared }) { return .leaf(index) }
    leaves.append(shared)
    return .leaf(leaves.count - 1)
  }

  /// The automaton of a regular expression; nil when it accepts nothing.
  func automaton(
    _ expression: Expression, encoding: TextEncoding = .plain, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    let key = AutomatonSource.expression(expression, encoding)
    return try vocabulary.automaton(key) { () throws(GrammarError) in
      guard
        let source = NondeterministicAutomaton(
          expression, encoding: encoding, available: vocabulary.availableBytes,
          limit: min(Self.nodeLimit, budget.left / Self.nodeCost))
      else { throw .tooLarge(path: path, limit: Self.nodeLimit) }
      try budget.spend(source.moves.count * Self.nodeCost, path: path)
      return try ByteAutomaton.determinizing(source, budget: budget, path: path)
    }
  }

  /// The automaton of the texts that end with a marker.
  func automaton(_ until: UntilMarker, path: String) throws(GrammarError) -> ByteAutomaton? {
    try vocabulary.automaton(.until(until)) { () throws(GrammarError) in
      try until.automaton(
        available: vocabulary.availableBytes, budget: budget, path: path)
    }
  }

  /// A special token when the vocabulary has one of this name, otherwise its text.
  func marker(_ name: String) -> Expression {
    vocabulary.specialID(name).map { .token($0) } ?? .text(name)
  }

  /// Builds the nodes of all rules, the one of `start` first among them being the grammar's.
  mutating func build(start: Expression) throws(GrammarError) -> Int32 {
    let rules = bodies.map { $0 ?? .never }
    for body in rules {
      let first = newNode()
      ruleStarts.append(first)
      let last = try add(body, after: first)
      nodes[Int(last)].isEnd = true
    }
    let first = newNode()
    let last = try add(start, after: first)
    nodes[Int(last)].isEnd = true
    return first
  }

  private mutating func newNode() -> Int32 {
    nodes.append(GrammarNode())
    return Int32(nodes.count - 1)
  }

  private mutating func add(
    _ expression: Expression, after from: Int32
  ) throws(GrammarError) -> Int32 {
    guard nodes.count < Self.nodeLimit else { throw .tooLarge(path: "$", limit: Self.nodeLimit) }
    try budget.spend(Self.nodeCost, path: "$")
    switch expression {
    case .bytes(let bytes):
      var node = from
      for byte in bytes { node = connect(node, [byte...byte]) }
      return node
    case .byte(let ranges): return connect(from, ranges)
    case .sequence(let parts):
      var node = from
      for part in parts { node = try add(part, after: node) }
      return node
    case .choice(let choices):
      let last = newNode()
      for choice in choices {
        let entry = newNode()
        nodes[Int(from)].empties.append(entry)
        let exit = try add(choice, after: entry)
        nodes[Int(exit)].empties.append(last)
      }
      return last
    case .repeated(let part, let min, let max):
      return try addRepeated(part, min, max, after: from)
    case .token(let id):
      var node = from
      for byte in SpecialToken.bytes(id) {
        let next = newNode()
        nodes[Int(node)].moves.append(([byte...byte], next))
        node = next
      }
      return node
    case .members(let members, let additional):
      return try addMembers(members, additional, after: from)
    case .leaf(let index):
      let next = newNode()
      nodes[Int(from)].leaves.append((Int32(index), next))
      return next
    case .rule(let index):
      let next = newNode()
      nodes[Int(from)].calls.append((Int32(index), next))
      return next
    case .scalar, .startAnchor, .endAnchor:
      preconditionFailure("scalars and anchors belong into leaves")
    }
  }

  /// Two tracks of nodes, before and after the first member that is there: commas stand only on
  /// the second one, and so does the white space at the end.
  private mutating func addMembers(
    _ members: [Member], _ additional: Expression?, after from: Int32
  ) throws(GrammarError) -> Int32 {
    let comma = Expression.sequence([.text(","), Texts.space])
    var none = from
    var some = newNode()
    for member in members {
      let entry = newNode()
      nodes[Int(none)].empties.append(entry)
      let separated = try add(comma, after: some)
      nodes[Int(separated)].empties.append(entry)
      let exit = try add(member.text, after: entry)
      let nextNone = newNode()
      let nextSome = newNode()
      nodes[Int(exit)].empties.append(nextSome)
      if !member.isRequired {
        nodes[Int(none)].empties.append(nextNone)
        nodes[Int(some)].empties.append(nextSome)
      }
      (none, some) = (nextNone, nextSome)
    }
    if let additional {
      let entry = newNode()
      nodes[Int(none)].empties.append(entry)
      let separated = try add(comma, after: some)
      nodes[Int(separated)].empties.append(entry)
      let exit = try add(additional, after: entry)
      nodes[Int(exit)].empties.append(some)
    }
    let last = newNode()
    nodes[Int(none)].empties.append(last)
    let spaced = try add(Texts.space, after: some)
    nodes[Int(spaced)].empties.append(last)
    return last
  }

  private mutating func connect(_ from: Int32, _ ranges: [ClosedRange<UInt8>]) -> Int32 {
    let next = newNode()
    let usable = ranges.flatMap { range in
      range.filter { vocabulary.availableBytes[Int($0)] }.map { $0...$0 }
    }
    nodes[Int(from)].moves.append((usable, next))
    return next
  }

  private mutating func addRepeated(
    _ part: Expression, _ min: Int, _ max: Int?, after from: Int32
  ) throws(GrammarError) -> Int32 {
    var node = from
    for _ in 0..<min { node = try add(part, after: node) }
    let last = newNode()
    guard let max else {
      let entry = newNode()
      nodes[Int(node)].empties.append(entry)
      let exit = try add(part, after: entry)
      nodes[Int(exit)].empties.append(entry)
      nodes[Int(entry)].empties.append(last)
      return last
    }
    nodes[Int(node)].empties.append(last)
    for _ in 0..<Swift.max(0, max - min) {
      node = try add(part, after: node)
      nodes[Int(node)].empties.append(last)
    }
    return last
  }
}
