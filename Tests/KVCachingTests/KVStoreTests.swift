import KVCaching
import Tensors
import Testing

@Suite struct KVStoreTests {
  @Test("copies move a block in every layer and leave its neighbours alone") func copies() throws {
    let layout = KVLayout(elementType: .float32, blockSize: 16, headDimension: 4)
    var store = try KVStore(layout: layout, layerCount: 3, blockCount: 5)
    #expect(store.byteCount == 3 * 2 * 5 * 16 * 4 * 4)
    #expect(store.tokenCapacity == 80)
    for layer in 0..<3 {
      let memory = store.layer(layer)
      for block in 0..<5 {
        fill(memory.keys, block, layout, UInt8(layer * 10 + block))
        fill(memory.values, block, layout, UInt8(100 + layer * 10 + block))
      }
    }
    store.perform([BlockCopy(source: 0, target: 3), BlockCopy(source: 3, target: 4)])
    for layer in 0..<3 {
      let memory = store.layer(layer)
      for (block, source) in [0, 1, 2, 0, 0].enumerated() {
        #expect(content(memory.keys, block, layout) == [UInt8(layer * 10 + source)])
        #expect(content(memory.values, block, layout) == [UInt8(100 + layer * 10 + source)])
      }
    }
  }

  private func fill(_ region: MutableByteRegion, _ block: Int, _ layout: KVLayout, _ byte: UInt8) {
    let start = block * layout.blockByteCount
    for index in start..<start + layout.blockByteCount {
      unsafe region.base.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
    }
  }

  private func content(_ region: MutableByteRegion, _ block: Int, _ layout: KVLayout) -> [UInt8] {
    let start = block * layout.blockByteCount
    let bytes = (start..<start + layout.blockByteCount).map {
      unsafe region.base.load(fromByteOffset: $0, as: UInt8.self)
    }
    return Array(Set(bytes))
  }
}
