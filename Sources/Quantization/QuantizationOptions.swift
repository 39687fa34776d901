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

  /// How matrices are stored.
  package var weights: Weights
  /// Columns that share a factor: 32, 64 or 128. nil is 32 for INT4 and the whole row for INT8.
  package var groupSize: Int?
  /// Whether groups of INT4 have zero points of their own.
  package var hasZeroPoints = true
  /// Regular expressions; tensors whose names they match stay as they are.
  package var keptPatterns: [String] = []
  /// INT4: matrices whose relative error exceeds the median by this factor get INT8.
  package var sensitivity = 2.0
  /// What the importance was measured on, such as a hash; nil without importance.
  package var calibration: String?
  /// Shards are closed when they reach this size; one layer is never split.
  package var shardByteCount = 1_000_000_000

  /// The defaults for one format.
  package init(weights: Weights) { self.weights = weights }

  /// What the result depends on.
  var json: JSONValue {
    [
      "weights": .string(weights.rawValue),
      "group_size": groupSize.map { .integer($0) } ?? .null,
      "zero_points": .boolean(hasZeroPoints), "keep": .array(keptPatterns.map { .string($0) }),
      "sensitivity": .number(sensitivity),
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

/// Mean squares of a matrix's inputs, one per column; nil where they were not measured and all
/// columns count the same.
package typealias ImportanceSource = @Sendable (_ matrix: Tensor) -> [Float]?

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
  /// Matrices that measurement found sensitive, with their relative errors at 4 bits.
  package let sensitive: [(name: String, relativeError: Double)]
  /// Bytes of all tensors of the source.
  package var sourceByteCount: Int { groups.reduce(0) { $0 + $1.sourceByteCount } }
  /// Bytes of all tensors written.
  package var byteCount: Int { groups.reduce(0) { $0 + $1.byteCount } }

  package static func == (left: QuantizationReport, right: QuantizationReport) -> Bool {
    left.directory == right.directory && left.wasWritten == right.wasWritten
      && left.groups == right.groups && left.sensitive.map(\.name) == right.sensitive.map(\.name)
  }
}
