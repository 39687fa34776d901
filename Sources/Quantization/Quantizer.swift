import Foundation
import JSONScanning
package import Kernels
package import Tensors

/// Writes a checkpoint with fewer bits per weight, tensor by tensor.
///
/// Memory stays below one layer's: matrices are read from the mapping, rounded, and appended to the
/// shard under way. Shards are finished one by one and noted with a checksum, so that a run that
/// was killed goes on behind its last whole shard. Errors that are fed back need a gigabyte of what
/// meets the next matrices, and the model is run again for those behind them; measuring what
/// rounding does keeps all rounded matrices, and their values in the place of the weights.
package struct Quantizer {
  let files: CheckpointFiles
  let options: QuantizationOptions
  let calibration: (any QuantizationCalibration)?
  private let names: QuantizationNames
  private let rounding: WeightRounding

  /// Takes an open checkpoint; refuses one that is quantised already.
  package init(
    source: CheckpointFiles, options: QuantizationOptions, names: QuantizationNames,
    team: WorkTeam, calibration: (any QuantizationCalibration)? = nil
  ) throws(QuantizationError) {
    files = source
    self.options = options
    self.names = names
    self.calibration = calibration
    rounding = WeightRounding(team: team)
    for name in files.names {
      guard let type = files[name]?.elementType else { continue }
      if [.float8E4M3, .float8E5M2, .int8, .int32, .uint8].contains(type) {
        throw .alreadyQuantized(tensor: name, elementType: type.rawValue)
      }
    }
  }

  /// Writes the result to `directory`; `progress` is told the bytes of every piece of the source
  /// that is done with, and the bytes of all passes.
  package func run(
    to directory: String, progress: @escaping (_ piece: Int, _ total: Int) -> Void
  ) throws(QuantizationError) -> QuantizationReport {
    let chosen = try candidates()
    let folder = QuantizationFolder(directory, source: files, options: options)
    let isMeasured = options.measure != nil && calibration != nil
    let passes = files.byteCount + (isMeasured ? chosen.reduce(0) { $0 + $1.byteCount } : 0)
    if folder.isComplete {
      let plan = plan(chosen, folder.choice)
      return report(plan, folder, wasWritten: false, kept: plan.shards.count)
    }
    try folder.begin()
    let rounded = RoundedTensors()
    if isMeasured { try choose(chosen, folder, rounded) { progress($0, passes) } }
    let plan = plan(chosen, folder.choice)
    try folder.checkSpace(plan.byteCount)
    var losses: [String: RoundingLoss] = [:]
    let found = plan.shards.indices.map {
      folder.finishedShard(plan.fileName($0), plan, $0)
    }
    let inputs = InputPasses(
      zip(plan.shards, found).flatMap { $1 == nil ? $0 : [] }
        .filter { $0.storage != .kept && !rounded.has($0.tensor, $0.storage) }
        .flatMap(\.tensor.matrices), options.feedsErrorsBack ? calibration : nil)
    for index in plan.shards.indices {
      if let lost = found[index] {
        losses.merge(lost) { $1 }
        progress(plan.shards[index].reduce(0) { $0 + $1.tensor.bytes.byteCount }, passes)
        continue
      }
      let source = RoundingSource(rounded: rounded, inputs: inputs)
      let lost = try write(plan, index, source, to: folder.partial) { progress($0, passes) }
      try folder.note(shard: plan.fileName(index), losses: lost)
      losses.merge(lost) { $1 }
    }
    try folder.finish(plan, losses: losses)
    return report(plan, folder, wasWritten: true, kept: found.count { $0 != nil })
  }

  // MARK: What is stored how

  struct Candidate {
    let tensor: Tensor
    let storage: WeightStorage
    /// What it gets where that moves predictions too much.
    let finer: WeightStorage
    var byteCount: Int { tensor.bytes.byteCount }
  }

  /// The matrices that the options ask to quantise.
  private func candidates() throws(QuantizationError) -> [Candidate] {
    var patterns: [Regex<AnyRegexOutput>] = []
    for pattern in options.keptPatterns {
      do { patterns.append(try Regex(pattern)) } catch {
        throw .badPattern(pattern: pattern, reason: "\(error)")
      }
    }
    let found = files.names.compactMap { files[$0] }.filter { tensor in
      names.isQuantizable(tensor.name) && (tensor.shape.count == 2 || tensor.shape.count == 3)
        && tensor.elementCount > 0
        && !patterns.contains { tensor.name.firstMatch(of: $0) != nil }
    }
    guard !found.isEmpty else { throw .nothingToQuantize(directory: files.directory) }
    return found.map {
      let columns = $0.shape[$0.shape.count - 1]
      let storage = options.storage(columns: columns)
      return Candidate(
        tensor: $0, storage: storage, finer: options.finer(than: storage, columns: columns))
    }
  }

  private func plan(_ candidates: [Candidate], _ choice: SensitivityChoice?) -> QuantizationPlan {
    var storages: [String: WeightStorage] = [:]
    for candidate in candidates {
      let isSensitive = choice?.sensitive.contains(unitName(candidate.tensor)) == true
      storages[candidate.tensor.name] = isSensitive ? candidate.finer : candidate.storage
    }
    return QuantizationPlan(files, options, names) { storages[$0.name] ?? .kept }
  }

  // MARK: Writing

  func round(
    _ matrix: Tensor, _ storage: WeightStorage, _ inputs: InputProducts?
  ) -> RoundedMatrix {
    switch storage {
    case .kept: preconditionFailure("\(matrix.name) is kept")
    case .e4m3: return rounding.e4m3(matrix, inputs: inputs)
    case .int8(let grouping):
      return rounding.integers(matrix, bits: 8, grouping, zeros: false, inputs: inputs)
    case .int4(let size):
      return rounding.integers(
        matrix, bits: 4, .columns(size), zeros: options.hasZeroPoints, inputs: inputs)
    }
  }

  private func write(
    _ plan: QuantizationPlan, _ index: Int, _ source: RoundingSource, to directory: String,
    progress: (Int) -> Void
  ) throws(QuantizationError) -> [String: RoundingLoss] {
    let entries = plan.shards[index]
    var losses: [String: RoundingLoss] = [:]
    do {
      var writer = try SafetensorsWriter(
        directory: directory, tensors: entries.flatMap { plan.declarations(of: $0) },
        maximumShardByteCount: Int.max, singleFileName: plan.fileName(index))
      for entry in entries {
        let parts = plan.declarations(of: entry).map(\.name)
        guard entry.storage != .kept else {
          try writer.append(entry.tensor.bytes, to: parts[0])
          progress(entry.tensor.bytes.byteCount)
          continue
        }
        var factors: [UInt8] = []
        var zeros: [UInt8] = []
        var loss = RoundingLoss()
        let known = source.rounded.take(entry.tensor, entry.storage)
        for (place, matrix) in entry.tensor.matrices.enumerated() {
          let rounded =
            try known?[place] ?? round(matrix, entry.storage, try source.inputs.next())
          try writer.append(rounded.elements, to: parts[0])
          factors += rounded.factors
          zeros += rounded.zeros
          loss += rounded.loss
          progress(matrix.bytes.byteCount)
        }
        try writer.append(factors, to: parts[1])
        if !zeros.isEmpty { try writer.append(zeros, to: parts[2]) }
        if case .int4 = entry.storage {
          let shape = entry.tensor.shape.flatMap { size in
            (0..<8).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
          }
          try writer.append(shape, to: parts[parts.count - 1])
        }
        losses[entry.tensor.name] = loss
      }
      _ = try writer.finish()
    } catch let error as SafetensorsWriterError {
      throw .writing(error)
    } catch let error as QuantizationError {
      throw error
    } catch { preconditionFailure("\(error)") }
    return losses
  }

  // MARK: The report

  private func report(
    _ plan: QuantizationPlan, _ folder: QuantizationFolder, wasWritten: Bool, kept: Int
  ) -> QuantizationReport {
    let losses = folder.losses
    var groups: [QuantizationReport.Group] = []
    for entry in plan.shards.joined() {
      let name = kind(of: entry.tensor)
      let storage = entry.storage.words(
        hasZeroPoints: options.hasZeroPoints, entry.tensor.elementType)
      let place =
        groups.firstIndex { $0.name == name && $0.storage == storage }
        ?? {
          groups.append(QuantizationReport.Group(name: name, storage: storage))
          return groups.count - 1
        }()
      groups[place].tensorCount += 1
      groups[place].sourceByteCount += entry.tensor.bytes.byteCount
      groups[place].byteCount += plan.declarations(of: entry).reduce(0) { $0 + $1.byteCount }
      groups[place].loss += losses[entry.tensor.name] ?? RoundingLoss()
    }
    let measured = folder.measured
    return QuantizationReport(
      directory: folder.final, wasWritten: wasWritten, keptShardCount: kept, groups: groups,
      sensitive: (folder.choice?.sensitive ?? []).map { ($0, measured[$0] ?? 0) },
      divergence: folder.choice?.divergence)
  }
}

extension Tensor {
  /// A matrix as it is, or the matrices of a stack.
  var matrices: [Tensor] { shape.count == 3 ? (0..<shape[0]).map { slice($0) } : [self] }
}
