/// One attention layer as the report measures it in Table 9: 256 samples on four devices, BF16 KV.
///
/// MFA and MLA run data parallel, GQA tensor parallel; projections run in FP8, or INT8 where the
/// device has no FP8.
package struct AttentionAblation: Sendable {
  /// The parts of the layer's time.
  package let time: AttentionStageTime
  /// Ideal roofline: the larger of core bytes and core FLOPs at the peaks, plus projections.
  package let ideal: Double

  /// Samples whose KV one device reads.
  package static let samples = 64.0
  /// Devices of the experiment.
  package static let deviceCount = 4.0

  /// The model whose attention stands for each family.
  package static func modelName(family: String) -> String {
    switch family {
    case "mfa": "step3"
    case "mla": "dsv3"
    default: "qwen3-235b"
    }
  }

  /// Time by the fitted efficiencies.
  package static func estimate(
    family: String, on hardware: Hardware, context: Int, models: ModelCatalogue,
    efficiencies: Efficiencies
  ) throws(CostModelError) -> AttentionAblation {
    let model = try models.model(named: modelName(family: family))
    let group = model.attention[0]
    var assumptions = TimingAssumptions()
    assumptions.kvScale = 2
    assumptions.usesInt8 = true
    let tensorParallel = family == "gqa" ? deviceCount : 1
    func time(_ efficiency: DeviceEfficiency) -> AttentionStageTime {
      AttentionStageTime(
        group, hidden: model.hiddenDimension, on: hardware, efficiency: efficiency,
        samples: samples * tensorParallel, context: Double(context), assumptions: assumptions,
        tensorParallel: tensorParallel)
    }
    return AttentionAblation(
      time: time(efficiencies.efficiency(of: hardware, family: family)),
      ideal: time(.ideal).total)
  }

  /// Shares of the peaks that the growth from 8K to 32K measures, constant parts removed.
  package struct Slope: Sendable {
    /// Shares of the bandwidth, of the BF16 peak, and of the peak as far as tiles are filled.
    package let bandwidthShare: Double
    package let flopsShare: Double
    package let paddedFlopsShare: Double
    /// Seconds that do not grow with context.
    package let constant: Double
  }

  /// The shares behind two measured times.
  package static func slope(
    family: String, on hardware: Hardware, short: (context: Int, seconds: Double),
    long: (context: Int, seconds: Double), models: ModelCatalogue, tileRows: Int
  ) throws(CostModelError) -> Slope {
    let model = try models.model(named: modelName(family: family))
    let group = model.attention[0]
    let perToken = (long.seconds - short.seconds) / Double(long.context - short.context)
    let bytes = samples * group.shape.storedElementCount * group.storageByteCount * 2
    let flops = samples * group.shape.coreFlops(.exact)
    let padding = max(1, Double(tileRows) / Double(group.shape.queriesPerStoredHead))
    let share = flops / perToken / hardware.bf16Peak
    return Slope(
      bandwidthShare: bytes / perToken / hardware.bandwidth, flopsShare: share,
      paddedFlopsShare: share * padding,
      constant: short.seconds - perToken * Double(short.context))
  }
}
