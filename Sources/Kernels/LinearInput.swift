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
  // Where each kind's rows begin; one more entry ends the last.
  private let offsets: [Int]
  // Which kinds were prepared last, by bits of their number.
  private var preparedKinds: UInt32 = 0
  private var memory: Buffer<UInt8>

  /// Memory for inputs of matrices of `formats`.
  package init(
    kernels: KernelSet, activation: ActivationType, maxTokens: Int, maxColumns: Int,
    formats: WeightMatrix.FormatSet = .all
  ) {
    self.init(
      kernels: kernels, activation: activation, shapes: [(maxTokens, maxColumns)],
      formats: formats)
  }

  /// Memory for any one of several shapes [tokens, columns] at a time.
  package init(
    kernels: KernelSet, activation: ActivationType, shapes: [(tokens: Int, columns: Int)],
    formats: WeightMatrix.FormatSet = .all
  ) {
    self.kernels = kernels
    self.activation = activation
    maxTokens = shapes.map(\.tokens).max() ?? 0
    maxColumns = shapes.map(\.columns).max() ?? 0
    var kinds: [Int32] = []
    var offsets = [0]
    let formats = formats.intersection(kernels.formats)
    for format in WeightMatrix.Format.allCases where formats.contains(format) {
      let kind = kernels.operandKind(format, activation)
      if kinds.contains(kind) { continue }
      let sizes = shapes.map { $0.tokens * ck_operand_bytes(kind, $0.columns) }
      kinds.append(kind)
      offsets.append(offsets[offsets.count - 1] + (sizes.max() ?? 0))
    }
    self.kinds = kinds
    self.offsets = offsets
    memory = Buffer(count: offsets[offsets.count - 1])
  }

  /// Where its memory is: the name under which a recorder knows it.
  var address: Int { unsafe memory.withUnsafePointer { Int(bitPattern: $0) } }

  /// Takes on a shape, for products with matrices of `formats`.
  mutating func reshape(
    tokenCount: Int, columns: Int, formats: WeightMatrix.FormatSet = .all
  ) {
    precondition(tokenCount >= 0 && columns > 0, "an input cannot be [\(tokenCount), \(columns)]")
    self.tokenCount = tokenCount
    self.columns = columns
    preparedKinds = 0
    for format in WeightMatrix.Format.allCases where formats.contains(format) {
      guard let index = kinds.firstIndex(of: kernels.operandKind(format, activation)) else {
        continue
      }
      precondition(
        tokenCount * ck_operand_bytes(kinds[index], columns)
          <= offsets[index + 1] - offsets[index],
        "an input for [\(maxTokens), \(maxColumns)] cannot hold [\(tokenCount), \(columns)]")
      preparedKinds |= 1 << UInt32(kinds[index])
    }
  }

  /// Calls `body` with what converts rows into tokens, which may be called for different tokens
  /// at the same time.
  mutating func withWriter(_ body: (LinearInputWriter) -> Void) {
    let (kinds, offsets, columns, table) = (kinds, offsets, columns, unsafe kernels.table)
    let prepared = preparedKinds
    unsafe memory.withUnsafeMutablePointer { base in
      unsafe body(
        LinearInputWriter(
          table: table, base: base, kinds: kinds, offsets: offsets, columns: columns,
          preparedKinds: prepared))
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
    precondition(preparedKinds & 1 << UInt32(kind) != 0, "not prepared for \(format) weights")
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
  let preparedKinds: UInt32

  func prepare(_ token: Int, _ source: UnsafePointer<Float>) {
    unsafe prepare(token, source, 0..<columns, of: columns)
  }

  /// Writes columns `part` of a token that has `columns`, from `source` on.
  func prepare(
    _ token: Int, _ source: UnsafePointer<Float>, _ part: Range<Int>, of columns: Int
  ) {
    for index in kinds.indices where preparedKinds & 1 << UInt32(kinds[index]) != 0 {
      let (row, byteCount) = unsafe row(token, index)
      unsafe table.pointee.prepare(
        kinds[index], row, byteCount, source, part.lowerBound, part.upperBound, columns)
    }
  }

  /// Copies a prepared token.
  func copy(_ token: Int, to copy: Int) {
    for index in kinds.indices where preparedKinds & 1 << UInt32(kinds[index]) != 0 {
      let (source, byteCount) = unsafe row(token, index)
      unsafe row(copy, index).0.update(from: source, count: byteCount)
    }
  }

  private func row(_ token: Int, _ index: Int) -> (UnsafeMutablePointer<UInt8>, Int) {
    let byteCount = ck_operand_bytes(kinds[index], columns)
    return unsafe (base + offsets[index] + token * byteCount, byteCount)
  }
}
