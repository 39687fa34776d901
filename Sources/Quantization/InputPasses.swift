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
