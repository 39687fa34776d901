import KVCaching
import Kernels
import ModelConfiguration
import Tensors

/// How many blocks the KV cache has, and what they are made of.
struct CachePlan: Sendable, Equatable {
  let layout: KVLayout
  let layerCount: Int
  let blockCount: Int

  /// Takes the number of blocks from the options: given as such, or as bytes, or by default enough
  /// for `defaultContexts` full contexts but no more than a quarter of the free memory.
  init(options: EngineOptions, text: TextConfiguration, activation: ActivationType) {
    let context = options.contextLength ?? text.contextLength
    layout = KVLayout(
      elementType: options.cacheType ?? (activation == .float32 ? .float32 : .bfloat16),
      blockSize: options.blockSize, headDimension: text.headDimension)
    layerCount = text.layerCount
    let blockByteCount = layerCount * layout.layerByteCount(blockCount: 1)
    let oneContext = (context + options.blockSize - 1) / options.blockSize
    if let blocks = options.cacheBlockCount {
      blockCount = blocks
    } else if let bytes = options.cacheByteCount {
      blockCount = bytes / blockByteCount
    } else {
      let quarter = (availableMemory() ?? 0) / 4 / blockByteCount
      blockCount = max(oneContext, min(Self.defaultContexts * oneContext, quarter))
    }
  }

  static let defaultContexts = 8

  var byteCount: Int { layerCount * layout.layerByteCount(blockCount: blockCount) }

  func makeStore() throws(InferenceError) -> KVStore {
    do {
      return try KVStore(layout: layout, layerCount: layerCount, blockCount: blockCount)
    } catch { throw .memory(error) }
  }
}
