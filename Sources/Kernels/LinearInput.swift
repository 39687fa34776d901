import CKernels
import Tensors

/// Activations prepared for matrix products: rows rounded, split and padded as the kernels want.
///
/// Prepared once per input and multiplied by any number of matrices. Memory is allocated once for
/// the largest input.
@safe
package struct LinearInput: ~Copyable, Sendable {
  /// The kernels that it is prepared for.
  package let kernels: KernelSet
  /// How many bits of the activations count.
  package let activation: ActivationType
  /// The most rows that it can hold.
  package let maxTokens: Int
  /// The most columns that it can hold.
  package let maxColumns: Int
  /// T, the rows prepared last.
  package private(set) var tokenCount = 0
  /// K, the columns prepared last.
  package private(set) var columns = 0

  private let kinds: [Int32]
  private let offsets: [Int]
  private var memory: Buffer<UInt8>

  /// Memory for inputs of matrices of `formats`.
  package init(
    kernels: KernelSet, activation: ActivationType, maxTokens: Int, maxColumns: Int,
    formats: [WeightMatrix.Format] = WeightMatrix.Format.allCases
  ) {
    self.kernels = kernels
    self.activation = activation
    self.maxTokens = maxTokens
    self.maxColumns = maxColumns
    var kinds: [Int32] = []
    var offsets: [Int] = []
    var byteCount = 0
    for format in formats {
      let kind = kernels.operandKind(format, activation)
      if kinds.contains(kind) { continue }
      kinds.append(kind)
      offsets.append(byteCount)
      byteCount += maxTokens * ck_operand_bytes(kind, maxColumns)
    }
    self.kinds = kinds
    self.offsets = offsets
    memory = Buffer(count: byteCount)
  }

  mutating func reshape(tokenCount: Int, columns: Int) {
    precondition(
      tokenCount >= 0 && tokenCount <= maxTokens && columns > 0 && columns <= maxColumns,
      "an input for [\(maxTokens), \(maxColumns)] cannot hold [\(tokenCount), \(columns)]")
    self.tokenCount = tokenCount
    self.columns = columns
  }

  /// Calls `body` with what converts rows into tokens, which may be called for different tokens
  /// at the same time.
  mutating func withWriter(_ body: (LinearInputWriter) -> Void) {
    let (kinds, offsets, columns, table) = (kinds, offsets, columns, unsafe kernels.table)
    unsafe memory.withUnsafeMutablePointer { base in
      unsafe body(
        LinearInputWriter(
          table: table, base: base, kinds: kinds, offsets: offsets, columns: columns))
    }
  }

  /// Calls `body` with the prepared rows for a weight format and their kind.
  func withRows(
    for format: WeightMatrix.Format, _ body: (UnsafeRawPointer, Int32) -> Void
  ) {
    let kind = kernels.operandKind(format, activation)
    guard let index = kinds.firstIndex(of: kind) else {
      preconditionFailure("the input was not made for \(format) weights")
    }
    unsafe memory.withUnsafePointer { base in
      unsafe body(UnsafeRawPointer(base + offsets[index]), kind)
    }
  }
}

extension KernelSet {
  func operandKind(_ format: WeightMatrix.Format, _ activation: ActivationType) -> Int32 {
    unsafe table.pointee.operand_kind(format.rawValue, activation.code)
  }
}

/// Converts rows of Float32 into the operand rows of an input.
@safe
struct LinearInputWriter {
  let table: UnsafePointer<ck_kernels>
  let base: UnsafeMutablePointer<UInt8>
  let kinds: [Int32]
  let offsets: [Int]
  let columns: Int

  func prepare(_ token: Int, _ source: UnsafePointer<Float>) {
    for index in kinds.indices {
      let kind = kinds[index]
      let row = unsafe base + offsets[index] + token * ck_operand_bytes(kind, columns)
      unsafe table.pointee.prepare(kind, row, source, columns)
    }
  }
}
