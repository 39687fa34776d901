import Foundation
import KVCaching
import ModelConfiguration
import Scheduling
import Step3Model
import Tensors

extension ModelRuntime: StepExecutor {}

extension Engine {
  /// Starts an engine on the checkpoint in the folder `path`.
  package convenience init(path: String, options: EngineOptions) {
    self.init { _ in try LoadedModel(path: path, options: options) }
  }

  /// Starts an engine on a checkpoint that was opened already.
  package convenience init(_ folder: ModelFolder, options: EngineOptions) {
    self.init { _ in try LoadedModel(folder, options: options) }
  }
}

extension LoadedModel where Executor == ModelRuntime {
  /// Most rows of logits that are held at once.
  private static var logitRowLimit: Int { 64 }

  /// Opens and loads the checkpoint in the folder `path`.
  package init(path: String, options: EngineOptions) throws {
    try self.init(ModelFolder(path: path), options: options)
  }

  /// Loads an opened checkpoint.
  package init(_ folder: ModelFolder, options: EngineOptions) throws {
    let runtime = try ModelRuntime(
      folder, options: options,
      logitRowLimit: min(Self.logitRowLimit, options.batchedTokenLimit))
    let facts = ModelFacts(
      contextLength: runtime.contextLength,
      vocabularySize: folder.configuration.text.vocabularySize,
      endOfSequenceIDs: folder.endOfSequenceIDs.filter {
        (0..<folder.configuration.text.vocabularySize).contains($0)
      },
      cacheCapacityTokens: runtime.cache.tokenCapacity, blockSize: options.blockSize,
      weightByteCount: folder.textByteCount, fingerprint: folder.fingerprint)
    // A sequence that runs takes a row of every step, so there are never more than rows.
    let limits = try AdmissionLimits(
      sequenceCount: min(options.sequenceLimit, options.batchedTokenLimit),
      stepTokenCount: options.batchedTokenLimit,
      promptLogitRowCount: min(Self.logitRowLimit, options.batchedTokenLimit),
      queuedRequestCount: options.queuedRequestLimit,
      handicapPerPriority: options.handicapPerPriority)
    self.init(
      executor: runtime, facts: facts, limits: limits, sharesPrefixes: options.sharesPrefixes)
  }
}

extension ModelFolder {
  /// Eight hexadecimal digits that change with the configuration, with names and shapes of the
  /// tensors, and (judged by a sample, for reading all would take minutes) with their values.
  package var fingerprint: String {
    var hash = FNV1a()
    if let bytes = FileManager.default.contents(atPath: path + "/config.json") {
      for byte in bytes { hash.add(byte) }
    }
    let names = files.names
    let stride = max(1, names.count / 16)
    for (index, name) in names.enumerated() {
      guard let tensor = files[name] else { continue }
      for byte in "\(name) \(tensor.elementType.rawValue) \(tensor.shape)".utf8 { hash.add(byte) }
      guard index % stride == 0 else { continue }
      // From the middle: a tensor's first rows are often padding or rare tokens.
      let middle = tensor.bytes.byteCount / 2
      let sample = tensor.bytes[middle..<min(middle + 64, tensor.bytes.byteCount)].bytes()
      for byte in sample { hash.add(byte) }
    }
    let digits = String(UInt32(truncatingIfNeeded: hash.value ^ hash.value >> 32), radix: 16)
    return String(repeating: "0", count: 8 - digits.count) + digits
  }
}

/// The FNV-1a hash: short, and the same everywhere.
private struct FNV1a {
  private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }
}
