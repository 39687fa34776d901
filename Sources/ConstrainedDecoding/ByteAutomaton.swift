import Synchronization

/// A deterministic automaton over bytes in which every state can reach acceptance: a leaf.
///
/// State 0 is the start. Bytes that no state tells apart share a class, so a row of the table is
/// short. What it has learnt about a vocabulary is kept with it (`LeafTokens`).
final class ByteAutomaton: Sendable {
  let stateCount: Int
  let classCount: Int
  /// The class of each byte.
  let classes: [UInt8]
  /// The state after a byte of class c in state s at s · classCount + c; -1 when there is none.
  let table: [Int32]
  private let accepting: [Bool]
  /// How many bytes each state can move along.
  private let widths: [Int16]
  /// What it counts, when it was made to count.
  let counting: UnitCounting?
  let knownTokens = Mutex<[Int: LeafTokens]>([:])
  let knownUnits = Mutex<UnitTokens?>(nil)

  init(
    classes: [UInt8], classCount: Int, table: [Int32], accepting: [Bool],
    counting: UnitCounting? = nil
  ) {
    self.classes = classes
    self.counting = counting
    self.classCount = classCount
    self.table = table
    self.accepting = accepting
    stateCount = accepting.count
    var sizes = [Int16](repeating: 0, count: classCount)
    for byteClass in classes { sizes[Int(byteClass)] += 1 }
    widths = (0..<accepting.count).map { state in
      (0..<classCount).reduce(0) { $0 + (table[state * classCount + $1] >= 0 ? sizes[$1] : 0) }
    }
  }

  func isAccepting(_ state: Int) -> Bool { accepting[state] }

  /// How many bytes can follow in `state`.
  func width(_ state: Int) -> Int { Int(widths[state]) }

  @inline(__always)
  func next(_ state: Int, _ byte: UInt8) -> Int {
    Int(table[state * classCount + Int(classes[Int(byte)])])
  }

  /// The moves of a state as byte ranges and targets.
  func ranges(from state: Int) -> [(ranges: [ClosedRange<UInt8>], target: Int)] {
    var byTarget: [Int: [ClosedRange<UInt8>]] = [:]
    for byte in UInt8.min...UInt8.max {
      let target = next(state, byte)
      guard target >= 0 else { continue }
      var ranges = byTarget[target] ?? []
      if let last = ranges.last, last.upperBound + 1 == byte {
        ranges[ranges.count - 1] = last.lowerBound...byte
      } else {
        ranges.append(byte...byte)
      }
      byTarget[target] = ranges
    }
    return byTarget.sorted { $0.key < $1.key }.map { ($0.value, $0.key) }
  }

  /// Whether the whole of `bytes` is accepted.
  func accepts(_ bytes: [UInt8]) -> Bool {
    var state = 0
    for byte in bytes {
      state = next(state, byte)
      if state < 0 { return false }
    }
    return accepting[state]
  }
}

/// What makes two automata the same, so that they share what is known about the vocabulary.
struct AutomatonKey: Hashable {
  private let classes: [UInt8]
  private let table: [Int32]
  private let accepting: [Bool]

  init(_ automaton: ByteAutomaton) {
    classes = automaton.classes
    table = automaton.table
    accepting = (0..<automaton.stateCount).map { automaton.isAccepting($0) }
  }
}

/// An automaton under construction, with states that may lead nowhere.
struct AutomatonDraft {
  var classes: [UInt8]
  var classCount: Int
  var table: [Int32]
  var accepting: [Bool]
  var counting: UnitCounting?

  /// The automaton of the states that are reachable and can reach acceptance; nil when it accepts
  /// nothing.
  func trimmed(budget: CompileBudget, path: String) throws(GrammarError) -> ByteAutomaton? {
    let count = accepting.count
    try budget.spend(count * 150 + table.count * 4, path: path)
    var sources = [[Int32]](repeating: [], count: count)
    for state in 0..<count {
      for place in state * classCount..<(state + 1) * classCount where table[place] >= 0 {
        sources[Int(table[place])].append(Int32(state))
      }
    }
    var isAlive = accepting
    var work = accepting.indices.filter { accepting[$0] }
    while let state = work.popLast() {
      for source in sources[state] where !isAlive[Int(source)] {
        isAlive[Int(source)] = true
        work.append(Int(source))
      }
    }
    guard count > 0, isAlive[0] else { return nil }
    // Breadth-first numbers make equal languages built alike equal automata.
    var number = [Int32](repeating: -1, count: count)
    var order = [0]
    number[0] = 0
    var head = 0
    while head < order.count {
      let state = order[head]
      head += 1
      for place in state * classCount..<(state + 1) * classCount {
        let target = Int(table[place])
        guard target >= 0, isAlive[target], number[target] < 0 else { continue }
        number[target] = Int32(order.count)
        order.append(target)
      }
    }
    let rows = order.flatMap { state in
      table[state * classCount..<(state + 1) * classCount].map { $0 < 0 ? -1 : number[Int($0)] }
    }
    var counting = counting
    if let levels = counting?.levels { counting?.levels = order.map { levels[$0] } }
    return ByteAutomaton(
      classes: classes, classCount: classCount, table: rows,
      accepting: order.map { accepting[$0] }, counting: counting)
  }
}

extension ByteAutomaton {
  /// The most states an automaton may have.
  static let stateLimit = 200_000

  /// The deterministic automaton of `source`; nil when it accepts nothing, an error when it is too
  /// large: some expressions double its size with every character.
  static func determinizing(
    _ source: NondeterministicAutomaton, budget: CompileBudget, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    let (classes, samples) = byteClasses(source)
    var closures = ClosureFinder(source)
    var index: [[Int]: Int32] = [:]
    var sets: [[Int]] = []
    var table: [Int32] = []
    func number(_ set: [Int]) -> Int32 {
      if let known = index[set] { return known }
      index[set] = Int32(sets.count)
      sets.append(set)
      return Int32(sets.count - 1)
    }
    _ = number(closures.find([source.start], atStart: true))
    var targets = [[Int]](repeating: [], count: samples.count)
    var state = 0
    while state < sets.count {
      guard sets.count <= stateLimit else { throw .tooLarge(path: path, limit: stateLimit) }
      var cost = 40 + 10 * samples.count
      for place in targets.indices { targets[place].removeAll(keepingCapacity: true) }
      for member in sets[state] {
        for case .bytes(let ranges, let target) in source.moves[member] {
          for range in ranges {
            // No range ends within a class.
            for place in classes[Int(range.lowerBound)]...classes[Int(range.upperBound)] {
              targets[Int(place)].append(target)
              cost += 5
            }
          }
        }
      }
      for place in targets.indices {
        if targets[place].isEmpty {
          table.append(-1)
        } else if place > 0, targets[place] == targets[place - 1] {
          table.append(table[table.count - 1])
        } else {
          let set = closures.find(targets[place])
          cost += 150 + 40 * set.count
          table.append(number(set))
        }
      }
      try budget.spend(cost, path: path)
      state += 1
    }
    // Nothing was read yet only in the first state, where the text may be empty.
    var accepting: [Bool] = []
    for place in sets.indices {
      try budget.spend(30 * sets[place].count, path: path)
      accepting.append(
        closures.find(sets[place], atStart: place == 0, atEnd: true).contains(source.end))
    }
    return try AutomatonDraft(
      classes: classes, classCount: samples.count, table: table, accepting: accepting
    ).trimmed(budget: budget, path: path)
  }

  /// Classes of bytes that no move of `source` tells apart, and one byte of each.
  private static func byteClasses(
    _ source: NondeterministicAutomaton
  ) -> (classes: [UInt8], samples: [UInt8]) {
    var isBoundary = [Bool](repeating: false, count: 257)
    isBoundary[0] = true
    for moves in source.moves {
      for case .bytes(let ranges, _) in moves {
        for range in ranges {
          isBoundary[Int(range.lowerBound)] = true
          isBoundary[Int(range.upperBound) + 1] = true
        }
      }
    }
    var classes: [UInt8] = []
    var samples: [UInt8] = []
    for byte in UInt8.min...UInt8.max {
      if isBoundary[Int(byte)] { samples.append(byte) }
      classes.append(UInt8(samples.count - 1))
    }
    return (classes, samples)
  }

  /// What both automata accept, or (`isDifference`) what the first accepts and the second does not;
  /// nil when that is nothing.
  func combined(
    with other: ByteAutomaton, isDifference: Bool = false, budget: CompileBudget, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    let pairClasses = (UInt8.min...UInt8.max).map {
      Int(classes[Int($0)]) * other.classCount + Int(other.classes[Int($0)])
    }
    let distinct = Array(Set(pairClasses)).sorted()
    let classIndex = Dictionary(uniqueKeysWithValues: distinct.enumerated().map { ($1, UInt8($0)) })
    var index: [Int: Int32] = [0: 0]
    // The second automaton's missing state is numbered behind its own.
    let width = other.stateCount + 1
    var pairs = [0]
    var table: [Int32] = []
    var head = 0
    while head < pairs.count {
      guard pairs.count <= Self.stateLimit else {
        throw .tooLarge(path: path, limit: Self.stateLimit)
      }
      try budget.spend(40 * distinct.count, path: path)
      let (first, second) = (pairs[head] / width, pairs[head] % width)
      head += 1
      for pair in distinct {
        let a = self.table[first * classCount + pair / other.classCount]
        let b =
          second == other.stateCount
          ? -1 : other.table[second * other.classCount + pair % other.classCount]
        guard a >= 0, b >= 0 || isDifference else {
          table.append(-1)
          continue
        }
        let key = Int(a) * width + (b >= 0 ? Int(b) : other.stateCount)
        if index[key] == nil {
          index[key] = Int32(pairs.count)
          pairs.append(key)
        }
        table.append(index[key] ?? -1)
      }
    }
    let accepting = pairs.map { pair in
      let second = pair % width
      let inSecond = second < other.stateCount && other.isAccepting(second)
      return isAccepting(pair / width) && inSecond != isDifference
    }
    return try AutomatonDraft(
      classes: pairClasses.map { classIndex[$0] ?? 0 }, classCount: distinct.count, table: table,
      accepting: accepting
    ).trimmed(budget: budget, path: path)
  }
}
