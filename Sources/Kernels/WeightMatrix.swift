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
    /// One byte per element, and `IntegerFactors`.
    case int8 = 3
    /// Half a byte per element, and `IntegerFactors` in groups of columns.
    case int4 = 4

    /// Bytes that `count` neighbouring elements take, factors aside.
    package func byteCount(_ count: Int) -> Int {
      switch self {
      case .float32: 4 * count
      case .bfloat16: 2 * count
      case .e4m3, .int8: count
      case .int4: count / 2
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
  let integer: IntegerFactors?
  /// Columns from row to row, and factors from 128 rows to the next: those of the whole matrix.
  let stride: Int
  let scaleStride: Int

  private init(
    format: Format, rows: Int, columns: Int, values: ByteRegion, scaleInverse: ByteRegion? = nil,
    integer: IntegerFactors? = nil
  ) {
    precondition(rows > 0 && columns > 0, "a matrix cannot be [\(rows), \(columns)]")
    precondition(
      values.byteCount == rows * format.byteCount(columns),
      "\(values.byteCount) bytes do not fit \(format) [\(rows), \(columns)]")
    self.format = format
    self.rows = rows
    self.columns = columns
    self.values = values
    self.scaleInverse = scaleInverse
    self.integer = integer
    stride = columns
    scaleStride = Self.scaleBlockCount(columns)
  }

  /// The part [rows, columns] of `whole`.
  private init(_ whole: WeightMatrix, rows: Range<Int>, columns: Range<Int>) {
    let stride = whole.stride
    let (width, first) = (
      whole.format.byteCount(stride), whole.format.byteCount(columns.lowerBound)
    )
    precondition(
      rows.lowerBound >= 0 && !rows.isEmpty && rows.upperBound <= whole.rows
        && columns.lowerBound >= 0 && !columns.isEmpty && columns.upperBound <= whole.columns,
      "[\(rows), \(columns)] is no part of [\(whole.rows), \(whole.columns)]")
    let last = whole.format.byteCount(columns.upperBound)
    format = whole.format
    self.rows = rows.count
    self.columns = columns.count
    values = whole.values[rows.lowerBound * width + first..<(rows.upperBound - 1) * width + last]
    self.stride = stride
    scaleStride = whole.scaleStride
    let block = Int(CK_SCALE_BLOCK)
    integer = whole.integer.map { $0.part(row: rows.lowerBound, column: columns.lowerBound) }
    scaleInverse = whole.scaleInverse.map { scales in
      precondition(
        rows.lowerBound % block == 0 && columns.lowerBound % block == 0,
        "a part of a matrix with a factor per block begins with a block")
      let first = rows.lowerBound / block * whole.scaleStride + columns.lowerBound / block
      return scales[4 * first..<scales.byteCount]
    }
  }

  /// Some of the rows, in place; of E4M3 the first is a multiple of 128.
  package func rows(_ range: Range<Int>) -> WeightMatrix {
    WeightMatrix(self, rows: range, columns: 0..<columns)
  }

  /// Some of the columns, in place; of E4M3 the first is a multiple of 128.
  package func columns(_ range: Range<Int>) -> WeightMatrix {
    WeightMatrix(self, rows: 0..<rows, columns: range)
  }

  /// How many equal slices the columns are cut into where a sum over them must be divisible: 4, 2
  /// or 1, whatever leaves whole granules of 32 columns, of two blocks where these share a factor,
  /// of one where activations share a grid.
  package var sliceCount: Int {
    let block = Int(CK_SCALE_BLOCK)
    let granule = scaleInverse != nil ? 2 * block : integer != nil ? block : 32
    return [4, 2].first { columns % ($0 * granule) == 0 } ?? 1
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

  /// INT8 weights, two's complement.
  package static func int8(
    _ values: ByteRegion, _ factors: IntegerFactors, rows: Int, columns: Int
  ) -> WeightMatrix {
    precondition(factors.zeros == nil, "INT8 weights have no zero points")
    return WeightMatrix(
      format: .int8, rows: rows, columns: columns, values: values, integer: factors)
  }

  /// INT4 weights, two a byte; factors in groups of columns.
  package static func int4(
    _ values: ByteRegion, _ factors: IntegerFactors, rows: Int, columns: Int
  ) -> WeightMatrix {
    precondition(factors.grouping != .row, "INT4 weights have groups of columns")
    return WeightMatrix(
      format: .int4, rows: rows, columns: columns, values: values, integer: factors)
  }

  /// Blocks of 128 that cover `count` rows or columns.
  package static func scaleBlockCount(_ count: Int) -> Int {
    (count + Int(CK_SCALE_BLOCK) - 1) / Int(CK_SCALE_BLOCK)
  }

  /// Bytes that one product reads: elements and factors.
  package var byteCount: Int {
    let factors = scaleInverse == nil ? 0 : Self.scaleBlockCount(rows) * scaleBlocksPerRow
    return rows * format.byteCount(columns) + 4 * factors
      + (integer?.byteCount(rows: rows, columns: columns) ?? 0)
  }

  private var scaleBlocksPerRow: Int { Self.scaleBlockCount(columns) }

  /// The format as a set.
  package var formats: FormatSet { FormatSet(format) }

  /// A set of formats.
  package struct FormatSet: OptionSet, Sendable {
    /// Bit n for the format of raw value n.
    package let rawValue: UInt32
    /// A set from its bits.
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    /// The set of one format.
    package init(_ format: Format) { rawValue = 1 << UInt32(format.rawValue) }
    /// Every format.
    package static let all = FormatSet(rawValue: .max)
    /// Whether a format belongs to the set.
    package func contains(_ format: Format) -> Bool { isSuperset(of: FormatSet(format)) }
  }
}
