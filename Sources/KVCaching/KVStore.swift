package import Tensors

/// The memory of the KV cache: for every layer an area of keys and one of values, in blocks.
///
/// Which block belongs to whom is `BlockPool`'s business; the order inside a block is the kernels'.
package struct KVStore: ~Copyable, Sendable {
  /// The shape of one block of one layer.
  package let layout: KVLayout
  /// Number of blocks, B, the same in every layer.
  package let blockCount: Int
  private let layers: [KVLayerMemory]

  /// Reserves zeroed memory; pages become resident when they are first written.
  package init(
    layout: KVLayout, layerCount: Int, blockCount: Int
  ) throws(MemoryError) {
    precondition(layerCount > 0 && blockCount > 0, "\(layerCount) layers of \(blockCount) blocks")
    self.layout = layout
    self.blockCount = blockCount
    let arena = try ByteArena(
      byteCount: Self.byteCount(layout: layout, layerCount: layerCount, blockCount: blockCount))
    var layers: [KVLayerMemory] = []
    for layer in 0..<layerCount {
      layers.append(
        KVLayerMemory(layout: layout, blockCount: blockCount, layer: layer, arena: arena))
    }
    self.layers = layers
  }

  /// Bytes that `blockCount` blocks take over all layers.
  package static func byteCount(layout: KVLayout, layerCount: Int, blockCount: Int) -> Int {
    layerCount * layout.layerByteCount(blockCount: blockCount)
  }

  /// Number of layers.
  package var layerCount: Int { layers.count }
  /// Bytes reserved.
  package var byteCount: Int {
    Self.byteCount(layout: layout, layerCount: layerCount, blockCount: blockCount)
  }
  /// Positions that the store holds over all sequences.
  package var tokenCapacity: Int { blockCount * layout.blockSize }

  /// The memory of one layer, for the kernels.
  package func layer(_ layer: Int) -> KVLayerMemory { layers[layer] }

  /// Copies blocks in every layer, in the order given: a target may be the source of a later copy.
  package mutating func perform(_ copies: [BlockCopy]) {
    for copy in copies {
      for layer in layers { layer.copyBlock(from: Int(copy.source), to: Int(copy.target)) }
    }
  }
}
