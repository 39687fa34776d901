import KVCaching
import ModelConfiguration
import Scheduling
package import Step3Model
import Tensors

extension ModelRuntime: StepExecutor {}

extension Engine {
  /// Starts an engine that loads the model in `folder` on its own thread.
  ///
  /// What goes wrong while loading is an `InferenceError`, thrown by `waitUntilLoaded`.
  ///
  /// - Parameter makeService: Makes the feed-forward half where other processes compute it.
  package convenience init(
    _ folder: ModelFolder, options: EngineOptions, through makeService: FeedForwardFactory? = nil
  ) {
    self.init { report in try Self.load(folder, options, makeService, report) }
  }

  /// Starts an engine that opens and loads the checkpoint in the folder `path` on its own thread.
  package convenience init(
    path: String, options: EngineOptions, through makeService: FeedForwardFactory? = nil
  ) {
    self.init { report in
      try Self.load(ModelFolder(path: path), options, makeService, report)
    }
  }

  private static func load(
    _ folder: ModelFolder, _ options: EngineOptions, _ makeService: FeedForwardFactory?,
    _ report: (LoadProgress) -> Void
  ) throws(InferenceError) -> LoadedModel<ModelRuntime> {
    let total = folder.textByteCount
    report(LoadProgress(loadedByteCount: 0, totalByteCount: total, seconds: 0))
    // Where other processes hold the experts, what is needed here is read as it is used.
    if makeService == nil, !options.streamsExperts {
      MappedFile.prefetch(folder.files.files)
    }
    let limits: AdmissionLimits
    do throws(AdmissionLimitError) {
      limits = try AdmissionLimits(
        sequenceCount: options.sequenceLimit, stepTokenCount: options.batchedTokenLimit,
        queuedRequestCount: options.queuedRequestLimit,
        queuedTokenCount: options.queuedTokenLimit,
        handicapPerPriority: options.handicapPerPriority)
    } catch { throw .limits(error) }
    let runtime = try ModelRuntime(
      folder, options: options, logitRowLimit: min(options.batchedTokenLimit, 64),
      through: makeService)
    let facts = ModelFacts(
      contextLength: runtime.contextLength,
      vocabularySize: folder.configuration.text.vocabularySize,
      endOfSequenceIDs: folder.endOfSequenceIDs,
      cacheCapacityTokens: runtime.cache.tokenCapacity, blockSize: options.blockSize,
      weightByteCount: total, fingerprint: folder.fingerprint)
    report(LoadProgress(loadedByteCount: total, totalByteCount: total, seconds: 0))
    return LoadedModel(
      executor: runtime, facts: facts, limits: limits, sharesPrefixes: options.sharesPrefixes,
      featureCacheByteCount: options.featureCacheByteCount)
  }
}

extension ModelFolder {
  /// A short hash of the configuration, every tensor's name and shape, and what tensors hold: all
  /// of a small one, sixteen pages of a large one, so that it takes no pass over the weights.
  package var fingerprint: String {
    var hash = ContentHash()
    for entry in configuration.entries { hash.mix("\(entry.field)=\(entry.value);") }
    for name in files.names {
      guard let tensor = files[name] else { continue }
      hash.mix("\(name)\(tensor.elementType.rawValue)\(tensor.shape)")
      let (page, count) = (4096, 16)
      let byteCount = tensor.bytes.byteCount
      if byteCount <= page * count {
        hash.mix(tensor.bytes, 0..<byteCount)
        continue
      }
      for index in 0..<count {
        let first = (byteCount - page) / (count - 1) * index
        hash.mix(tensor.bytes, first..<first + page)
      }
    }
    let value = hash.value
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}

/// FNV-1a over words of eight bytes.
private struct ContentHash {
  private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  mutating func mix(_ text: String) {
    for byte in text.utf8 { mix(UInt64(byte)) }
  }

  mutating func mix(_ region: ByteRegion, _ range: Range<Int>) {
    var offset = range.lowerBound
    while offset + 8 <= range.upperBound {
      mix(UInt64(littleEndian: region.load(UInt64.self, at: offset)))
      offset += 8
    }
    while offset < range.upperBound {
      mix(UInt64(region.load(UInt8.self, at: offset)))
      offset += 1
    }
  }

  private mutating func mix(_ word: UInt64) {
    value = (value ^ word) &* 0x0100_0000_01B3
    // Multiplying carries upwards only.
    value ^= value >> 32
  }
}
