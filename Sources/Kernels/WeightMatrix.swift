import CKernels
package import Tensors

/// A matrix of weights [rows, columns], used in place from the checkpoint's mapping.
///
/// Row-major; `rows` are outputs, `columns` inputs. Addresses need no alignment.
package struct WeightMatrix: Sendable {
  /// How the elements are stored.
  package enum Format: Int32, Sendable, CaseIterable {
    case float32 = 0
    case bfloat16 = 1
    /// One byte per element and one Float32 factor per block of 128 × 128.
    case e4m3 = 2

    /// Bytes that one element takes, factors aside.
    package var byteWidth: Int {
      switch self {
      case .float32: 4
      case .bfloat16: 2
      case .e4m3: 1
      }
    }
  }

  /// How the elements are stored.
  package let format: Format
  /// N, the number of outputs.
  package let rows: Int
  /// K, the number of inputs.
  package let columns: Int
  let values: ByteRegion
  let scaleInverse: ByteRegion?

  private init(
    format: Format, rows: Int, columns: Int, values: ByteRegion, scaleInverse: ByteRegion?
  ) {
    precondition(rows > 0 && columns > 0, "a matrix cannot be [\(rows), \(columns)]")
    precondition(
      values.byteCount == rows * columns * format.byteWidth,
      "\(values.byteCount) bytes do not fit \(format) [\(rows), \(columns)]")
    self.format = format
    self.rows = rows
    self.columns = columns
    self.values = values
    self.scaleInverse = scaleInverse
  }

  /// Float32 weights.
  package static func float32(_ values: ByteRegion, rows: Int, columns: Int) -> WeightMatrix {
    WeightMatrix(
      format: .float32, rows: rows, columns: columns, values: values, scaleInverse: nil)
  }

  /// BF16 weights.
  package static func bfloat16(_ values: ByteRegion, rows: Int, columns: Int) -> WeightMatrix {
    WeightMatrix(
      format: .bfloat16, rows: rows, columns: columns, values: values, scaleInverse: nil)
  }

  /// E4M3 weights; `scaleInverse` is Float32 [⌈rows/128⌉, ⌈columns/128⌉], multiplied to dequantise.
  package static func e4m3(
    _ values: ByteRegion, scaleInverse: ByteRegion, rows: Int, columns: Int
  ) -> WeightMatrix {
    let blocks = scaleBlockCount(rows) * scaleBlockCount(columns)
    precondition(
      scaleInverse.byteCount == 4 * blocks,
      "\(scaleInverse.byteCount) bytes of factors do not fit \(blocks) blocks")
    return WeightMatrix(
      format: .e4m3, rows: rows, columns: columns, values: values, scaleInverse: scaleInverse)
  }

  /// Blocks of 128 that cover `count` rows or columns.
  package static func scaleBlockCount(_ count: Int) -> Int {
    (count + Int(CK_SCALE_BLOCK) - 1) / Int(CK_SCALE_BLOCK)
  }

  /// Bytes that one product reads: elements and factors.
  package var byteCount: Int { values.byteCount + (scaleInverse?.byteCount ?? 0) }
}
