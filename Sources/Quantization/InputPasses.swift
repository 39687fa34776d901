import Kernels
import Tensors

/// What meets a list of matrices, one after the other: gathered for as many of them as fit in
/// memory, by running the model over the text once for each such part of the list.
final class InputPasses {
  private let matrices: [Tensor]
  private let calibration: (any QuantizationCalibration)?
  private var place = 0
  private var recorded = 0
  private var recorder: InputRecorder?

  /// Sums of products that one pass may hold.
  private static let byteLimit = 1 << 30

  /// Nothing is run yet; without a calibration there are no inputs.
  init(_ matrices: [Tensor], _ calibration: (any QuantizationCalibration)?) {
    self.matrices = matrices
    self.calibration = calibration
  }

  /// The inputs of the next matrix of the list; nil when nothing meets it.
  func next() throws(QuantizationError) -> InputProducts? {
    guard let calibration else { return nil }
    if place == recorded {
      var bytes = 0
      while recorded < matrices.count {
        let columns = matrices[recorded].shape[1]
        bytes += 4 * columns * columns
        if bytes > Self.byteLimit, recorded > place { break }
        recorded += 1
      }
      let recorder = InputRecorder(Array(matrices[place..<recorded]))
      do { try calibration.record(recorder) } catch { throw .calibration(reason: "\(error)") }
      self.recorder = recorder
    }
    defer { place += 1 }
    return recorder?.take(matrices[place])
  }
}

extension RoundedMatrix {
  /// The values that were rounded to, in a floating-point element type; BF16 rounds once more.
  ///
  /// - Parameter shape: [rows, columns].
  func values(shape: [Int], storage: WeightStorage, elementType: ElementType) -> [UInt8] {
    let (rows, columns) = (shape[0], shape[1])
    guard case .int4(let size) = storage else { preconditionFailure("only INT4 is measured") }
    let groups = columns / size
    let width = elementType == .float32 ? 4 : 2
    var bytes: [UInt8] = []
    bytes.reserveCapacity(rows * columns * width)
    for row in 0..<rows {
      for column in 0..<columns {
        let place = row * groups + column / size
        let factor = Float(
          bitPattern: UInt32(factors[2 * place]) << 16 | UInt32(factors[2 * place + 1]) << 24)
        var zero = 8
        if !zeros.isEmpty {
          let word = 4 * (row / 8 * groups + column / size)
          zero = Int(zeros[word + row % 8 / 2] >> UInt8(4 * (row % 2)) & 15)
        }
        let code = Int(elements[(row * columns + column) / 2] >> UInt8(4 * (column % 2)) & 15)
        let value = Float(code - zero) * factor
        if elementType == .float32 {
          forBytes(value.bitPattern, 4) { bytes.append($0) }
        } else {
          forBytes(UInt32(bfloat16Bits(value)), 2) { bytes.append($0) }
        }
      }
    }
    return bytes
  }

  /// The low bytes of a word, the lowest first.
  private func forBytes(_ word: UInt32, _ count: Int, _ body: (UInt8) -> Void) {
    for index in 0..<count { body(UInt8(truncatingIfNeeded: word >> UInt32(8 * index))) }
  }
}
