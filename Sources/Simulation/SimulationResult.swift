import CostModel
package import JSONScanning

/// What a simulation measured.
package struct SimulationResult: Sendable {
  /// One stretch of the run, for pictures.
  package struct Sample: Sendable {
    /// Seconds since the start, and means of the stretch.
    package let time: Double
    package let tokensPerSecond: Double
    package let timePerOutputToken: Double
    package let cacheUsage: Double
    package let waiting: Double
  }

  /// Which server model ran, how many steps at a time, and the seed.
  package let fidelity: SimulationOptions.Fidelity
  package let stepsPerAdvance: Int
  package let seed: UInt64
  /// Seconds simulated, and requests that came, ended and were refused.
  package let duration: Double
  package let arrivedCount: Int
  package let finishedCount: Int
  /// Means with confidence intervals; times in seconds, busy and usage as shares.
  package let throughput: Estimate
  package let throughputPerDevice: Estimate
  package let timePerOutputToken: Estimate
  package let timeToFirstToken: Estimate
  package let attentionBusy: Estimate
  package let feedForwardBusy: Estimate
  package let cacheUsage: Estimate
  package let runningSequences: Estimate
  package let onTimeShare: Estimate
  package let usdPerMillionTokens: Estimate?
  /// Quantiles over requests, in seconds.
  package let tokenTimeQuantiles: [(share: Double, seconds: Double)]
  package let firstTokenQuantiles: [(share: Double, seconds: Double)]
  /// What went wrong on the way.
  package let preemptionCount: Int
  package let failureCount: Int
  /// The run in stretches.
  package let samples: [Sample]

  /// The result as JSON; times in milliseconds.
  package var document: JSONValue {
    func estimate(_ value: Estimate, _ unit: Double = 1) -> JSONValue {
      .members([
        ("mean", .finite(value.mean * unit)), ("half_width", .finite(value.halfWidth * unit)),
      ])
    }
    func quantiles(_ values: [(share: Double, seconds: Double)]) -> JSONValue {
      .members(values.map { ("p\(Int(($0.share * 100).rounded()))", .finite($0.seconds * 1e3)) })
    }
    return .members([
      ("fidelity", .string(fidelity.rawValue)), ("steps_per_advance", .integer(stepsPerAdvance)),
      ("seed", .integer(Int(clamping: seed))), ("simulated_seconds", .finite(duration)),
      ("requests", .integer(arrivedCount)), ("finished", .integer(finishedCount)),
      ("confidence", .number(0.95)),
      ("tokens_per_second", estimate(throughput)),
      ("tokens_per_second_per_device", estimate(throughputPerDevice)),
      ("tpot_ms", estimate(timePerOutputToken, 1e3)),
      ("ttft_ms", estimate(timeToFirstToken, 1e3)),
      ("attention_busy", estimate(attentionBusy)), ("ffn_busy", estimate(feedForwardBusy)),
      ("kv_usage", estimate(cacheUsage)), ("running_sequences", estimate(runningSequences)),
      ("sla_share", estimate(onTimeShare)),
      ("usd_per_mtok", usdPerMillionTokens.map { estimate($0) }),
      ("tpot_quantiles_ms", quantiles(tokenTimeQuantiles)),
      ("ttft_quantiles_ms", quantiles(firstTokenQuantiles)),
      ("preemptions", .integer(preemptionCount)), ("failures", .integer(failureCount)),
    ])
  }
}
