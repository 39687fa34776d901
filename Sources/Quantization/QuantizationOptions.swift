import JSONScanning
package import Kernels
package import Tensors

/// What to make of a checkpoint's weights.
package struct QuantizationOptions: Sendable, Equatable {
  /// How matrices are stored.
  package enum Weights: String, Sendable, CaseIterable {
    /// E4M3 with a factor for every block of 128 × 128.
    case fp8
    case int8
    case int4
  }

  /// What is measured together when the effect of rounding on predictions is.
  package enum Measure: String, Sendable, CaseIterable {
    /// Tensors of one name in all layers.
    case kinds
    /// Every tensor.
    case tensors
  }

  /// How matrices are stored.
  package var weights: Weights
  /// Columns that share a factor: 32, 64 or 128; 0 for the whole row, which only INT8 may have.
  /// nil is 32 for INT4 and 128 for INT8. Columns that it does not divide take a smaller one.
  package var groupSize: Int?
  /// Whether groups of INT4 have zero points of their own.
  package var hasZeroPoints = true
  /// Regular expressions; tensors whose names they match stay as they are.
  package var keptPatterns: [String] = []
  /// How the most sensitive matrices are found, which are then stored more finely; nil for not.
  package var measure: Measure?
  /// Matrices are stored more finely until rounding the others changes the predictions on the text
  /// by no more than this, in nats per token: about the relative rise of the perplexity.
  package var tolerance: Double
  /// What the text depends on, such as a hash; nil without one.
  package var calibration: String?
  /// INT4: whether errors are fed back, column by column, by what meets a matrix on that text.
  package var feedsErrorsBack = false
  /// Shards are closed when they reach this size; one layer is never split.
  package var shardByteCount = 1_000_000_000

  /// The defaults for one format.
  package init(weights: Weights) {
    self.weights = weights
    tolerance = weights == .int4 ? 0.008 : 0.005
  }

  /// What the result depends on.
  var json: JSONValue {
    [
      "weights": .string(weights.rawValue),
      "group_size": groupSize.map { .integer($0) } ?? .null,
      "zero_points": .boolean(hasZeroPoints), "keep": .array(keptPatterns.map { .string($0) }),
      "measure": measure.map { .string($0.rawValue) } ?? .null, "tolerance": .number(tolerance),
      "feedback": .boolean(feedsErrorsBack),
      "calibration": calibration.map { .string($0) } ?? .null,
      "shard_bytes": .integer(shardByteCount),
    ]
  }
}

/// What the quantiser has to know of a model family's names; the caller knows them.
package struct QuantizationNames: Sendable {
  /// Whether a tensor is a matrix that may be stored with fewer bits.
  package let isQuantizable: @Sendable (String) -> Bool
  /// Suffixes of INT4's and INT8's companions: packed elements, factors, zero points, shape.
  package let packed: String
  package let factor: String
  package let zeroPoint: String
  package let shape: String
  /// The suffix of E4M3's block factors.
  package let scaleInverse: String

  /// All of them.
  package init(
    packed: String, factor: String, zeroPoint: String, shape: String, scaleInverse: String,
    isQuantizable: @escaping @Sendable (String) -> Bool
  ) {
    self.packed = packed
    self.factor = factor
    self.zeroPoint = zeroPoint
    self.shape = shape
    self.scaleInverse = scaleInverse
    self.isQuantizable = isQuantizable
  }
}

/// A model and a text that show what rounding does; given by the caller, who can run models.
package protocol QuantizationCalibration {
  /// Runs the model over the text, and tells `recorder` what meets its matrices.
  func record(_ recorder: InputRecorder) throws
  /// Puts other values, in the tensor's own element type, in the place of one matrix of a tensor
  /// (index 0 unless it is a stack).
  func replace(_ tensor: String, matrix: Int, with bytes: [UInt8]) throws
  /// How far the predictions are from those of the model as it was: the mean Kullback-Leibler
  /// divergence in nats per token.
  func divergence() throws -> Double
  /// Gives a tensor its own values back.
  func restore(_ tensor: String)
}

/// Why a checkpoint could not be quantised.
package enum QuantizationError: Error, Equatable, Sendable {
  case checkpoint(SafetensorsError)
  case writing(SafetensorsWriterError)
  /// The source is quantised already.
  case alreadyQuantized(tensor: String, elementType: String)
  /// No tensor is left to quantise.
  case nothingToQuantize(directory: String)
  case badPattern(pattern: String, reason: String)
  case notEnoughSpace(path: String, needed: Int, free: Int)
  /// The target holds something that this program did not make from this source.
  case folderInUse(path: String)
  case cannotWrite(path: String, reason: String)
  case badConfiguration(path: String, reason: String)
  /// The model could not be run over the text.
  case calibration(reason: String)
}

extension QuantizationError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .checkpoint(let error): "\(error)"
    case .writing(let error): "\(error)"
    case .alreadyQuantized(let tensor, let type):
      "\(tensor) is \(type): the checkpoint is quantised already; give the BF16 or F32 one"
    case .nothingToQuantize(let directory):
      "\(directory): no matrix is left to quantise; is this a Step3 checkpoint, and does a "
        + "--keep pattern match everything?"
    case .badPattern(let pattern, let reason):
      "--keep \(pattern): not a regular expression: \(reason)"
    case .notEnoughSpace(let path, let needed, let free):
      "\(path): \(needed) bytes are needed, \(free) are free; make room or choose another folder"
    case .folderInUse(let path):
      "\(path): holds something else than this quantisation; choose another folder or remove it"
    case .cannotWrite(let path, let reason): "\(path): cannot be written: \(reason)"
    case .badConfiguration(let path, let reason): "\(path): \(reason)"
    case .calibration(let reason): "the calibration text cannot be run: \(reason)"
    }
  }
}

/// What a quantisation did.
package struct QuantizationReport: Sendable, Equatable {
  /// Tensors of one kind that are stored alike.
  package struct Group: Sendable, Equatable {
    /// What they are, with the layer left out.
    package let name: String
    /// How they are stored now, such as "INT4, groups of 32 with zero points".
    package let storage: String
    package var tensorCount = 0
    package var sourceByteCount = 0
    package var byteCount = 0
    package var loss = RoundingLoss()
  }

  /// The folder written.
  package let directory: String
  /// False when the folder was already there, complete and from the same input.
  package let wasWritten: Bool
  /// Shards that an interrupted run had finished.
  package let keptShardCount: Int
  package let groups: [Group]
  /// What is stored more finely, with how far rounding it alone moves the predictions.
  package let sensitive: [(name: String, divergence: Double)]
  /// How far rounding all others moves them together; nil where nothing was measured.
  package let divergence: Double?
  /// Bytes of all tensors of the source.
  package var sourceByteCount: Int { groups.reduce(0) { $0 + $1.sourceByteCount } }
  /// Bytes of all tensors written.
  package var byteCount: Int { groups.reduce(0) { $0 + $1.byteCount } }

  package static func == (left: QuantizationReport, right: QuantizationReport) -> Bool {
    left.directory == right.directory && left.wasWritten == right.wasWritten
      && left.groups == right.groups && left.sensitive.map(\.name) == right.sensitive.map(\.name)
  }
}
