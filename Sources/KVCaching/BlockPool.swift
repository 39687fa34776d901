/// The KV cache's blocks as the scheduler uses them: tables that grow, fork, share and end.
///
/// Invariants, checked by `checkInvariants`: free + idle + used = all blocks; a block has as many
/// owners as tables hold it; a block with content that the prefix cache knows is never written.
package struct BlockPool: Sendable {
  /// P, positions per block.
  package let blockSize: Int
  /// Whether full blocks are kept for other sequences with the same prefix.
  package let isPrefixCachingEnabled: Bool
  private var allocator: BlockAllocator
  private var prefixes: PrefixCache

  /// A pool of `blockCount` blocks, all free.
  package init(blockCount: Int, blockSize: Int, isPrefixCachingEnabled: Bool = true) {
    precondition(blockSize > 0, "a block holds at least one position")
    self.blockSize = blockSize
    self.isPrefixCachingEnabled = isPrefixCachingEnabled
    allocator = BlockAllocator(blockCount: blockCount)
    prefixes = PrefixCache(blockCount: blockCount, blockSize: blockSize)
  }

  /// Number of blocks.
  package var blockCount: Int { allocator.blockCount }
  /// Blocks that a table can get: free ones and idle ones with content.
  package var availableCount: Int { allocator.availableCount }
  /// Blocks in tables.
  package var usedCount: Int { allocator.usedCount }
  /// Blocks in no table whose content is kept.
  package var idleCount: Int { allocator.idleCount }

  /// Blocks that `tokenCount` positions need.
  package func blockCount(forTokenCount tokenCount: Int) -> Int {
    (tokenCount + blockSize - 1) / blockSize
  }

  /// Full blocks at the start of a sequence that the cache holds.
  package struct PrefixMatch: Equatable, Sendable {
    /// Positions that it covers, those of the table it continues included.
    package let tokenCount: Int
    /// How many of its blocks are in no table: taking the match makes them unavailable.
    package let idleBlockCount: Int
    fileprivate let blocks: [Int32]
    fileprivate let lastName: UInt64
  }

  /// Looks for blocks that continue `table` with the same tokens; at most `limit` positions in all.
  package func match(
    _ tokens: [Int], _ identity: PrefixIdentity, continuing table: BlockTable = BlockTable(),
    limit: Int
  ) -> PrefixMatch {
    var blocks: [Int32] = []
    var name = table.lastCommitted
    var idleBlockCount = 0
    var index = table.committedCount
    while isPrefixCachingEnabled && (index + 1) * blockSize <= min(limit, tokens.count) {
      guard let entry = prefixes.find(index, of: tokens, after: name, identity) else { break }
      if allocator.isIdle(entry.block) { idleBlockCount += 1 }
      blocks.append(entry.block)
      name = entry.name
      index += 1
    }
    return PrefixMatch(
      tokenCount: index * blockSize, idleBlockCount: idleBlockCount, blocks: blocks,
      lastName: name)
  }

  /// Makes `table` own the matched blocks instead of what it has at their positions.
  package mutating func adopt(_ match: PrefixMatch, into table: inout BlockTable) {
    for block in match.blocks {
      allocator.retain(block)
      if table.committedCount < table.blocks.count {
        release(table.blocks[table.committedCount])
        table.blocks[table.committedCount] = block
      } else {
        table.blocks.append(block)
      }
      table.committedCount += 1
    }
    table.lastCommitted = match.lastName
  }

  /// Gives `table` blocks for `tokenCount` positions; all or nothing.
  package mutating func extend(_ table: inout BlockTable, toTokenCount tokenCount: Int) -> Bool {
    let missing = blockCount(forTokenCount: tokenCount) - table.blocks.count
    guard missing <= availableCount else { return false }
    for _ in 0..<max(0, missing) {
      guard let block = allocate() else { return false }
      table.blocks.append(block)
    }
    return true
  }

  /// A second owner of everything in `table`, for another choice of the same request.
  package mutating func fork(_ table: BlockTable) -> BlockTable {
    for block in table.blocks { allocator.retain(block) }
    return table
  }

  /// What must happen before a table's position may be written.
  package enum WriteAccess: Equatable, Sendable {
    /// The table owns the block alone.
    case granted
    /// The block was shared: the table has a new one, which needs this copy first.
    case grantedAfterCopy(BlockCopy)
    /// The block is shared and there is none left to copy it to.
    case outOfBlocks
  }

  /// Makes the block at `position` the table's own.
  package mutating func requestWrite(
    at position: Int, in table: inout BlockTable
  ) -> WriteAccess {
    let index = position / blockSize
    precondition(index < table.blocks.count, "position \(position) has no block")
    precondition(index >= table.committedCount, "position \(position) is in a finished block")
    let shared = table.blocks[index]
    guard allocator.ownerCount(of: shared) > 1 else { return .granted }
    guard let block = allocate() else { return .outOfBlocks }
    release(shared)
    table.blocks[index] = block
    return .grantedAfterCopy(BlockCopy(source: shared, target: block))
  }

  /// Lets other sequences find the blocks that `computedCount` computed positions have filled.
  ///
  /// Where another table has committed the same tokens meanwhile, this one takes that block and
  /// gives up its own, whose content is the same, bit for bit.
  package mutating func commit(
    _ table: inout BlockTable, _ tokens: [Int], _ identity: PrefixIdentity, computedCount: Int
  ) {
    guard isPrefixCachingEnabled else { return }
    while (table.committedCount + 1) * blockSize <= computedCount {
      let index = table.committedCount
      let parent = table.lastCommitted
      if let entry = prefixes.find(index, of: tokens, after: parent, identity) {
        if entry.block != table.blocks[index] {
          allocator.retain(entry.block)
          release(table.blocks[index])
          table.blocks[index] = entry.block
        }
        table.lastCommitted = entry.name
      } else {
        table.lastCommitted = prefixes.insert(
          table.blocks[index], index, of: tokens, after: parent, identity)
      }
      table.committedCount += 1
    }
  }

  /// Gives up a table's blocks; what the prefix cache knows is kept, its end evicted first.
  package mutating func release(_ table: inout BlockTable) {
    for block in table.blocks.reversed() { release(block) }
    table = BlockTable()
  }

  /// Forgets all content that no table uses.
  package mutating func forgetIdle() {
    for block in allocator.idleInOrder {
      prefixes.remove(block)
      allocator.forget(block)
    }
  }

  /// Checks the promises above, given every table in existence.
  package func checkInvariants(tables: [BlockTable]) throws(CacheInvariantViolation) {
    try allocator.checkInvariants()
    var holderCounts = [Int](repeating: 0, count: blockCount)
    for table in tables {
      for block in table.blocks { holderCounts[Int(block)] += 1 }
      for block in table.blocks.prefix(table.committedCount) where !prefixes.contains(block) {
        throw .prefixDiffers(block: Int(block))
      }
    }
    for (block, count) in holderCounts.enumerated() {
      let ownerCount = allocator.ownerCount(of: Int32(block))
      guard count == ownerCount else {
        throw .ownersDiffer(block: block, tables: count, owners: ownerCount)
      }
      guard !allocator.isIdle(Int32(block)) || prefixes.contains(Int32(block)) else {
        throw .prefixDiffers(block: block)
      }
    }
    try prefixes.checkInvariants { allocator.isIdle($0) || allocator.ownerCount(of: $0) > 0 }
  }

  private mutating func allocate() -> Int32? {
    guard let allocation = allocator.allocate() else { return nil }
    if allocation.isEvicted { prefixes.remove(allocation.block) }
    return allocation.block
  }

  private mutating func release(_ block: Int32) {
    allocator.release(block, isContentKept: prefixes.contains(block))
  }
}
