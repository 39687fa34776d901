package import Tensors

/// A low-rank change of a matrix [rows, columns]: W becomes W + up · down.
package struct LowRankAddition: Sendable {
  /// [rank, columns], row-major.
  package let down: [Float]
  /// [rows, rank], row-major.
  package let up: [Float]
  /// Inner dimension.
  package let rank: Int

  package init(down: [Float], up: [Float], rank: Int) {
    precondition(rank > 0 && down.count.isMultiple(of: rank) && up.count.isMultiple(of: rank))
    self.down = down
    self.up = up
    self.rank = rank
  }

  /// Adds row `row` of up · down to `values`, one row of the matrix from `start` on.
  func add(row: Int, to values: inout [Float], at start: Int) {
    let columns = down.count / rank
    for r in 0..<rank {
      let factor = up[row * rank + r]
      for column in 0..<columns { values[start + column] += factor * down[r * columns + column] }
    }
  }
}

/// A weight of the source model: encoded rows in a mapping, decoded a few rows at a time.
package struct SourceTensor: Sendable {
  /// The name in the source.
  package let name: String
  /// How the elements are encoded.
  package let type: BlockType
  /// Row-major dimensions, outermost first.
  package let shape: [Int]
  private let bytes: ByteRegion
  /// What is added to the stored values; nil for the source as it is.
  var addition: LowRankAddition?

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
    var values = dequantize(type, region.bytes())
    if let addition {
      for row in range {
        addition.add(row: row, to: &values, at: (row - range.lowerBound) * columnCount)
      }
    }
    return values
  }

  /// Every element in Float32.
  package func all() -> [Float] { rows(0..<rowCount) }
}
