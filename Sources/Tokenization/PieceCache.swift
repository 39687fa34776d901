/// Remembers the tokens of short pieces; a piece that falls on an occupied place replaces it, so
/// the size never grows.
struct PieceCache: Sendable {
  /// Longer pieces are not remembered.
  static let keyLength = 24
  private static let idCapacity = 8
  private static let slotCount = 1 << 15

  /// A piece's bytes in three words, and its length and hash.
  struct Key {
    fileprivate let words: (UInt64, UInt64, UInt64)
    fileprivate let length: UInt64
    fileprivate let slot: Int

    @inline(__always)
    init(_ text: [UInt8], _ piece: Piece) {
      var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
      let count = piece.end - piece.start
      for offset in 0..<min(count, 8) {
        words.0 = words.0 << 8 | UInt64(text[piece.start + offset])
      }
      if count > 8 {
        for offset in 8..<min(count, 16) {
          words.1 = words.1 << 8 | UInt64(text[piece.start + offset])
        }
      }
      if count > 16 {
        for offset in 16..<count { words.2 = words.2 << 8 | UInt64(text[piece.start + offset]) }
      }
      self.words = words
      length = UInt64(count)
      var hash = (words.0 ^ length << 56) &* 0x9E37_79B9_7F4A_7C15
      hash = (hash ^ hash >> 32 ^ words.1) &* 0xD6E8_FEB8_6659_FD93
      hash = (hash ^ hash >> 32 ^ words.2) &* 0x9E37_79B9_7F4A_7C15
      slot = Int(truncatingIfNeeded: hash >> 40) & (PieceCache.slotCount - 1)
    }
  }

  /// Four words a slot: the key's three, then its length and the number of ids.
  private var keys: [UInt64] = []
  private var ids: [TokenID] = []

  /// Appends the remembered tokens; false when the piece is not remembered.
  @inline(__always)
  func appendHit(_ key: Key, to destination: inout [TokenID]) -> Bool {
    guard !keys.isEmpty else { return false }
    let base = key.slot * 4
    let sizes = keys[base + 3]
    guard keys[base] == key.words.0, sizes >> 8 == key.length, keys[base + 1] == key.words.1,
      keys[base + 2] == key.words.2
    else { return false }
    let first = key.slot * Self.idCapacity
    for index in first..<first + Int(sizes & 0xFF) { destination.append(ids[index]) }
    return true
  }

  /// Remembers the tokens of a piece if they are few.
  mutating func store(_ key: Key, _ tokens: ArraySlice<TokenID>) {
    guard tokens.count <= Self.idCapacity else { return }
    if keys.isEmpty {
      keys = [UInt64](repeating: 0, count: Self.slotCount * 4)
      ids = [TokenID](repeating: 0, count: Self.slotCount * Self.idCapacity)
    }
    let base = key.slot * 4
    keys[base] = key.words.0
    keys[base + 1] = key.words.1
    keys[base + 2] = key.words.2
    keys[base + 3] = key.length << 8 | UInt64(tokens.count)
    var index = key.slot * Self.idCapacity
    for token in tokens {
      ids[index] = token
      index += 1
    }
  }
}

/// Working memory of merging, reused from piece to piece.
struct MergeScratch: Sendable {
  var cache = PieceCache()
  var symbols: [TokenID] = []
  var pairs: [MergeTable.Result] = []
  var spelling: [UInt8] = []
}
