/// An automaton over bytes with empty moves, built from an expression (Thompson's construction).
///
/// It is the form regular expressions pass through on their way to a `ByteAutomaton`.
struct NondeterministicAutomaton {
  enum Move {
    case bytes([ClosedRange<UInt8>], Int)
    case empty(Int)
    /// Possible only before the first byte.
    case atStart(Int)
    /// Possible only after the last byte.
    case atEnd(Int)
  }

  private(set) var moves: [[Move]] = [[]]
  let start = 0
  private(set) var end = 0
  private let encoding: TextEncoding
  private let available: [Bool]
  private let limit: Int
  private var isTooLarge = false
  /// How sets of scalars are written in bytes; a repeated set is asked for again and again.
  private var spelled: [ScalarSet: (runs: [ByteRun], escapes: [[UInt8]])] = [:]

  /// The automaton of `expression`, which holds no leaves and rules; nil when it would have more
  /// than `limit` states. Bytes that are not `available` cannot be moved along.
  init?(_ expression: Expression, encoding: TextEncoding, available: [Bool], limit: Int) {
    self.encoding = encoding
    self.available = available
    self.limit = limit
    end = add(expression, after: start)
    if isTooLarge { return nil }
  }

  private mutating func newState() -> Int {
    if moves.count >= limit {
      isTooLarge = true
      return moves.count - 1
    }
    moves.append([])
    return moves.count - 1
  }

  private mutating func connect(_ from: Int, _ ranges: [ClosedRange<UInt8>]) -> Int {
    let next = newState()
    moves[from].append(.bytes(usable(ranges), next))
    return next
  }

  private func usable(_ ranges: [ClosedRange<UInt8>]) -> [ClosedRange<UInt8>] {
    ranges.flatMap { range -> [ClosedRange<UInt8>] in
      if range.allSatisfy({ available[Int($0)] }) { return [range] }
      return range.filter { available[Int($0)] }.map { $0...$0 }
    }
  }

  /// Adds the states of `expression` behind `from` and returns its last one.
  private mutating func add(_ expression: Expression, after from: Int) -> Int {
    if isTooLarge { return from }
    switch expression {
    case .bytes(let bytes):
      return bytes.reduce(from) { connect($0, [$1...$1]) }
    case .byte(let ranges): return connect(from, ranges)
    case .scalar(let set): return addScalar(set, after: from)
    case .sequence(let parts): return parts.reduce(from) { add($1, after: $0) }
    case .choice(let choices):
      let last = newState()
      for choice in choices {
        let entry = newState()
        moves[from].append(.empty(entry))
        let exit = add(choice, after: entry)
        moves[exit].append(.empty(last))
      }
      return last
    case .repeated(let part, let min, let max): return addRepeated(part, min, max, after: from)
    case .startAnchor:
      let next = newState()
      moves[from].append(.atStart(next))
      return next
    case .endAnchor:
      let next = newState()
      moves[from].append(.atEnd(next))
      return next
    case .token(let id):
      return SpecialToken.bytes(id).reduce(from) { state, byte in
        let next = newState()
        moves[state].append(.bytes([byte...byte], next))
        return next
      }
    case .leaf, .rule, .members: preconditionFailure("leaves and rules are not regular")
    }
  }

  /// Adds the ways to write one scalar of `set`, which share what they begin with.
  private mutating func addScalar(_ set: ScalarSet, after from: Int) -> Int {
    let last = newState()
    let spellings =
      spelled[set] ?? (encoding.plainPart(of: set).byteRuns, encoding.escapes(of: set))
    spelled[set] = spellings
    addRuns(spellings.runs[...], depth: 0, from: from, to: last)
    for escape in spellings.escapes {
      let exit = add(.bytes(escape), after: from)
      moves[exit].append(.empty(last))
    }
    return last
  }

  private mutating func addRuns(
    _ runs: ArraySlice<ByteRun>, depth: Int, from: Int, to last: Int
  ) {
    var rest = runs
    while let first = rest.first {
      let range = first[depth]
      let group = rest.prefix { $0[depth] == range && $0.count == first.count }
      rest = rest.dropFirst(group.count)
      if first.count == depth + 1 {
        moves[from].append(.bytes(usable([range]), last))
      } else {
        addRuns(group, depth: depth + 1, from: connect(from, [range]), to: last)
      }
    }
  }

  private mutating func addRepeated(
    _ part: Expression, _ min: Int, _ max: Int?, after from: Int
  ) -> Int {
    var state = from
    for _ in 0..<min {
      let next = add(part, after: state)
      // What takes no state is empty however often it is repeated.
      if isTooLarge || next == state { break }
      state = next
    }
    if isTooLarge || max == min { return state }
    guard let max else {
      let entry = newState()
      moves[state].append(.empty(entry))
      let exit = add(part, after: entry)
      let last = newState()
      moves[entry].append(.empty(last))
      moves[exit].append(.empty(entry))
      return last
    }
    let last = newState()
    moves[state].append(.empty(last))
    for _ in 0..<Swift.max(0, max - min) {
      let next = add(part, after: state)
      if isTooLarge || next == state { break }
      state = next
      moves[state].append(.empty(last))
    }
    return last
  }

  /// Adds what automaton `part` accepts behind everything so far, then `suffix`.
  mutating func append(_ part: ByteAutomaton, suffix: Expression) {
    let base = moves.count
    moves += Array(repeating: [], count: part.stateCount)
    moves[end].append(.empty(base))
    let last = newState()
    for state in 0..<part.stateCount {
      for (ranges, target) in part.ranges(from: state) {
        moves[base + state].append(.bytes(ranges, base + target))
      }
      if part.isAccepting(state) { moves[base + state].append(.empty(last)) }
    }
    end = add(suffix, after: last)
  }
}

/// Finds what is reachable without a byte, in memory of its own.
struct ClosureFinder {
  private let moves: [[NondeterministicAutomaton.Move]]
  /// The search that met each state last.
  private var marks: [UInt32]
  private var search: UInt32 = 0

  init(_ source: NondeterministicAutomaton) {
    moves = source.moves
    marks = Array(repeating: 0, count: source.moves.count)
  }

  /// The states reachable from `states` without a byte, ascending.
  mutating func find(_ states: [Int], atStart: Bool = false, atEnd: Bool = false) -> [Int] {
    search += 1
    var found: [Int] = []
    for state in states where marks[state] != search {
      marks[state] = search
      found.append(state)
    }
    var next = 0
    while next < found.count {
      for move in moves[found[next]] {
        let target: Int
        switch move {
        case .bytes: continue
        case .empty(let state): target = state
        case .atStart(let state):
          guard atStart else { continue }
          target = state
        case .atEnd(let state):
          guard atEnd else { continue }
          target = state
        }
        if marks[target] != search {
          marks[target] = search
          found.append(target)
        }
      }
      next += 1
    }
    return found.sorted()
  }
}
