/// Who owns which block of the KV cache: a free list, reference counts, and the blocks that nobody
/// uses but whose content may be wanted again.
///
/// A block is in exactly one of three places: *free* (content worthless), *idle* (content kept,
/// least recently used first), or *used* (at least one owner). Only numbers are moved here; the
/// memory is `KVStore`'s.
package struct BlockAllocator: Sendable {
  /// Number of blocks, B.
  package let blockCount: Int
  /// Free blocks; the last one is taken next.
  private var freeBlocks: [Int32]
  /// Owners per block.
  private var ownerCounts: [Int32]
  private var idleBlocks: RecencyList

  /// All blocks free; the lowest number is taken first.
  package init(blockCount: Int) {
    precondition(blockCount > 0 && blockCount < Int(Int32.max), "\(blockCount) blocks")
    self.blockCount = blockCount
    freeBlocks = (0..<Int32(blockCount)).reversed()
    ownerCounts = [Int32](repeating: 0, count: blockCount)
    idleBlocks = RecencyList(capacity: blockCount)
  }

  /// Blocks whose content is worthless.
  package var freeCount: Int { freeBlocks.count }
  /// Blocks without owner whose content is kept.
  package var idleCount: Int { idleBlocks.count }
  /// Blocks that can be allocated: free and idle ones.
  package var availableCount: Int { freeCount + idleCount }
  /// Blocks with at least one owner.
  package var usedCount: Int { blockCount - availableCount }

  /// How many owners `block` has.
  package func ownerCount(of block: Int32) -> Int { Int(ownerCounts[Int(block)]) }

  /// Whether nobody owns `block` but its content is kept.
  package func isIdle(_ block: Int32) -> Bool { idleBlocks.contains(block) }

  /// A block for a new owner.
  package struct Allocation: Equatable, Sendable {
    /// The block's number.
    package let block: Int32
    /// Whether the block's old content was still kept and is lost now.
    package let isEvicted: Bool
  }

  /// Takes a free block, else the least recently used idle one; `nil` when all are owned.
  package mutating func allocate() -> Allocation? {
    if let block = freeBlocks.popLast() {
      ownerCounts[Int(block)] = 1
      return Allocation(block: block, isEvicted: false)
    }
    guard let block = idleBlocks.removeOldest() else { return nil }
    ownerCounts[Int(block)] = 1
    return Allocation(block: block, isEvicted: true)
  }

  /// Adds an owner to a used or idle block.
  package mutating func retain(_ block: Int32) {
    if ownerCounts[Int(block)] == 0 {
      precondition(idleBlocks.contains(block), "block \(block) is free; its content is worthless")
      idleBlocks.remove(block)
    }
    ownerCounts[Int(block)] += 1
  }

  /// Removes an owner; the last one leaves the block idle when its content is kept, else free.
  package mutating func release(_ block: Int32, isContentKept: Bool) {
    precondition(ownerCounts[Int(block)] > 0, "block \(block) has no owner")
    ownerCounts[Int(block)] -= 1
    guard ownerCounts[Int(block)] == 0 else { return }
    if isContentKept {
      idleBlocks.append(block)
    } else {
      freeBlocks.append(block)
    }
  }

  /// Gives up the content of an idle block.
  package mutating func forget(_ block: Int32) {
    precondition(idleBlocks.contains(block), "block \(block) is not idle")
    idleBlocks.remove(block)
    freeBlocks.append(block)
  }

  /// Every idle block, least recently used first.
  package var idleInOrder: [Int32] { idleBlocks.elements }

  /// Checks that every block is in exactly one place.
  package func checkInvariants() throws(CacheInvariantViolation) {
    var places = [Int](repeating: 0, count: blockCount)
    for block in freeBlocks { places[Int(block)] += 1 }
    for block in idleBlocks.elements { places[Int(block)] += 1 }
    for (block, ownerCount) in ownerCounts.enumerated() {
      if ownerCount > 0 { places[block] += 1 }
      guard ownerCount >= 0 && places[block] == 1 else {
        throw .blockInSeveralPlaces(block: block, count: places[block])
      }
    }
    guard freeCount + idleCount + usedCount == blockCount else {
      throw .blocksLost(free: freeCount, idle: idleCount, total: blockCount)
    }
  }
}

/// A broken promise of the cache's bookkeeping; always a defect of the engine.
package enum CacheInvariantViolation: Error, Equatable, Sendable {
  /// A block is free, idle and used at once, or none of these.
  case blockInSeveralPlaces(block: Int, count: Int)
  /// Free, idle and used blocks do not add up.
  case blocksLost(free: Int, idle: Int, total: Int)
  /// The tables that hold a block are not as many as its owners.
  case ownersDiffer(block: Int, tables: Int, owners: Int)
  /// The prefix index and the blocks disagree about what a block holds.
  case prefixDiffers(block: Int)
  /// A block is kept although the block before it is not, so that it can never be found.
  case orphan(block: Int)
}

/// Blocks in the order of their last use, with constant-time removal from the middle.
private struct RecencyList: Sendable {
  private(set) var count = 0
  /// Neighbours per block and, at the end, of the sentinel that closes the ring; -1: not listed.
  private var next: [Int32]
  private var previous: [Int32]
  private var sentinel: Int { next.count - 1 }

  init(capacity: Int) {
    next = [Int32](repeating: -1, count: capacity + 1)
    previous = next
    next[capacity] = Int32(capacity)
    previous[capacity] = Int32(capacity)
  }

  func contains(_ block: Int32) -> Bool { next[Int(block)] >= 0 }

  mutating func append(_ block: Int32) {
    let last = previous[sentinel]
    next[Int(last)] = block
    previous[Int(block)] = last
    next[Int(block)] = Int32(sentinel)
    previous[sentinel] = block
    count += 1
  }

  mutating func remove(_ block: Int32) {
    let after = next[Int(block)]
    let before = previous[Int(block)]
    next[Int(before)] = after
    previous[Int(after)] = before
    next[Int(block)] = -1
    previous[Int(block)] = -1
    count -= 1
  }

  mutating func removeOldest() -> Int32? {
    guard count > 0 else { return nil }
    let oldest = next[sentinel]
    remove(oldest)
    return oldest
  }

  var elements: [Int32] {
    var elements: [Int32] = []
    var block = next[sentinel]
    while Int(block) != sentinel {
      elements.append(block)
      block = next[Int(block)]
    }
    return elements
  }
}
