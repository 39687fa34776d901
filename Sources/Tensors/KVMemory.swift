/// The element types that a KV cache can hold.
package enum KVElementType: String, Sendable, CaseIterable {
  case bfloat16
  case float32

  /// Bytes that one element takes.
  package var byteWidth: Int { self == .bfloat16 ? 2 : 4 }
}

/// The shape of one block of the KV cache of one layer.
///
/// MFA has one key head and one value head that all query heads share. Inside a block the kernels
/// own the order: keys lie in panels whose lanes are positions, values in panels whose lanes are
/// channels, so a block is only ever copied whole.
package struct KVLayout: Sendable, Equatable {
  /// How keys and values are stored.
  package let elementType: KVElementType
  /// P, positions per block.
  package let blockSize: Int
  /// d, channels of a key and of a value.
  package let headDimension: Int

  /// A layout; `blockSize` is 16, 32, 64, 128, 256 or 512, `headDimension` even.
  package init(elementType: KVElementType, blockSize: Int = 32, headDimension: Int) {
    precondition(
      blockSize >= 16 && blockSize <= 512 && blockSize & (blockSize - 1) == 0,
      "a block cannot have \(blockSize) positions")
    precondition(
      headDimension > 0 && headDimension % 2 == 0, "head dimension \(headDimension) is not even")
    self.elementType = elementType
    self.blockSize = blockSize
    self.headDimension = headDimension
  }

  /// Bytes of one block's keys; its values take as many.
  package var blockByteCount: Int { blockSize * headDimension * elementType.byteWidth }

  /// Bytes of `blockCount` blocks of one layer, keys and values.
  package func layerByteCount(blockCount: Int) -> Int { 2 * blockCount * blockByteCount }
}

/// The memory of one layer's blocks: an area of keys and an area of values.
package struct KVLayerMemory: Sendable {
  /// The shape of its blocks.
  package let layout: KVLayout
  /// Number of blocks.
  package let blockCount: Int
  /// The keys of block 0, block 1, ….
  package let keys: MutableByteRegion
  /// The values of block 0, block 1, ….
  package let values: MutableByteRegion

  /// Views two regions of `blockCount` blocks each.
  package init(
    layout: KVLayout, blockCount: Int, keys: MutableByteRegion, values: MutableByteRegion
  ) {
    let needed = blockCount * layout.blockByteCount
    precondition(
      keys.byteCount == needed && values.byteCount == needed,
      "\(blockCount) blocks need \(needed) bytes of keys and of values")
    self.layout = layout
    self.blockCount = blockCount
    self.keys = keys
    self.values = values
  }

  /// Layer `layer` of an arena that holds the layers one after the other.
  package init(
    layout: KVLayout, blockCount: Int, layer: Int, arena: borrowing ByteArena
  ) {
    let area = blockCount * layout.blockByteCount
    let start = layer * 2 * area
    self.init(
      layout: layout, blockCount: blockCount, keys: arena.region(start..<start + area),
      values: arena.region(start + area..<start + 2 * area))
  }

  /// Copies one block's keys and values onto another block.
  package func copyBlock(from source: Int, to target: Int) {
    let bytes = layout.blockByteCount
    keys.copy(from: source * bytes, to: target * bytes, byteCount: bytes)
    values.copy(from: source * bytes, to: target * bytes, byteCount: bytes)
  }
}
