import Synchronization

/// How an automaton counts the units of a text, as `maxLength` counts characters.
///
/// Each count is a state of its own, and without this every one would have to be tried against the
/// whole vocabulary; but a token's units are the same wherever it stands.
struct UnitCounting: Sendable {
  /// The same without bounds, from behind the opening on; its start is between two units.
  let free: ByteAutomaton
  let min: Int
  let max: Int?
  /// For each state how many units are behind it, -1 where it is not between two units.
  var levels: [Int32]
}

/// The tokens that fit into an automaton without bounds, by how many units they begin.
struct UnitTokens: Sendable {
  /// The tokens that stay within the text and begin at most so many units.
  var open: [TokenMask]
  /// The tokens that end the text with their last byte, and their units.
  var closed: [(token: Int32, units: Int)] = []
  /// The tree's nodes where the text ends within longer tokens, and the units up to there.
  var exits: [(node: Int32, units: Int)] = []
}

extension TokenVocabulary {
  /// The tokens that fit into a counting leaf where `level` units are behind; the same as trying
  /// each of them.
  func countedTokens(_ counting: UnitCounting, level: Int) -> LeafTokens {
    let units = unitTokens(shared(counting.free))
    let most = counting.max.map { $0 - level } ?? Int.max
    let least = max(0, counting.min - level)
    var mask = units.open[min(most, units.open.count - 1)]
    for entry in units.closed where entry.units >= least && entry.units <= most {
      mask.insert(Int(entry.token))
    }
    let exits = units.exits.filter { $0.units >= least && $0.units <= most }
    return LeafTokens(mask: mask, exits: exits.map(\.node))
  }

  private func unitTokens(_ free: ByteAutomaton) -> UnitTokens {
    if let known = free.knownUnits.withLock({ $0 }) { return known }
    var found = UnitTokens(open: [])
    var byUnits: [[Int32]] = []
    var states = [Int](repeating: 0, count: maximumDepth + 1)
    var counts = [Int](repeating: 0, count: maximumDepth + 1)
    var node = 0
    while node < nodeBytes.count {
      let depth = Int(nodeDepths[node])
      let next = free.next(states[depth - 1], nodeBytes[node])
      guard next >= 0 else {
        node = Int(nodeEnds[node])
        continue
      }
      let isClosed = free.isAccepting(next)
      let units = counts[depth - 1] + (states[depth - 1] == 0 && !isClosed ? 1 : 0)
      (states[depth], counts[depth]) = (next, units)
      while byUnits.count <= units { byUnits.append([]) }
      var token = nodeTokens[node]
      while token >= 0 {
        if isClosed { found.closed.append((token, units)) } else { byUnits[units].append(token) }
        token = nextAlike[Int(token)]
      }
      if isClosed, Int(nodeEnds[node]) > node + 1 { found.exits.append((Int32(node), units)) }
      node += 1
    }
    var mask = TokenMask(vocabularySize: size)
    for tokens in byUnits.isEmpty ? [[]] : byUnits {
      for token in tokens { mask.insert(Int(token)) }
      found.open.append(mask)
    }
    free.knownUnits.withLock { $0 = found }
    return found
  }
}

extension ByteAutomaton {
  /// Between `min` and `max` units between `opening` and `closing` bytes; `unit` must accept no
  /// text that another begins with, and none that begins with `closing`.
  static func counted(
    _ unit: ByteAutomaton, min: Int, max: Int?, opening: UInt8?, closing: UInt8?,
    budget: CompileBudget, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    let levels = (max ?? min) + 1
    let inner = unit.stateCount
    guard levels * inner < stateLimit else { throw .tooLarge(path: path, limit: stateLimit) }
    var draft = AutomatonDraft(
      classes: unit.classes, classCount: unit.classCount, table: [], accepting: [])
    for byte in [opening, closing].compactMap({ $0 }) { draft.isolate(byte) }
    try budget.spend(4 * levels * inner * draft.classCount, path: path)
    let samples = (0..<draft.classCount).map { byteClass in
      UInt8(draft.classes.firstIndex(of: UInt8(byteClass)) ?? 0)
    }
    // State 0 reads the opening; then `inner` states per level; then the end.
    let last = 1 + levels * inner
    draft.table = Array(repeating: -1, count: (last + 1) * draft.classCount)
    draft.accepting = Array(repeating: false, count: last + 1)
    var places = Array(repeating: Int32(-1), count: last + 1)
    draft.accepting[last] = closing != nil
    let base = opening == nil ? 0 : 1
    if let opening { draft.table[Int(draft.classes[Int(opening)])] = 1 }
    for level in 0..<levels {
      let first = base + level * inner
      places[first] = Int32(level)
      let isEnough = level >= min
      if closing == nil { draft.accepting[first] = isEnough }
      for state in 0..<inner {
        for (byteClass, byte) in samples.enumerated() {
          let target = unit.next(state, byte)
          guard target >= 0 else { continue }
          let place = (first + state) * draft.classCount + byteClass
          if !unit.isAccepting(target) {
            draft.table[place] = Int32(first + target)
          } else if level + 1 < levels {
            draft.table[place] = Int32(first + inner)
          } else if max == nil {
            draft.table[place] = Int32(first)
          }
        }
      }
      if let closing, isEnough {
        draft.table[first * draft.classCount + Int(draft.classes[Int(closing)])] = Int32(last)
      }
    }
    if let closing, opening != nil,
      let free = try counted(
        unit, min: 0, max: nil, opening: nil, closing: closing, budget: budget, path: path)
    {
      draft.counting = UnitCounting(free: free, min: min, max: max, levels: places)
    }
    return try draft.trimmed(budget: budget, path: path)
  }
}

extension AutomatonDraft {
  /// Gives `byte` a class of its own; only before the table is filled.
  fileprivate mutating func isolate(_ byte: UInt8) {
    let own = classes[Int(byte)]
    guard classes.filter({ $0 == own }).count > 1 else { return }
    classes[Int(byte)] = UInt8(classCount)
    classCount += 1
  }
}
