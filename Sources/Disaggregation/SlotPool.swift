/// Registered blocks of one size, made when first needed and used again and again.
struct SlotPool<T: Transport> {
  private let transport: T
  private let byteCount: Int
  private let limit: Int
  private var blocks: [RegisteredMemory] = []
  private var free: [Int] = []

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
    if let index = free.popLast() { return index }
    if blocks.count >= limit { return nil }
    blocks.append(try transport.register(byteCount: byteCount))
    return blocks.count - 1
  }

  /// Takes a block back.
  mutating func give(_ index: Int) {
    precondition(!free.contains(index), "block \(index) is free already")
    free.append(index)
  }

  /// The first `count` bytes of a block.
  func slice(_ index: Int, _ count: Int) -> RegisteredSlice { blocks[index][0..<count] }
}
