package import Kernels
import Sampling
package import Tensors

/// A model and a text, for choosing how to round the model's weights: what meets its matrices, and
/// how far its predictions move when some of them are other ones.
///
/// The weights are a private mapping of the checkpoint: what is replaced takes memory until it is
/// restored, and the files never change.
package final class CalibrationRuns {
  private let folder: ModelFolder
  private let windows: [[Int]]
  private let options: EngineOptions
  /// The session that replaced weights are run in, made when it is first needed.
  private var probe: Probe?

  /// Tokens of the text that divergence is measured on: enough to rank matrices by, few enough to
  /// be run once for each of them.
  package static let divergenceTokenCount = 256

  /// - Parameter windows: Runs of tokens, each at most as long as the context.
  package init(
    path: String, windows: [[Int]], options: EngineOptions
  ) throws(InferenceError) {
    folder = try ModelFolder(path: path, isPrivate: true)
    self.windows = windows
    self.options = options
  }

  /// Runs all windows; `recorder` is told what meets its matrices, which are tensors of `files`.
  package func record(_ recorder: InputRecorder) throws(InferenceError) {
    let longest = windows.map(\.count).max() ?? 1
    var session = try ScoringSession(
      folder, options: options, contextLength: longest, recorder: recorder)
    for window in windows {
      session.reset()
      try session.feed(window)
    }
  }

  /// The tensors that `record` knows matrices by.
  package var files: CheckpointFiles { folder.files }

  /// Puts other bytes in the place of one matrix of a tensor.
  package func replace(
    _ name: String, matrix: Int, with bytes: [UInt8]
  ) throws(InferenceError) {
    // Predictions to compare with are those of the model as it is.
    if probe == nil { probe = try Probe(folder, windows, options) }
    folder.files.replace(name, at: matrix * bytes.count, with: bytes)
  }

  /// Gives a tensor its own bytes back.
  package func restore(_ name: String) { folder.files.restore(name) }

  /// The mean Kullback-Leibler divergence of the predictions from the original ones, in nats.
  package func divergence() throws(InferenceError) -> Double {
    if probe == nil { probe = try Probe(folder, windows, options) }
    return try probe?.divergence() ?? 0
  }
}

/// Predictions over some tokens, to be compared with the first ones.
private final class Probe {
  private var session: ScoringSession
  private let tokens: [Int]
  /// Of the original model, per row: probabilities, and their mean logarithm.
  private var probabilities: [Float] = []
  private var entropies: [Double] = []

  init(
    _ folder: ModelFolder, _ windows: [[Int]], _ options: EngineOptions
  ) throws(InferenceError) {
    tokens = Array((windows.first ?? []).prefix(CalibrationRuns.divergenceTokenCount))
    session = try ScoringSession(folder, options: options, contextLength: max(1, tokens.count))
    var (kept, negative): ([Float], [Double]) = ([], [])
    try run { logits in
      let logSum = Self.logSumExp(logits)
      var sum = 0.0
      for index in logits.indices {
        let logarithm = logits[index] - Float(logSum)
        let probability = PortableMath.expOfNonPositive(logarithm)
        kept.append(probability)
        sum += Double(probability * logarithm)
      }
      negative.append(sum)
    }
    probabilities = kept
    entropies = negative
  }

  func divergence() throws(InferenceError) -> Double {
    var (row, total) = (0, 0.0)
    try run { logits in
      let logSum = Self.logSumExp(logits)
      var expected = 0.0
      let first = row * logits.count
      for index in logits.indices {
        expected += Double(probabilities[first + index] * (logits[index] - Float(logSum)))
      }
      total += entropies[row] - expected
      row += 1
    }
    return total / Double(max(1, row))
  }

  private func run(_ body: (Span<Float>) -> Void) throws(InferenceError) {
    session.reset()
    try session.feed(tokens, logitsOf: 0..<tokens.count) { _, logits in body(logits) }
  }

  private static func logSumExp(_ logits: Span<Float>) -> Double {
    var largest = -Float.infinity
    for index in logits.indices { largest = max(largest, logits[index]) }
    var sum: Float = 0
    var total = 0.0
    for index in logits.indices {
      sum += PortableMath.expOfNonPositive(logits[index] - largest)
      if index % 256 == 255 { (total, sum) = (total + Double(sum), 0) }
    }
    return Double(largest) + PortableMath.log(total + Double(sum))
  }
}
