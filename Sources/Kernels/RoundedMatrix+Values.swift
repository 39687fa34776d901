import CKernels
package import Tensors

extension RoundedMatrix {
  /// The values that were rounded to, as the loader will read them, in a floating-point element
  /// type; BF16 rounds once more.
  ///
  /// - Parameters:
  ///   - shape: [rows, columns].
  ///   - grouping: Of integers.
  package func values(
    shape: [Int], format: WeightMatrix.Format, grouping: IntegerFactors.Grouping = .row,
    as elementType: ElementType
  ) -> [UInt8] {
    precondition(shape.count == 2)
    let (rows, columns) = (shape[0], shape[1])
    let factors = ByteRegion(copying: factors)
    let values = ByteRegion(copying: elements)
    let matrix: WeightMatrix
    switch format {
    case .e4m3:
      matrix = .e4m3(values, scaleInverse: factors, rows: rows, columns: columns)
    case .int8, .int4:
      let integer = IntegerFactors(
        factors, .bfloat16, grouping, zeros: zeros.isEmpty ? nil : ByteRegion(copying: zeros),
        rows: rows, columns: columns)
      matrix =
        format == .int8
        ? .int8(values, integer, rows: rows, columns: columns)
        : .int4(values, integer, rows: rows, columns: columns)
    default: preconditionFailure("\(format) is no rounded format")
    }
    guard let reference = try? KernelSet.select(.reference) else {
      preconditionFailure("the reference runs everywhere")
    }
    let width = elementType == .float32 ? 4 : 2
    var bytes = [UInt8](repeating: 0, count: rows * columns * width)
    var line = [Float](repeating: 0, count: columns)
    for row in 0..<rows {
      matrix.widen(row: row, into: &line, by: reference)
      unsafe bytes.withUnsafeMutableBytes { bytes in
        for column in 0..<columns {
          let at = (row * columns + column) * width
          if width == 4 {
            unsafe bytes.storeBytes(of: line[column].bitPattern, toByteOffset: at, as: UInt32.self)
          } else {
            unsafe bytes.storeBytes(
              of: bfloat16Bits(line[column]), toByteOffset: at, as: UInt16.self)
          }
        }
      }
    }
    return bytes
  }
}

extension WeightMatrix {
  /// One row as Float32.
  fileprivate func widen(row: Int, into line: inout [Float], by kernels: KernelSet) {
    unsafe line.withUnsafeMutableBufferPointer { line in
      guard let y = line.baseAddress else { return }
      let at = unsafe values.base + row * format.byteCount(stride)
      if let integer {
        var description = unsafe integer.description
        unsafe kernels.table.pointee.widen_integer(
          format.rawValue, y, at, &description, row, columns)
        return
      }
      let factors = unsafe scaleInverse.map {
        unsafe ($0.base + row / Int(CK_SCALE_BLOCK) * scaleStride * 4)
          .assumingMemoryBound(to: Float.self)
      }
      unsafe kernels.table.pointee.widen(format.rawValue, y, at, factors, columns)
    }
  }
}
