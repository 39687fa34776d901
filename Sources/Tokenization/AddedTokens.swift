/// A token outside the merges: its text is looked for before anything else happens to a text.
package struct AddedToken: Sendable, Equatable {
  /// Its number.
  package let id: TokenID
  /// The text that stands for it.
  package let content: String
  /// Whether it steers the model rather than being text, so that decoding may leave it out.
  package let isSpecial: Bool
  /// Whether it is looked for in normalized text.
  let isNormalized: Bool
  /// Whether it matches only where no word goes on at either side.
  let isSingleWord: Bool
  /// Whether it swallows white space on its left.
  let stripsLeft: Bool
  /// Whether it swallows white space on its right.
  let stripsRight: Bool
}

/// Which added tokens are recognised in a text.
package enum AddedTokenPolicy: Sendable {
  /// All: the text is a rendered prompt, whose markers are meant.
  case recognizeAll
  /// All but what `Tokenizer.shielded` has marked as foreign; the shields are taken out.
  case recognizeUnshielded
  /// All but the special ones, which become ordinary text.
  case recognizeUnspecial
  /// None: the text is foreign and must not be able to speak as the template does.
  case recognizeNone
}

/// Finds added tokens in text: leftmost first, the longest of those that begin together.
struct AddedTokenMatcher: Sendable {
  private struct Node: Sendable {
    var children: [(byte: UInt8, node: Int)] = []
    var token: Int?
  }

  /// A stretch of text, or an added token found in it.
  enum Segment: Equatable {
    case text(Piece)
    case token(TokenID)
  }

  private let tokens: [AddedToken]
  private var nodes = [Node()]
  private(set) var canBegin = [Bool](repeating: false, count: 256)

  /// Whether there is nothing to find.
  var isEmpty: Bool { tokens.isEmpty }

  /// Looks for `tokens`, each spelled as `spelling` gives it.
  init(_ tokens: [AddedToken], spelling: (AddedToken) -> String) {
    self.tokens = tokens
    for (index, token) in tokens.enumerated() {
      var node = 0
      for byte in spelling(token).utf8 { node = child(of: node, byte) }
      if node != 0 { nodes[node].token = index }
    }
    for (byte, _) in nodes[0].children { canBegin[Int(byte)] = true }
  }

  private mutating func child(of node: Int, _ byte: UInt8) -> Int {
    if let found = nodes[node].children.first(where: { $0.byte == byte }) { return found.node }
    nodes.append(Node())
    nodes[node].children.append((byte, nodes.count - 1))
    return nodes.count - 1
  }

  /// Cuts `piece` of `text` at the added tokens that `policy` recognises.
  func segments(
    of text: [UInt8], _ piece: Piece, policy: AddedTokenPolicy
  ) -> [Segment] {
    guard !isEmpty, policy != .recognizeNone else {
      return piece.start < piece.end ? [.text(piece)] : []
    }
    var result: [Segment] = []
    var pending = piece.start
    var index = piece.start
    while index < piece.end {
      guard canBegin[Int(text[index])], let match = longestMatch(text, index, piece.end) else {
        index += 1
        continue
      }
      // A match that does not count is stepped over whole, as `tokenizers` does.
      let (token, end) = match
      var bounds = Piece(start: index, end: end)
      index = end
      if token.isSpecial, policy == .recognizeUnspecial { continue }
      if token.isSingleWord, WordBoundary.touchesWord(text, piece, bounds) { continue }
      if token.stripsLeft { bounds.start = WordBoundary.spaceStart(text, pending, bounds.start) }
      if token.stripsRight { bounds.end = WordBoundary.spaceEnd(text, bounds.end, piece.end) }
      if pending < bounds.start { result.append(.text(Piece(start: pending, end: bounds.start))) }
      result.append(.token(token.id))
      pending = bounds.end
      index = max(index, pending)
    }
    if pending < piece.end { result.append(.text(Piece(start: pending, end: piece.end))) }
    return result
  }

  func longestMatch(
    _ text: [UInt8], _ start: Int, _ limit: Int
  ) -> (token: AddedToken, end: Int)? {
    var node = 0
    var found: (token: AddedToken, end: Int)?
    var index = start
    while index < limit,
      let next = nodes[node].children.first(where: { $0.byte == text[index] })?.node
    {
      node = next
      index += 1
      if let token = nodes[node].token { found = (tokens[token], index) }
    }
    return found
  }
}

/// What surrounds a match: the tests `\w` and `\s` of the `regex` crate.
enum WordBoundary {
  /// Whether a word character stands right before or after `match` within `piece`.
  static func touchesWord(_ text: [UInt8], _ piece: Piece, _ match: Piece) -> Bool {
    if let before = scalar(before: match.start, in: text, from: piece.start), isWord(before) {
      return true
    }
    if let after = scalar(at: match.end, in: text, to: piece.end), isWord(after) { return true }
    return false
  }

  /// The start of the white space that ends at `end`, not before `start`.
  static func spaceStart(_ text: [UInt8], _ start: Int, _ end: Int) -> Int {
    var index = end
    while let scalar = scalar(before: index, in: text, from: start),
      scalar.properties.isWhitespace
    {
      index -= String(Character(scalar)).utf8.count
    }
    return index
  }

  /// The end of the white space that begins at `start`, not beyond `end`.
  static func spaceEnd(_ text: [UInt8], _ start: Int, _ end: Int) -> Int {
    var index = start
    while let scalar = scalar(at: index, in: text, to: end), scalar.properties.isWhitespace {
      index += String(Character(scalar)).utf8.count
    }
    return index
  }

  private static func scalar(before end: Int, in text: [UInt8], from start: Int) -> Unicode.Scalar?
  {
    guard end > start else { return nil }
    var index = end - 1
    while index > start, text[index] & 0xC0 == 0x80 { index -= 1 }
    return String(decoding: text[index..<end], as: UTF8.self).unicodeScalars.first
  }

  private static func scalar(at start: Int, in text: [UInt8], to end: Int) -> Unicode.Scalar? {
    guard start < end else { return nil }
    var index = start + 1
    while index < end, text[index] & 0xC0 == 0x80 { index += 1 }
    return String(decoding: text[start..<index], as: UTF8.self).unicodeScalars.first
  }

  private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    if properties.isAlphabetic || properties.isJoinControl { return true }
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation:
      return true
    default: return false
    }
  }
}
