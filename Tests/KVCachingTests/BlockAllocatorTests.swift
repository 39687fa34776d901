import KVCaching
import Testing

@Suite struct BlockAllocatorTests {
  @Test("blocks are handed out from the lowest and can run out") func exhaustion() throws {
    var allocator = BlockAllocator(blockCount: 3)
    #expect((0..<3).map { _ in allocator.allocate()?.block } == [0, 1, 2])
    #expect(allocator.allocate() == nil)
    allocator.release(1, isContentKept: false)
    let again = allocator.allocate()
    #expect(again?.block == 1 && again?.isEvicted == false)
    try allocator.checkInvariants()
  }

  @Test("free blocks go before idle ones, and the least recently used idle one first")
  func leastRecentlyUsed() throws {
    var allocator = BlockAllocator(blockCount: 4)
    for _ in 0..<4 { _ = allocator.allocate() }
    for block in [2, 0, 3] as [Int32] { allocator.release(block, isContentKept: true) }
    allocator.retain(2)
    allocator.release(2, isContentKept: true)
    allocator.release(1, isContentKept: false)
    #expect(allocator.idleInOrder == [0, 3, 2])
    try allocator.checkInvariants()
    let order = (0..<4).map { _ in allocator.allocate() }
    #expect(order.map { $0?.block } == [1, 0, 3, 2])
    #expect(order.map { $0?.isEvicted } == [false, true, true, true])
  }

  @Test("a block with two owners stays until both are gone") func owners() throws {
    var allocator = BlockAllocator(blockCount: 1)
    _ = allocator.allocate()
    allocator.retain(0)
    allocator.release(0, isContentKept: false)
    #expect(allocator.usedCount == 1 && allocator.allocate() == nil)
    allocator.release(0, isContentKept: false)
    #expect(allocator.freeCount == 1)
  }
}
