import Synchronization

/// The tokens a constraint chooses from, as a tree of their bytes; made once per model.
///
/// The tree's nodes lie in depth-first order, so that one loop walks it and jumps over what is
/// refused. Special tokens spell nothing: they lie under the byte 0xFF, which no text holds.
package final class TokenVocabulary: Sendable {
  /// Ids lie in 0..<size.
  package let size: Int
  /// The bytes of each token; for a special token those of its name.
  package let tokenBytes: [[UInt8]]
  /// Ids that end an output.
  package let endIDs: [Int]
  /// The bytes that some token consists of; no other byte is ever asked for, so that every output
  /// can go on byte by byte.
  let availableBytes: [Bool]
  let isSpecial: [Bool]
  private let specialIDs: [[UInt8]: Int]

  // The tree: of each node its byte, its depth from 1, where its subtree ends, and its token.
  let nodeBytes: [UInt8]
  let nodeDepths: [UInt16]
  let nodeEnds: [Int32]
  let nodeTokens: [Int32]
  /// The next token of the same bytes, -1 for none.
  let nextAlike: [Int32]
  let maximumDepth: Int

  private let automata = Mutex<[AutomatonKey: ByteAutomaton]>([:])
  private let built = Mutex<[AutomatonSource: ByteAutomaton?]>([:])
  private static let automataLimit = 256

  /// A vocabulary of `tokenBytes`; an id without bytes is never allowed, special ids only where a
  /// grammar names them, end ids where the output may end.
  package init(tokenBytes: [[UInt8]], specialIDs: Set<Int>, endIDs: [Int]) {
    size = tokenBytes.count
    self.tokenBytes = tokenBytes
    self.endIDs = endIDs.filter { tokenBytes.indices.contains($0) }
    let special = specialIDs.union(endIDs)
    isSpecial = tokenBytes.indices.map { special.contains($0) }
    var names: [[UInt8]: Int] = [:]
    for id in special.sorted() where tokenBytes.indices.contains(id) {
      names[tokenBytes[id]] = names[tokenBytes[id]] ?? id
    }
    self.specialIDs = names
    var available = [Bool](repeating: false, count: 256)
    for (id, bytes) in tokenBytes.enumerated() where bytes.count == 1 && !isSpecial[id] {
      available[Int(bytes[0])] = bytes[0] != SpecialToken.mark
    }
    availableBytes = available
    let tree = TokenTree(tokenBytes: tokenBytes, isSpecial: isSpecial)
    nodeBytes = tree.bytes
    nodeDepths = tree.depths
    nodeEnds = tree.ends
    nodeTokens = tree.tokens
    nextAlike = tree.nextAlike
    maximumDepth = Int(tree.depths.max() ?? 0)
  }

  /// The special token of this name.
  func specialID(_ name: String) -> Int? { specialIDs[Array(name.utf8)] }

  /// The bytes by which the tree knows token `id`; none when it is not there.
  func path(of id: Int) -> [UInt8] {
    if isSpecial[id] { return SpecialToken.bytes(id) }
    return tokenBytes[id].contains(SpecialToken.mark) ? [] : tokenBytes[id]
  }

  /// An automaton equal to `automaton` that may know tokens already.
  func shared(_ automaton: ByteAutomaton) -> ByteAutomaton {
    let key = AutomatonKey(automaton)
    return automata.withLock { automata in
      if let known = automata[key] { return known }
      if automata.count >= Self.automataLimit { automata.removeAll() }
      automata[key] = automaton
      return automaton
    }
  }

  /// What `make` builds for a source, or built for it before.
  func automaton(
    _ key: AutomatonSource, make: () throws(GrammarError) -> ByteAutomaton?
  ) throws(GrammarError) -> ByteAutomaton? {
    if let known = built.withLock({ $0[key] }) { return known }
    let made = try make()
    built.withLock { built in
      if built.count >= Self.automataLimit { built.removeAll() }
      built[key] = .some(made)
    }
    return made
  }

  /// The tokens that fit into the leaf `automaton` from `state` on.
  func leafTokens(_ automaton: ByteAutomaton, state: Int) -> LeafTokens {
    if let known = automaton.knownTokens.withLock({ $0[state] }) { return known }
    if let counting = automaton.counting, counting.levels[state] >= 0 {
      let found = countedTokens(counting, level: Int(counting.levels[state]))
      automaton.remember(found, state: state)
      return found
    }
    var mask = TokenMask(vocabularySize: size)
    var exits: [Int32] = []
    var states = [Int](repeating: 0, count: maximumDepth + 1)
    states[0] = state
    var node = 0
    while node < nodeBytes.count {
      let depth = Int(nodeDepths[node])
      let next = automaton.next(states[depth - 1], nodeBytes[node])
      guard next >= 0 else {
        node = Int(nodeEnds[node])
        continue
      }
      states[depth] = next
      insertTokens(at: node, into: &mask)
      if automaton.isAccepting(next), Int(nodeEnds[node]) > node + 1 { exits.append(Int32(node)) }
      node += 1
    }
    let found = LeafTokens(mask: mask, exits: exits)
    automaton.remember(found, state: state)
    return found
  }

  @inline(__always)
  func insertTokens(at node: Int, into mask: inout TokenMask) {
    var token = nodeTokens[node]
    while token >= 0 {
      mask.insert(Int(token))
      token = nextAlike[Int(token)]
    }
  }
}

/// What a vocabulary looks like from one state of a leaf.
struct LeafTokens: Sendable {
  /// The tokens that stay within the leaf, or end where it may end.
  let mask: TokenMask
  /// The tree's nodes where the leaf may end within longer tokens.
  let exits: [Int32]

  /// How many states' tokens a leaf remembers.
  static let limit = 512
}

extension ByteAutomaton {
  fileprivate func remember(_ tokens: LeafTokens, state: Int) {
    knownTokens.withLock { known in
      if known.count >= LeafTokens.limit { known.removeAll() }
      known[state] = tokens
    }
  }
}

/// What an automaton was built for.
enum AutomatonSource: Hashable {
  case expression(Expression, TextEncoding)
  case until(UntilMarker)
}

/// How special tokens are told from text.
enum SpecialToken {
  /// The byte that begins them; it occurs in no UTF-8 text.
  static let mark: UInt8 = 0xFF

  static func bytes(_ id: Int) -> [UInt8] {
    [mark, UInt8(id >> 16 & 255), UInt8(id >> 8 & 255), UInt8(id & 255)]
  }
}

/// The tree of all tokens' bytes in depth-first order.
private struct TokenTree {
  var bytes: [UInt8] = []
  var depths: [UInt16] = []
  var ends: [Int32] = []
  var tokens: [Int32] = []
  var nextAlike: [Int32]

  init(tokenBytes: [[UInt8]], isSpecial: [Bool]) {
    nextAlike = Array(repeating: -1, count: tokenBytes.count)
    var entries: [(path: [UInt8], id: Int)] = []
    for (id, text) in tokenBytes.enumerated() {
      if isSpecial[id] {
        entries.append((SpecialToken.bytes(id), id))
      } else if !text.isEmpty, !text.contains(SpecialToken.mark) {
        entries.append((text, id))
      }
    }
    entries.sort { $0.path.lexicographicallyPrecedes($1.path) }
    var open: [Int] = []  // the nodes from the root to the present one
    var previous: [UInt8] = []
    for (path, id) in entries {
      var shared = 0
      while shared < min(previous.count, path.count), previous[shared] == path[shared] {
        shared += 1
      }
      while open.count > shared { ends[open.removeLast()] = Int32(bytes.count) }
      for byte in path[shared...] {
        open.append(bytes.count)
        bytes.append(byte)
        depths.append(UInt16(open.count))
        ends.append(0)
        tokens.append(-1)
      }
      if let node = open.last {
        nextAlike[id] = tokens[node]
        tokens[node] = Int32(id)
      }
      previous = path
    }
    for node in open { ends[node] = Int32(bytes.count) }
  }
}
