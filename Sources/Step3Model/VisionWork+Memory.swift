package import Kernels
package import ModelConfiguration

extension VisionWork {
  /// Bytes that encoding takes besides the weights and the features, generously: batches of up to
  /// `rowLimit` rows, or one view of the whole image where that has more.
  package static func scratchByteCount(
    _ configuration: Step3Configuration, activation: ActivationType, rowLimit: Int
  ) -> Int {
    guard let c = configuration.vision else { return 0 }
    let width = c.hiddenSize
    let grid = c.imageSize / c.patchSize
    let rows = max(rowLimit, VisionEncoder.classTokenCount + grid * grid)
    // The residual stream, queries with keys and values, and what attention gives.
    let stream = 4 * rows * 5 * width
    // A cache of whole blocks per head: the rows of a batch, and one block begun per view. The
    // smallest views are crops, of at least half the whole image's side.
    let views = rows / (VisionEncoder.classTokenCount + grid * grid / 4) + 1
    let blocks = ViewMemory.blockCount(rows: rows, heads: c.headCount) + views * c.headCount
    let caches = ViewMemory.byteCount(
      activation: activation, headDimension: width / c.headCount, blockCount: blocks)

    let first = ConvolutionWindow(size: 2, stride: configuration.projectorStride)
    let second = ConvolutionWindow(size: 3, stride: 2, padding: 1)
    let cells = first.count(grid) * first.count(grid)
    let tokens = second.count(first.count(grid)) * second.count(first.count(grid))
    let patch = c.channelCount * c.patchSize * c.patchSize
    let hidden = configuration.text.hiddenSize
    let widest =
      [
        patch, 4 * width, 9 * c.outputSize, 2 * c.outputSize, c.intermediateSize, 3 * width, hidden,
      ].max() ?? 0
    // Inputs (as they come and as the kernels take them) and outputs of a product.
    let products = 4 * rowsPerProduct * 4 * widest
    let embedding = 4 * grid * grid * 2 * patch
    let projection =
      4 * (cells * (4 * width + c.outputSize) + tokens * (11 * c.outputSize + hidden))
    return stream + caches + products + max(embedding, projection)
  }
}
