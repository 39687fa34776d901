package import Tensors

/// A weight of the source model: encoded rows in a mapping, decoded a few rows at a time.
package struct SourceTensor: Sendable {
  /// The name in the source.
  package let name: String
  /// How the elements are encoded.
  package let type: BlockType
  /// Row-major dimensions, outermost first.
  package let shape: [Int]
  private let bytes: ByteRegion

  package init(name: String, type: BlockType, shape: [Int], bytes: ByteRegion) {
    self.name = name
    self.type = type
    self.shape = shape
    self.bytes = bytes
  }

  package init(_ tensor: GGUFTensor) {
    self.init(name: tensor.name, type: tensor.type, shape: tensor.shape, bytes: tensor.bytes)
  }

  /// Number of rows; a vector is one row.
  package var rowCount: Int { shape.dropLast().reduce(1, *) }
  /// Elements per row.
  package var columnCount: Int { shape.last ?? 1 }

  /// The rows of `range` in Float32, row-major.
  package func rows(_ range: Range<Int>) -> [Float] {
    let rowByteCount = columnCount / type.elementsPerBlock * type.bytesPerBlock
    let region = bytes[range.lowerBound * rowByteCount..<range.upperBound * rowByteCount]
    return dequantize(type, region.bytes())
  }

  /// Every element in Float32.
  package func all() -> [Float] { rows(0..<rowCount) }
}
