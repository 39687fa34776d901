// Which block holds the keys and values of which tokens.
//
// A full block is named by everything its content depends on: the name of the block before it, its
// own tokens, and what else went into the computation (a tenant's salt, the images at its
// positions). Names are serial numbers that are never used twice, so equal (parent, tokens, extra)
// means an equal prefix by induction: a hit is verified token by token, not by a hash alone. The
// dictionary is only looked up, never walked. A radix tree (SGLang) shares parts of blocks too, but
// splits nodes; with blocks of 32 the gain is under one block per request, so it lost.

/// What besides its tokens determines a sequence's keys and values.
package struct PrefixIdentity: Hashable, Sendable {
  /// Separates tenants that must not see each other's timing.
  package var salt: String?
  /// What stands behind placeholder tokens, ascending and not overlapping.
  package var contents: [Content]

  /// An image (or other content) at positions of the sequence.
  package struct Content: Hashable, Sendable {
    /// Where in the sequence it stands.
    package var positions: Range<Int>
    /// A digest of the content, long enough that nobody finds two with the same one.
    package var digest: [UInt64]

    /// Content with `digest` behind the tokens at `positions`.
    package init(positions: Range<Int>, digest: [UInt64]) {
      self.positions = positions
      self.digest = digest
    }
  }

  /// Plain text without salt by default.
  package init(salt: String? = nil, contents: [Content] = []) {
    self.salt = salt
    self.contents = contents
  }
}

/// The index from a prefix's tokens to the block that holds its last ones.
struct PrefixCache: Sendable {
  /// The name before the first block.
  static let root: UInt64 = 0

  private struct Key: Hashable {
    let parent: UInt64
    let tokens: [Int32]
    let salt: String?
    /// Per content in the block: where it starts relative to the block, then its digest.
    let contents: [UInt64]
  }

  struct Entry: Sendable {
    let block: Int32
    let name: UInt64
  }

  private var entries: [Key: Entry] = [:]
  /// The key under which each block is known.
  private var keys: [Key?]
  private var names: [UInt64]
  private var lastName = PrefixCache.root
  private let blockSize: Int

  init(blockCount: Int, blockSize: Int) {
    self.blockSize = blockSize
    keys = [Key?](repeating: nil, count: blockCount)
    names = [UInt64](repeating: PrefixCache.root, count: blockCount)
  }

  func contains(_ block: Int32) -> Bool { keys[Int(block)] != nil }

  /// The block that holds tokens `index · P ..< (index + 1) · P` after the prefix named `parent`.
  func find(
    _ index: Int, of tokens: [Int], after parent: UInt64, _ identity: PrefixIdentity
  ) -> Entry? {
    entries[key(index, tokens, parent, identity)]
  }

  /// Makes `block` known; the caller has checked that no other block is known for this prefix.
  mutating func insert(
    _ block: Int32, _ index: Int, of tokens: [Int], after parent: UInt64,
    _ identity: PrefixIdentity
  ) -> UInt64 {
    let key = key(index, tokens, parent, identity)
    precondition(entries[key] == nil && keys[Int(block)] == nil, "block \(block) is known already")
    lastName += 1
    entries[key] = Entry(block: block, name: lastName)
    keys[Int(block)] = key
    names[Int(block)] = lastName
    return lastName
  }

  /// Forgets what `block` holds.
  mutating func remove(_ block: Int32) {
    guard let key = keys[Int(block)] else { return }
    entries[key] = nil
    keys[Int(block)] = nil
    names[Int(block)] = PrefixCache.root
  }

  private func key(
    _ index: Int, _ tokens: [Int], _ parent: UInt64, _ identity: PrefixIdentity
  ) -> Key {
    let positions = index * blockSize..<(index + 1) * blockSize
    var contents: [UInt64] = []
    for content in identity.contents where content.positions.overlaps(positions) {
      contents.append(
        UInt64(bitPattern: Int64(content.positions.lowerBound - positions.lowerBound)))
      contents.append(UInt64(content.digest.count))
      contents += content.digest
    }
    return Key(
      parent: parent, tokens: tokens[positions].map { Int32($0) },
      salt: parent == PrefixCache.root ? identity.salt : nil, contents: contents)
  }

  /// Checks that index and blocks agree and that every known block can be found from the root.
  func checkInvariants(isKept: (Int32) -> Bool) throws(CacheInvariantViolation) {
    var knownCount = 0
    var knownNames: Set<UInt64> = [PrefixCache.root]
    for block in keys.indices where keys[block] != nil { knownNames.insert(names[block]) }
    for (block, key) in keys.enumerated() {
      guard let key else { continue }
      knownCount += 1
      guard entries[key]?.block == Int32(block), entries[key]?.name == names[block],
        isKept(Int32(block))
      else { throw .prefixDiffers(block: block) }
      guard knownNames.contains(key.parent) else { throw .orphan(block: block) }
    }
    guard knownCount == entries.count else { throw .prefixDiffers(block: -1) }
  }
}
