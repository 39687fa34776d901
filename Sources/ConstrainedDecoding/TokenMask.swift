/// A set of token ids: bit t % 64 of word t / 64 says whether token t is in it.
package struct TokenMask: Equatable, Sendable {
  /// The bits.
  package private(set) var words: [UInt64]
  /// Ids lie in 0..<vocabularySize.
  package let vocabularySize: Int

  /// The empty set.
  package init(vocabularySize: Int) {
    self.vocabularySize = vocabularySize
    words = Array(repeating: 0, count: (vocabularySize + 63) / 64)
  }

  /// Whether token `id` is in the set.
  package subscript(id: Int) -> Bool { words[id >> 6] >> UInt64(id & 63) & 1 == 1 }

  /// The number of tokens in the set.
  package var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

  /// The ids in the set, ascending.
  package var ids: [Int] { (0..<vocabularySize).filter { self[$0] } }

  mutating func removeAll() {
    for place in words.indices { words[place] = 0 }
  }

  @inline(__always)
  mutating func insert(_ id: Int) { words[id >> 6] |= 1 << UInt64(id & 63) }

  mutating func formUnion(_ other: TokenMask) {
    for place in words.indices { words[place] |= other.words[place] }
  }
}
