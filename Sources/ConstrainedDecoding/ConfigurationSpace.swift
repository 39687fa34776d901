/// The stacks and configurations of a grammar that were met so far, each with a number.
///
/// A configuration is the set of stacks that the bytes read so far can lead to. Equal stacks and
/// configurations have equal numbers, so moves and masks are computed once.
struct ConfigurationSpace {
  /// A stack: its top and the stack below it.
  struct Stack: Hashable {
    /// The leaf whose state is on top, -1 when a node of the grammar is.
    var leaf: Int32
    /// The leaf's state, or the node.
    var state: Int32
    /// The stack below, `bottom` when there is none.
    var parent: Int32

    /// The top in one value.
    var top: UInt64 { UInt64(UInt32(bitPattern: leaf)) << 32 | UInt64(UInt32(bitPattern: state)) }
  }

  struct Configuration: Hashable {
    /// Stacks whose tops can move along a byte, by their keys.
    var stacks: [Int32]
    /// Whether the output may end here.
    var isAccepting: Bool
  }

  static let bottom: Int32 = -1
  /// The configuration without stacks.
  static let dead: Int32 = 0
  /// How many stacks a configuration keeps; each can be finished, so leaving some out only narrows
  /// the choice.
  private static let stackLimit = 2048
  /// From how many stacks on a top is kept over few stacks only, and over how many: a schema of a
  /// few lines can lead to one place along more ways than there is memory for.
  private static let freeStacks = 256
  private static let stacksPerTop = 32
  /// For how many configurations the moves are remembered, at 1 KiB each.
  private static let rowLimit = 16_384
  private static let maskLimit = 128
  private static let unknown: Int32 = -1

  private var stacks: [Stack] = []
  private var depths: [Int32] = []
  /// What orders stacks, and does not depend on which were met before.
  private var keys: [UInt64] = []
  private var stackNumbers: [Stack: Int32] = [:]
  private var configurations: [Configuration]
  private var configurationNumbers: [Configuration: Int32]
  private var rows: [Int32]
  private var masks: [Int32: TokenMask] = [:]

  init() {
    let dead = Configuration(stacks: [], isAccepting: false)
    configurations = [dead]
    configurationNumbers = [dead: 0]
    rows = Array(repeating: Self.dead, count: 256)
  }

  func isAccepting(_ configuration: Int32) -> Bool {
    configurations[Int(configuration)].isAccepting
  }

  /// Whether nothing can follow.
  func isAtEnd(_ configuration: Int32) -> Bool {
    configurations[Int(configuration)].stacks.isEmpty
  }

  /// The configuration before the first byte.
  mutating func start(_ grammar: Grammar) -> Int32 {
    var closure = Closure()
    push(Stack(leaf: -1, state: grammar.start, parent: Self.bottom), &closure, grammar)
    return finish(&closure, grammar)
  }

  // MARK: Moves

  /// The configuration after `byte`.
  @inline(__always)
  mutating func next(_ configuration: Int32, _ byte: UInt8, _ grammar: Grammar) -> Int32 {
    let place = Int(configuration) << 8 + Int(byte)
    if place < rows.count, rows[place] != Self.unknown { return rows[place] }
    let target = computeNext(configuration, byte, grammar)
    if place < rows.count { rows[place] = target }
    return target
  }

  /// The configuration after the bytes of a token.
  mutating func next(_ configuration: Int32, _ bytes: [UInt8], _ grammar: Grammar) -> Int32 {
    let target = bytes.reduce(configuration) { next($0, $1, grammar) }
    let all = configurations[Int(configuration)].stacks
    guard target == Self.dead, all.count > 1 else { return target }
    // Where stacks crowd, those that read the token may have been left out; masks are made from
    // parts of a configuration, and what a mask allows is taken.
    for stack in all {
      let alone = number(of: Configuration(stacks: [stack], isAccepting: false))
      let target = bytes.reduce(alone) { next($0, $1, grammar) }
      if target != Self.dead { return target }
    }
    return Self.dead
  }

  private mutating func computeNext(
    _ configuration: Int32, _ byte: UInt8, _ grammar: Grammar
  ) -> Int32 {
    var closure = Closure()
    for number in configurations[Int(configuration)].stacks {
      let stack = stacks[Int(number)]
      if stack.leaf >= 0 {
        let target = grammar.leaves[Int(stack.leaf)].next(Int(stack.state), byte)
        guard target >= 0 else { continue }
        push(
          Stack(leaf: stack.leaf, state: Int32(target), parent: stack.parent), &closure, grammar)
      } else {
        for move in grammar.nodes[Int(stack.state)].moves
        where move.ranges.contains(where: { $0.contains(byte) }) {
          push(Stack(leaf: -1, state: move.target, parent: stack.parent), &closure, grammar)
        }
      }
    }
    return finish(&closure, grammar)
  }

  // MARK: Closure

  private struct Closure {
    var work: [Int32] = []
    var seen: Set<Int32> = []
    var result: [Int32] = []
    var isAccepting = false
    /// How many stacks have a top, once there are many stacks.
    var tops: [UInt64: Int] = [:]

    /// Whether a top may be there once more.
    mutating func admits(_ stack: Stack) -> Bool {
      guard seen.count >= ConfigurationSpace.freeStacks else { return true }
      tops[stack.top, default: 0] += 1
      return tops[stack.top, default: 0] <= ConfigurationSpace.stacksPerTop
    }
  }

  /// Adds a stack, unless it could not be finished within the depth limit.
  private mutating func push(_ stack: Stack, _ closure: inout Closure, _ grammar: Grammar) {
    let depth = stack.parent == Self.bottom ? 0 : depths[Int(stack.parent)] + 1
    let height = stack.leaf >= 0 ? 0 : grammar.heights[Int(stack.state)]
    guard depth + height <= Grammar.depthLimit else { return }
    let known = stackNumbers[stack]
    if let known, closure.seen.contains(known) { return }
    guard closure.admits(stack) else { return }
    let number = known ?? add(stack, depth: depth)
    closure.seen.insert(number)
    closure.work.append(number)
  }

  private mutating func pop(_ stack: Stack, _ closure: inout Closure) {
    if stack.parent == Self.bottom {
      closure.isAccepting = true
    } else if closure.seen.insert(stack.parent).inserted {
      closure.work.append(stack.parent)
    }
  }

  /// Follows everything that costs no byte and numbers the configuration.
  private mutating func finish(_ closure: inout Closure, _ grammar: Grammar) -> Int32 {
    while let number = closure.work.popLast() {
      let stack = stacks[Int(number)]
      if stack.leaf >= 0 {
        let leaf = grammar.leaves[Int(stack.leaf)]
        if leaf.width(Int(stack.state)) > 0 { closure.result.append(number) }
        if leaf.isAccepting(Int(stack.state)) { pop(stack, &closure) }
        continue
      }
      let node = grammar.nodes[Int(stack.state)]
      if !node.moves.isEmpty { closure.result.append(number) }
      if node.isEnd { pop(stack, &closure) }
      for target in node.empties {
        push(Stack(leaf: -1, state: target, parent: stack.parent), &closure, grammar)
      }
      let depth = depths[Int(number)]
      for call in node.calls where fits(call.after, depth, grammar) {
        let after = intern(
          Stack(leaf: -1, state: call.after, parent: stack.parent), depth: depth)
        let start = grammar.ruleStarts[Int(call.rule)]
        push(Stack(leaf: -1, state: start, parent: after), &closure, grammar)
      }
      for leaf in node.leaves where fits(leaf.after, depth, grammar) {
        let after = intern(
          Stack(leaf: -1, state: leaf.after, parent: stack.parent), depth: depth)
        push(Stack(leaf: leaf.leaf, state: 0, parent: after), &closure, grammar)
      }
    }
    let kept = closure.result.sorted { keys[Int($0)] < keys[Int($1)] }.prefix(Self.stackLimit)
    return number(of: Configuration(stacks: Array(kept), isAccepting: closure.isAccepting))
  }

  private func fits(_ node: Int32, _ depth: Int32, _ grammar: Grammar) -> Bool {
    depth + grammar.heights[Int(node)] <= Grammar.depthLimit
  }

  private mutating func intern(_ stack: Stack, depth: Int32) -> Int32 {
    stackNumbers[stack] ?? add(stack, depth: depth)
  }

  private mutating func add(_ stack: Stack, depth: Int32) -> Int32 {
    let number = Int32(stacks.count)
    stacks.append(stack)
    depths.append(depth)
    let below = stack.parent == Self.bottom ? 0 : keys[Int(stack.parent)]
    keys.append(Self.mixed(below ^ Self.mixed(stack.top &+ 0x9E37_79B9_7F4A_7C15)))
    stackNumbers[stack] = number
    return number
  }

  /// The finalizer of SplitMix64.
  private static func mixed(_ value: UInt64) -> UInt64 {
    var value = value
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }

  private mutating func number(of configuration: Configuration) -> Int32 {
    if let known = configurationNumbers[configuration] { return known }
    let number = Int32(configurations.count)
    configurations.append(configuration)
    configurationNumbers[configuration] = number
    if configurations.count <= Self.rowLimit {
      rows += repeatElement(Self.unknown, count: 256)
    }
    return number
  }

  // MARK: Masks

  /// The tokens that may follow in `configuration`.
  mutating func mask(_ configuration: Int32, _ grammar: Grammar) -> TokenMask {
    if let known = masks[configuration] { return known }
    var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
    if isAccepting(configuration) {
      for id in grammar.vocabulary.endIDs { mask.insert(id) }
    }
    // States with many moves know their tokens; the others are walked, which is short.
    var narrow: [Int32] = []
    for number in configurations[Int(configuration)].stacks {
      let stack = stacks[Int(number)]
      if stack.leaf >= 0,
        grammar.leaves[Int(stack.leaf)].width(Int(stack.state)) >= Self.wideState
      {
        addWide(stack, to: &mask, grammar)
      } else {
        narrow.append(number)
      }
    }
    if !narrow.isEmpty {
      let part = self.number(of: Configuration(stacks: narrow, isAccepting: false))
      let end = grammar.vocabulary.nodeBytes.count
      walk(0..<end, depth: 0, from: part, into: &mask, grammar)
    }
    if masks.count >= Self.maskLimit { masks.removeAll() }
    masks[configuration] = mask
    return mask
  }

  /// A leaf's state that so many bytes can follow is looked up instead of walked.
  private static let wideState = 64

  private mutating func addWide(_ stack: Stack, to mask: inout TokenMask, _ grammar: Grammar) {
    let vocabulary = grammar.vocabulary
    let known = vocabulary.leafTokens(
      grammar.leaves[Int(stack.leaf)], state: Int(stack.state))
    mask.formUnion(known.mask)
    guard !known.exits.isEmpty else { return }
    var closure = Closure()
    pop(stack, &closure)
    let after = finish(&closure, grammar)
    if isAtEnd(after) { return }
    for exit in known.exits {
      let subtree = Int(exit) + 1..<Int(vocabulary.nodeEnds[Int(exit)])
      walk(
        subtree, depth: Int(vocabulary.nodeDepths[Int(exit)]), from: after, into: &mask, grammar)
    }
  }

  /// Adds the tokens that end in `range` of the tree, whose parent has `depth`, and that
  /// `configuration` can follow.
  private mutating func walk(
    _ range: Range<Int>, depth: Int, from configuration: Int32, into mask: inout TokenMask,
    _ grammar: Grammar
  ) {
    let vocabulary = grammar.vocabulary
    var path = [Int32](repeating: Self.dead, count: vocabulary.maximumDepth + 1)
    path[depth] = configuration
    var node = range.lowerBound
    while node < range.upperBound {
      let level = Int(vocabulary.nodeDepths[node])
      let target = next(path[level - 1], vocabulary.nodeBytes[node], grammar)
      if target == Self.dead {
        node = Int(vocabulary.nodeEnds[node])
        continue
      }
      path[level] = target
      vocabulary.insertTokens(at: node, into: &mask)
      node += 1
    }
  }
}
