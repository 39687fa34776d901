/// Which pairs of tokens merge, in which order, and into what.
///
/// An open hash table of interleaved (pair, result) words, so that a look-up touches one cache
/// line. A result holds the rank above the id, so that results compare by rank.
struct MergeTable: Sendable {
  /// Rank and id of a merge in one word; the smaller merges first.
  typealias Result = UInt64
  /// No merge: larger than any.
  static let none = Result.max

  private var words: [UInt64]
  private let mask: Int
  private static let empty = UInt64.max

  /// A table for up to `count` merges.
  init(capacity count: Int) {
    var capacity = 16
    while capacity < count * 2 { capacity *= 2 }
    words = [UInt64](repeating: Self.empty, count: capacity * 2)
    mask = capacity - 1
  }

  /// Adds a merge; a pair given twice keeps its later rank.
  mutating func insert(_ left: TokenID, _ right: TokenID, rank: Int, id: TokenID) {
    let key = Self.key(left, right)
    var slot = slot(of: key)
    while words[slot * 2] != Self.empty, words[slot * 2] != key { slot = (slot + 1) & mask }
    words[slot * 2] = key
    words[slot * 2 + 1] = UInt64(rank) << 32 | UInt64(id)
  }

  /// The merge of two neighbours, or `none`.
  @inline(__always)
  func result(_ left: TokenID, _ right: TokenID) -> Result {
    let key = Self.key(left, right)
    var slot = slot(of: key)
    while true {
      let found = words[slot * 2]
      if found == key { return words[slot * 2 + 1] }
      if found == Self.empty { return Self.none }
      slot = (slot + 1) & mask
    }
  }

  /// The id in a result.
  @inline(__always)
  static func id(in result: Result) -> TokenID { TokenID(truncatingIfNeeded: result) }

  @inline(__always)
  private static func key(_ left: TokenID, _ right: TokenID) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  @inline(__always)
  private func slot(of key: UInt64) -> Int {
    let mixed = key &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: (mixed ^ mixed >> 32) >> 8) & mask
  }
}
