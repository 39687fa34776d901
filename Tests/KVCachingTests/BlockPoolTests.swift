import KVCaching
import Testing

/// A small generator for workloads; the seed is in the test's arguments.
struct WorkloadRandom: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

@Suite struct BlockPoolTests {
  private let plain = PrefixIdentity()

  /// A table whose first `count` tokens are computed and committed.
  private func table(
    _ tokens: [Int], _ pool: inout BlockPool, _ identity: PrefixIdentity = PrefixIdentity()
  ) -> BlockTable {
    var table = BlockTable()
    pool.adopt(pool.match(tokens, identity, limit: tokens.count), into: &table)
    #expect(pool.extend(&table, toTokenCount: tokens.count))
    pool.commit(&table, tokens, identity, computedCount: tokens.count)
    return table
  }

  @Test("a second sequence finds the full blocks of the first, in use or released")
  func prefixHit() throws {
    var pool = BlockPool(blockCount: 10, blockSize: 4)
    let tokens = Array(0..<11)
    var first = table(tokens, &pool)
    #expect(pool.match(tokens, plain, limit: 11).tokenCount == 8)
    pool.release(&first)
    #expect(pool.usedCount == 0 && pool.idleCount == 2)
    #expect(pool.match(tokens + [5], plain, limit: 12).tokenCount == 8)
    #expect(pool.match(tokens, plain, limit: 7).tokenCount == 4)
    let second = table(tokens, &pool)
    try pool.checkInvariants(tables: [second])
  }

  @Test("salt, images and any earlier token keep prefixes apart") func separation() {
    var pool = BlockPool(blockCount: 20, blockSize: 4)
    let tokens = Array(0..<8)
    let salted = PrefixIdentity(salt: "tenant")
    let image = PrefixIdentity(contents: [.init(positions: 5..<7, digest: [1, 2])])
    _ = table(tokens, &pool, image)
    #expect(pool.match(tokens, plain, limit: 8).tokenCount == 4)
    #expect(pool.match(tokens, image, limit: 8).tokenCount == 8)
    #expect(pool.match(tokens, salted, limit: 8).tokenCount == 0)
    let other = PrefixIdentity(contents: [.init(positions: 5..<7, digest: [1, 3])])
    let shifted = PrefixIdentity(contents: [.init(positions: 4..<7, digest: [1, 2])])
    #expect(pool.match(tokens, other, limit: 8).tokenCount == 4)
    #expect(pool.match(tokens, shifted, limit: 8).tokenCount == 4)
    #expect(pool.match([9] + tokens.dropFirst(), image, limit: 8).tokenCount == 0)
  }

  @Test("an image that begins in one block also names the next") func spanningImage() {
    var pool = BlockPool(blockCount: 20, blockSize: 4)
    let tokens = [Int](repeating: 7, count: 12)
    _ = table(tokens, &pool, PrefixIdentity(contents: [.init(positions: 2..<10, digest: [1])]))
    let late = PrefixIdentity(contents: [.init(positions: 2..<10, digest: [2])])
    #expect(pool.match(tokens, late, limit: 12).tokenCount == 0)
  }

  @Test("without prefix caching nothing is found and released blocks are free") func disabled() {
    var pool = BlockPool(blockCount: 4, blockSize: 2, isPrefixCachingEnabled: false)
    var first = table([1, 2, 3, 4], &pool)
    pool.release(&first)
    #expect(pool.match([1, 2, 3, 4], plain, limit: 4).tokenCount == 0)
    #expect(pool.idleCount == 0 && pool.availableCount == 4)
  }

  @Test("two tables that computed the same block end up sharing one") func deduplication() throws {
    var pool = BlockPool(blockCount: 8, blockSize: 2)
    var tables = [BlockTable(), BlockTable()]
    for index in tables.indices { #expect(pool.extend(&tables[index], toTokenCount: 4)) }
    #expect(pool.usedCount == 4)
    for index in tables.indices {
      pool.commit(&tables[index], [5, 6, 7, 8], plain, computedCount: 3)
    }
    #expect(pool.usedCount == 3)
    #expect(tables[0].blocks[0] == tables[1].blocks[0])
    #expect(tables[0].blocks[1] != tables[1].blocks[1])
    try pool.checkInvariants(tables: tables)
  }

  @Test("forks share blocks until one writes; the last one writes in place") func copyOnWrite()
    throws
  {
    var pool = BlockPool(blockCount: 5, blockSize: 4)
    var tables = [table(Array(0..<6), &pool)]
    tables.append(pool.fork(tables[0]))
    tables.append(pool.fork(tables[0]))
    #expect(pool.usedCount == 2)
    let shared = tables[0].blocks[1]
    #expect(
      pool.requestWrite(at: 6, in: &tables[0])
        == .grantedAfterCopy(BlockCopy(source: shared, target: 2)))
    #expect(
      pool.requestWrite(at: 6, in: &tables[1])
        == .grantedAfterCopy(BlockCopy(source: shared, target: 3)))
    #expect(pool.requestWrite(at: 6, in: &tables[2]) == .granted)
    #expect(tables.map { $0.blocks[0] } == [0, 0, 0])
    #expect(tables.map { $0.blocks[1] } == [2, 3, shared])
    try pool.checkInvariants(tables: tables)
  }

  @Test("an allocation that cannot be met changes nothing") func allOrNothing() throws {
    var pool = BlockPool(blockCount: 3, blockSize: 4)
    var first = BlockTable()
    #expect(pool.extend(&first, toTokenCount: 8))
    var second = BlockTable()
    #expect(!pool.extend(&second, toTokenCount: 8))
    #expect(second.blocks.isEmpty && pool.availableCount == 1)
    let fork = pool.fork(first)
    #expect(pool.extend(&second, toTokenCount: 4))
    #expect(pool.requestWrite(at: 3, in: &first) == .outOfBlocks)
    try pool.checkInvariants(tables: [first, second, fork])
  }

  @Test("the end of a prefix is evicted before its beginning") func evictionOrder() {
    var pool = BlockPool(blockCount: 4, blockSize: 2)
    let tokens = Array(0..<8)
    var first = table(tokens, &pool)
    pool.release(&first)
    var other = BlockTable()
    #expect(pool.extend(&other, toTokenCount: 4))
    #expect(pool.match(tokens, plain, limit: 8).tokenCount == 4)
    pool.release(&other)
    pool.forgetIdle()
    #expect(pool.match(tokens, plain, limit: 8).tokenCount == 0 && pool.idleCount == 0)
  }

  @Test("random lives of tables keep every invariant at every step", arguments: 1...20)
  func randomLives(seed: Int) throws {
    var random = WorkloadRandom(seed: UInt64(seed))
    let isCaching = seed % 4 != 0
    var pool = BlockPool(
      blockCount: Int.random(in: 4...40, using: &random),
      blockSize: Int.random(in: 1...5, using: &random), isPrefixCachingEnabled: isCaching)
    var lives: [(tokens: [Int], table: BlockTable)] = []
    for _ in 0..<300 {
      let choice = Int.random(in: 0..<10, using: &random)
      if choice < 4 || lives.isEmpty {
        // Few distinct tokens, so that prefixes are often shared.
        let count = Int.random(in: 1...30, using: &random)
        let tokens = (0..<count).map { _ in Int.random(in: 0..<2, using: &random) }
        var table = BlockTable()
        pool.adopt(pool.match(tokens, plain, limit: count), into: &table)
        if pool.extend(&table, toTokenCount: count) {
          pool.commit(&table, tokens, plain, computedCount: count)
          lives.append((tokens, table))
        } else {
          pool.release(&table)
        }
      } else {
        let index = Int.random(in: 0..<lives.count, using: &random)
        switch choice {
        case 4: lives.append((lives[index].tokens, pool.fork(lives[index].table)))
        case 5, 6: step(&lives[index], &pool, Int.random(in: 0..<2, using: &random))
        default:
          pool.release(&lives[index].table)
          lives.remove(at: index)
        }
      }
      try pool.checkInvariants(tables: lives.map(\.table))
    }
    for index in lives.indices { pool.release(&lives[index].table) }
    #expect(pool.usedCount == 0)
  }

  private func step(
    _ life: inout (tokens: [Int], table: BlockTable), _ pool: inout BlockPool, _ token: Int
  ) {
    let position = life.tokens.count
    guard pool.extend(&life.table, toTokenCount: position + 1),
      pool.requestWrite(at: position, in: &life.table) != .outOfBlocks
    else { return }
    life.tokens.append(token)
    pool.commit(&life.table, life.tokens, plain, computedCount: life.tokens.count)
  }
}
