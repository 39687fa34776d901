import CKernels
package import Tensors

/// What INT8 and INT4 weights have besides their elements: factors and zero points.
///
/// value = (element - zero) · factor. Elements lie row by row; those of INT4 two a byte, the lower
/// half first, stored plus 8 (compressed-tensors' "pack-quantized" layout, read in place).
package struct IntegerFactors: Sendable {
  /// How the factors are stored.
  package enum ElementType: Int32, Sendable, CaseIterable {
    case float32 = 0
    case bfloat16 = 1
    case float16 = 2

    var byteWidth: Int { self == .float32 ? 4 : 2 }
  }

  /// How many columns share a factor.
  package enum Grouping: Hashable, Sendable {
    /// The whole row.
    case row
    /// 32, 64 or 128 columns, of which the row has a whole number.
    case columns(Int)

    /// The group sizes that the kernels know.
    package static let sizes = [32, 64, 128]
  }

  let type: ElementType
  /// How many columns share a factor.
  package let grouping: Grouping
  let factors: ByteRegion
  let zeros: ByteRegion?
  // Where this view begins and how far its rows are apart; a view of rows or columns keeps the
  // whole matrix's regions.
  var row = 0
  var column = 0
  var wholeColumns: Int

  /// Factors [rows, groups] of a matrix [rows, columns]; `zeros` are 32-bit words
  /// [⌈rows / 8⌉, groups] that hold the zero points of 8 rows each, the first in the low bits, and
  /// nil where every INT4 zero is 8.
  package init(
    _ factors: ByteRegion, _ type: ElementType, _ grouping: Grouping, zeros: ByteRegion? = nil,
    rows: Int, columns: Int
  ) {
    if case .columns(let size) = grouping {
      precondition(
        Grouping.sizes.contains(size) && columns % size == 0,
        "groups of \(size) do not fit \(columns) columns")
    }
    self.type = type
    self.grouping = grouping
    self.factors = factors
    self.zeros = zeros
    wholeColumns = columns
    let groups = Self.groupCount(grouping, columns)
    precondition(
      factors.byteCount == rows * groups * type.byteWidth,
      "\(factors.byteCount) bytes of factors do not fit [\(rows), \(groups)]")
    precondition(
      zeros == nil || (zeros?.byteCount == (rows + 7) / 8 * groups * 4 && grouping != .row),
      "the zero points do not fit [\(rows), \(groups)]")
  }

  var groupSize: Int {
    if case .columns(let size) = grouping { return size }
    return 0
  }

  /// Groups in a row of `columns`.
  package static func groupCount(_ grouping: Grouping, _ columns: Int) -> Int {
    if case .columns(let size) = grouping { return columns / size }
    return 1
  }

  /// Bytes that a product with a view of `rows` × `columns` reads.
  func byteCount(rows: Int, columns: Int) -> Int {
    let groups = Self.groupCount(grouping, columns)
    return rows * groups * type.byteWidth + (zeros == nil ? 0 : (rows + 7) / 8 * groups * 4)
  }

  /// The factors of a part that begins there; a column must begin a group.
  func part(row: Int, column: Int) -> IntegerFactors {
    precondition(
      grouping == .row || column % groupSize == 0, "a part of a matrix begins with a group")
    var part = self
    part.row += row
    part.column += column
    return part
  }

  /// What the kernels read.
  var description: ck_integer {
    let groups = Self.groupCount(grouping, wholeColumns)
    let group = groupSize == 0 ? 0 : column / groupSize
    return unsafe ck_integer(
      factors: factors.base + (row * groups + group) * type.byteWidth, factor_stride: groups,
      factor_type: type.rawValue, group: groupSize, zeros: zeros.map { unsafe $0.base + 4 * group },
      zero_stride: groups, zero_row: row)
  }
}
