import Kernels
import Tensors

/// What is stored more finely than asked for, because rounding it moves the predictions most.
struct SensitivityChoice: Equatable {
  /// Names of kinds or tensors, the most sensitive first.
  var sensitive: [String] = []
  /// How far rounding all others moves the predictions, in nats per token.
  var divergence = 0.0
}

/// Matrices that were rounded already, for measuring, until they are written.
final class RoundedTensors {
  private var byName: [String: (storage: WeightStorage, matrices: [RoundedMatrix])] = [:]

  func keep(_ matrices: [RoundedMatrix], of tensor: Tensor, _ storage: WeightStorage) {
    byName[tensor.name] = (storage, matrices)
  }

  func has(_ tensor: Tensor, _ storage: WeightStorage) -> Bool {
    byName[tensor.name]?.storage == storage
  }

  subscript(tensor: Tensor) -> [RoundedMatrix] { byName[tensor.name]?.matrices ?? [] }

  /// The matrices of a tensor, if they were rounded that way; they are forgotten.
  func take(_ tensor: Tensor, _ storage: WeightStorage) -> [RoundedMatrix]? {
    let found = byName.removeValue(forKey: tensor.name)
    return found?.storage == storage ? found?.matrices : nil
  }
}

/// Where rounded matrices come from: they are known, or their inputs may be.
struct RoundingSource {
  let rounded: RoundedTensors
  let inputs: InputPasses
}

extension Quantizer {
  /// Tensors that are rounded and restored together.
  private struct Unit {
    let name: String
    var members: [Candidate] = []
    var elementCount: Int { members.reduce(0) { $0 + $1.tensor.elementCount } }
  }

  /// A tensor's name with the layer left out.
  func kind(of tensor: Tensor) -> String {
    tensor.name.split(separator: ".").filter { Int($0) == nil }.joined(separator: ".")
  }

  /// What a tensor is measured with.
  func unitName(_ tensor: Tensor) -> String {
    options.measure == .tensors ? tensor.name : kind(of: tensor)
  }

  /// Finds the fewest units that must be stored more finely, in the order of what rounding them
  /// alone does for their size, so that rounding all others together stays within the tolerance.
  /// What was measured is noted, so that a run that was stopped need not measure it again.
  func choose(
    _ candidates: [Candidate], _ folder: QuantizationFolder, _ rounded: RoundedTensors,
    progress: (Int) -> Void
  ) throws(QuantizationError) {
    if folder.choice != nil {
      progress(candidates.reduce(0) { $0 + $1.byteCount })
      return
    }
    try roundAll(candidates, rounded, progress)
    let units = units(candidates.filter { $0.storage != $0.finer })
    let probe = Probe(quantizer: self, rounded: rounded)
    for unit in units { try probe.replace(unit.members) }
    let whole = try probe.divergence()
    if whole <= options.tolerance {
      units.forEach { probe.restore($0.members) }
      return try folder.note(SensitivityChoice(sensitive: [], divergence: whole))
    }
    units.forEach { probe.restore($0.members) }
    var measured = folder.measured
    for unit in units where measured[unit.name] == nil {
      try probe.replace(unit.members)
      measured[unit.name] = try probe.divergence()
      probe.restore(unit.members)
      try folder.note(measured: measured)
    }
    func cost(_ unit: Unit) -> Double { (measured[unit.name] ?? 0) / Double(unit.elementCount) }
    let ordered = units.sorted { (cost($0), $1.name) > (cost($1), $0.name) }
    try folder.note(try fewest(of: ordered, probe))
  }

  /// The shortest prefix that need not be rounded for the rest to stay within the tolerance.
  private func fewest(
    of units: [Unit], _ probe: Probe
  ) throws(QuantizationError) -> SensitivityChoice {
    var (tooFew, enough, divergence) = (0, units.count, 0.0)
    var restored = units.count
    while enough - tooFew > 1 {
      let middle = (tooFew + enough) / 2
      for unit in units[min(middle, restored)..<max(middle, restored)] {
        if restored > middle {
          try probe.replace(unit.members)
        } else {
          probe.restore(unit.members)
        }
      }
      restored = middle
      let found = try probe.divergence()
      if found <= options.tolerance {
        (enough, divergence) = (middle, found)
      } else {
        tooFew = middle
      }
    }
    units[restored...].forEach { probe.restore($0.members) }
    return SensitivityChoice(
      sensitive: units.prefix(enough).map(\.name), divergence: divergence)
  }

  private func roundAll(
    _ candidates: [Candidate], _ rounded: RoundedTensors, _ progress: (Int) -> Void
  ) throws(QuantizationError) {
    let inputs = InputPasses(
      candidates.flatMap(\.tensor.matrices), options.feedsErrorsBack ? calibration : nil)
    for candidate in candidates {
      var matrices: [RoundedMatrix] = []
      for matrix in candidate.tensor.matrices {
        matrices.append(round(matrix, candidate.storage, try inputs.next()))
      }
      rounded.keep(matrices, of: candidate.tensor, candidate.storage)
      progress(candidate.byteCount)
    }
  }

  private func units(_ candidates: [Candidate]) -> [Unit] {
    var units: [Unit] = []
    for candidate in candidates {
      let name = unitName(candidate.tensor)
      let place =
        units.firstIndex { $0.name == name }
        ?? {
          units.append(Unit(name: name))
          return units.count - 1
        }()
      units[place].members.append(candidate)
    }
    return units
  }

  /// The model with some tensors' rounded values in their place.
  private struct Probe {
    let quantizer: Quantizer
    let rounded: RoundedTensors

    func replace(_ candidates: [Candidate]) throws(QuantizationError) {
      for candidate in candidates {
        let tensor = candidate.tensor
        for (index, matrix) in rounded[tensor].enumerated() {
          let bytes = matrix.values(
            shape: Array(tensor.shape.suffix(2)), candidate.storage, as: tensor.elementType)
          do {
            try quantizer.calibration?.replace(tensor.name, matrix: index, with: bytes)
          } catch { throw .calibration(reason: "\(error)") }
        }
      }
    }

    func restore(_ candidates: [Candidate]) {
      for candidate in candidates { quantizer.calibration?.restore(candidate.tensor.name) }
    }

    func divergence() throws(QuantizationError) -> Double {
      do { return try quantizer.calibration?.divergence() ?? 0 } catch {
        throw .calibration(reason: "\(error)")
      }
    }
  }
}

extension RoundedMatrix {
  fileprivate func values(
    shape: [Int], _ storage: WeightStorage, as type: ElementType
  ) -> [UInt8] {
    switch storage {
    case .kept: preconditionFailure("what is kept has no rounded values")
    case .e4m3: values(shape: shape, format: .e4m3, as: type)
    case .int8(let grouping): values(shape: shape, format: .int8, grouping: grouping, as: type)
    case .int4(let size):
      values(shape: shape, format: .int4, grouping: .columns(size), as: type)
    }
  }
}
