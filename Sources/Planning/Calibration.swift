package import CostModel

/// What probes measured on this machine, and how it becomes a hardware entry.
package struct MachineProbe: Sendable {
  /// How the entry is called, and the memory of the machine in bytes.
  package var name: String
  package var memoryByteCount: Double
  /// Bytes per second read from memory, and operations per second by instruction.
  package var bandwidth: Double
  /// Bytes per second of all cores together, where the other figures are of fewer threads.
  package var machineBandwidth: Double?
  package var bf16Peak: Double
  package var int8Peak: Double?
  /// Bytes per second of the network, and whether that was measured.
  package var nicBandwidth: Double
  package var isNICMeasured: Bool
  /// Shares of bandwidth and peaks that kernels reach.
  package var linearBandwidth: Double
  package var linearFlops: Double
  package var attentionBandwidth: Double
  package var attentionFlops: Double
  /// Price per hour, where the user gave one, and today's date.
  package var price: Double?
  package var date: String

  /// A probe's figures.
  package init(
    name: String, memoryByteCount: Double, bandwidth: Double, machineBandwidth: Double? = nil,
    bf16Peak: Double, int8Peak: Double?,
    nicBandwidth: Double, isNICMeasured: Bool, linearBandwidth: Double, linearFlops: Double,
    attentionBandwidth: Double, attentionFlops: Double, price: Double?, date: String
  ) {
    self.name = name
    self.memoryByteCount = memoryByteCount
    self.bandwidth = bandwidth
    self.machineBandwidth = machineBandwidth
    self.bf16Peak = bf16Peak
    self.int8Peak = int8Peak
    self.nicBandwidth = nicBandwidth
    self.isNICMeasured = isNICMeasured
    self.linearBandwidth = linearBandwidth
    self.linearFlops = linearFlops
    self.attentionBandwidth = attentionBandwidth
    self.attentionFlops = attentionFlops
    self.price = price
    self.date = date
  }

  /// The entry that a planner and `bench predict` use.
  ///
  /// A fitted share at its ceiling says that the limits were measured while the machine was busier
  /// than during the runs: then the entry says so.
  package func hardware(efficiency: MeasuredEfficiency? = nil) -> Hardware {
    var doubts = isNICMeasured ? [] : ["network bandwidth was given, not measured"]
    let fitted = [
      efficiency?.attentionBandwidth, efficiency?.attentionFlops, efficiency?.linearBandwidth,
      efficiency?.linearFlops,
    ]
    if fitted.contains(where: { ($0 ?? 0) > 0.99 * Calibration.ceiling }) {
      doubts.append("the runs were faster than the limits allow: calibrate on a quiet machine")
    }
    return Hardware(
      measured: name, memoryByteCount: memoryByteCount, bandwidth: bandwidth, bf16Peak: bf16Peak,
      int8Peak: int8Peak, nicBandwidth: nicBandwidth,
      price: price.map { HourlyPrice(usdPerHour: $0, date: date) },
      source: "measured on this machine, \(date)",
      doubts: doubts,
      efficiency: efficiency
        ?? MeasuredEfficiency(
          attentionBandwidth: attentionBandwidth, attentionFlops: attentionFlops,
          linearBandwidth: linearBandwidth, linearFlops: linearFlops, overheadPerHalfLayer: 0,
          head: 0, machineBandwidth: machineBandwidth))
  }
}

/// Fits the shares of a machine to a few measured runs: one calibration for all predictions.
package enum Calibration {
  /// The largest share of a limit that a fit may claim; above 1, for limits are measured, too.
  static let ceiling = 1.2

  /// Efficiencies with which the runs are predicted best, starting from what kernels reached.
  ///
  /// A pattern search on the logarithms: seven numbers, each moved up and down by a shrinking
  /// factor while that lowers the squared log error, with a mild pull towards the start so that
  /// what the runs do not touch stays where the kernels were measured.
  package static func fit(
    _ runs: [EngineRun], model: ModelArchitecture, hardware: Hardware
  ) throws(CostModelError) -> MeasuredEfficiency {
    let start = hardware.measured ?? .unknown
    let comparison = EngineComparison(model: model, hardware: hardware)
    let origin = [
      start.attentionBandwidth ?? 0.7, start.attentionFlops ?? 0.3, start.linearBandwidth ?? 0.85,
      start.linearFlops ?? 0.5, max(start.attentionOverhead ?? 0, 2e-6),
      start.exchange ?? 1e-5, start.expertOverhead ?? 1e-5,
    ]
    let hasSplits = runs.contains { run in
      if case .split = run.kind { return true }
      return false
    }
    func efficiency(_ values: [Double]) -> MeasuredEfficiency {
      MeasuredEfficiency(
        attentionBandwidth: values[0], attentionFlops: values[1], linearBandwidth: values[2],
        linearFlops: values[3], overheadPerHalfLayer: values[4] / 2, head: values[4],
        expertOverhead: values[6], exchange: hasSplits ? values[5] : start.exchange,
        machineBandwidth: start.machineBandwidth)
    }
    func loss(_ values: [Double]) throws(CostModelError) -> Double {
      var sum = 0.0
      for run in runs {
        let error = logRatio(
          try comparison.predict(run, efficiency: efficiency(values)), run.seconds)
        sum += error * error
      }
      for (value, first) in zip(values, origin) {
        let pull = logRatio(value, first)
        sum += 1e-3 * pull * pull
      }
      return sum
    }
    var best = origin
    var least = try loss(best)
    var factor = 1.5
    while factor > 1.001 {
      var improved = false
      for index in best.indices {
        for move in [factor, 1 / factor] {
          var trial = best
          trial[index] *= move
          let limit = index < 4 ? ceiling : 1e-2
          guard trial[index] <= limit, trial[index] > 1e-9 else { continue }
          let value = try loss(trial)
          if value < least {
            least = value
            best = trial
            improved = true
          }
        }
      }
      if !improved { factor = factor.squareRoot() }
    }
    return efficiency(best)
  }
}
