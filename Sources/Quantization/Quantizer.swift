import Foundation
import JSONScanning
package import Kernels
package import Tensors

/// Writes a checkpoint with fewer bits per weight, tensor by tensor.
///
/// Memory stays below one layer's: matrices are read from the mapping, rounded, and appended to the
/// shard under way. Shards are finished one by one and noted with a checksum, so that a run that
/// was killed goes on behind its last whole shard.
package struct Quantizer {
  private let files: CheckpointFiles
  private let options: QuantizationOptions
  private let names: QuantizationNames
  private let rounding: WeightRounding
  private let importance: ImportanceSource?

  /// Takes an open checkpoint; refuses one that is quantised already.
  package init(
    source: CheckpointFiles, options: QuantizationOptions, names: QuantizationNames,
    team: WorkTeam, importance: ImportanceSource? = nil
  ) throws(QuantizationError) {
    files = source
    self.options = options
    self.names = names
    self.importance = importance
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
    let isMeasured = options.weights == .int4
    let passes = files.byteCount + (isMeasured ? chosen.reduce(0) { $0 + $1.byteCount } : 0)
    if folder.isComplete {
      let plan = plan(chosen, folder.measured ?? [:])
      return report(plan, folder, wasWritten: false, kept: plan.shards.count)
    }
    try folder.begin()
    let measured = try isMeasured ? measure(chosen, folder) { progress($0, passes) } : [:]
    let plan = plan(chosen, measured)
    try folder.checkSpace(plan.byteCount)
    var losses: [String: RoundingLoss] = [:]
    var kept = 0
    for index in plan.shards.indices {
      let name = plan.fileName(index)
      if let found = folder.finishedShard(name, plan, index) {
        losses.merge(found) { $1 }
        kept += 1
        progress(plan.shards[index].reduce(0) { $0 + $1.tensor.bytes.byteCount }, passes)
        continue
      }
      let lost = try write(plan, index, to: folder.partial) { progress($0, passes) }
      try folder.note(shard: name, losses: lost)
      losses.merge(lost) { $1 }
    }
    try folder.finish(plan, losses: losses)
    return report(plan, folder, wasWritten: true, kept: kept)
  }

  // MARK: What is stored how

  private struct Candidate {
    let tensor: Tensor
    let storage: WeightStorage
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
      Candidate(tensor: $0, storage: options.storage(columns: $0.shape[$0.shape.count - 1]))
    }
  }

  /// The relative errors at 4 bits, weighted by importance; noted, so that it is done once.
  private func measure(
    _ candidates: [Candidate], _ folder: QuantizationFolder, progress: (Int) -> Void
  ) throws(QuantizationError) -> [String: Double] {
    var measured = folder.measured ?? [:]
    for candidate in candidates {
      defer { progress(candidate.byteCount) }
      guard measured[candidate.tensor.name] == nil, case .int4 = candidate.storage else {
        continue
      }
      var loss = RoundingLoss()
      for matrix in candidate.tensor.matrices { loss += round(matrix, candidate.storage).loss }
      measured[candidate.tensor.name] = loss.relativeError
      try folder.note(measured: measured)
    }
    return measured
  }

  private func plan(_ candidates: [Candidate], _ measured: [String: Double]) -> QuantizationPlan {
    let sensitive = sensitiveNames(measured)
    var storages: [String: WeightStorage] = [:]
    for candidate in candidates {
      storages[candidate.tensor.name] =
        sensitive.contains(candidate.tensor.name) ? .int8(.row) : candidate.storage
    }
    return QuantizationPlan(files, options, names) { storages[$0.name] ?? .kept }
  }

  /// Matrices that lose far more at 4 bits than the model's others do.
  private func sensitiveNames(_ measured: [String: Double]) -> Set<String> {
    let errors = measured.values.filter { $0 > 0 }.sorted()
    guard !errors.isEmpty else { return [] }
    let limit = errors[errors.count / 2] * options.sensitivity
    return Set(measured.filter { $0.value > limit }.keys)
  }

  // MARK: Writing

  private func round(_ matrix: Tensor, _ storage: WeightStorage) -> RoundedMatrix {
    let weights = importance?(matrix).map(Self.damped)
    switch storage {
    case .kept: preconditionFailure("\(matrix.name) is kept")
    case .e4m3: return rounding.e4m3(matrix, importance: weights)
    case .int8(let grouping):
      return rounding.integers(matrix, bits: 8, grouping, zeros: false, importance: weights)
    case .int4(let size):
      return rounding.integers(
        matrix, bits: 4, .columns(size), zeros: options.hasZeroPoints, importance: weights)
    }
  }

  /// A column that was hardly seen counts a little all the same.
  private static func damped(_ squares: [Float]) -> [Float] {
    let mean = squares.reduce(0, +) / Float(max(1, squares.count))
    return mean > 0 ? squares.map { $0 / mean + 0.01 } : squares.map { _ in 1 }
  }

  private func write(
    _ plan: QuantizationPlan, _ index: Int, to directory: String, progress: (Int) -> Void
  ) throws(QuantizationError) -> [String: RoundingLoss] {
    let entries = plan.shards[index]
    var losses: [String: RoundingLoss] = [:]
    do throws(SafetensorsWriterError) {
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
        for matrix in entry.tensor.matrices {
          let rounded = round(matrix, entry.storage)
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
    } catch { throw .writing(error) }
    return losses
  }

  // MARK: The report

  private func report(
    _ plan: QuantizationPlan, _ folder: QuantizationFolder, wasWritten: Bool, kept: Int
  ) -> QuantizationReport {
    let losses = folder.losses
    var groups: [QuantizationReport.Group] = []
    for entry in plan.shards.joined() {
      let name = entry.tensor.name.split(separator: ".").filter { Int($0) == nil }
        .joined(separator: ".")
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
    let measured = folder.measured ?? [:]
    let sensitive = sensitiveNames(measured).sorted().map { ($0, measured[$0] ?? 0) }
    return QuantizationReport(
      directory: folder.final, wasWritten: wasWritten, keptShardCount: kept, groups: groups,
      sensitive: sensitive)
  }
}

extension Tensor {
  /// A matrix as it is, or the matrices of a stack.
  var matrices: [Tensor] { shape.count == 3 ? (0..<shape[0]).map { slice($0) } : [self] }
}
