/// Registered blocks of one size, made when first needed and used again and again.
struct SlotPool<T: Transport> {
  private let transport: T
  private var byteCount: Int
  private let limit: Int
  private var blocks: [RegisteredMemory] = []
  private var free: [Int] = []
  /// Blocks of an older, smaller size, which are replaced when they are taken.
  private var outgrown: Set<Int> = []

  /// At most `limit` blocks of `byteCount` bytes.
  init(transport: T, byteCount: Int, limit: Int) {
    self.transport = transport
    self.byteCount = (max(64, byteCount) + 63) / 64 * 64
    self.limit = limit
  }

  /// Blocks in use.
  var usedCount: Int { blocks.count - free.count }

  /// A free block; nil when all are in use.
  mutating func take() throws(TransportError) -> Int? {
    if let index = free.popLast() {
      if outgrown.contains(index) {
        do throws(TransportError) {
          blocks[index] = try transport.register(byteCount: byteCount)
        } catch {
          free.append(index)
          throw error
        }
        outgrown.remove(index)
      }
      return index
    }
    if blocks.count >= limit { return nil }
    blocks.append(try transport.register(byteCount: byteCount))
    return blocks.count - 1
  }

  /// Makes every block that is taken from now on hold as many bytes.
  mutating func grow(toHold count: Int) {
    let size = (count + 63) / 64 * 64
    if size <= byteCount { return }
    byteCount = size
    outgrown = Set(blocks.indices)
  }

  /// Takes a block back.
  mutating func give(_ index: Int) {
    precondition(!free.contains(index), "block \(index) is free already")
    free.append(index)
  }

  /// The first `count` bytes of a block.
  func slice(_ index: Int, _ count: Int) -> RegisteredSlice { blocks[index][0..<count] }
}
