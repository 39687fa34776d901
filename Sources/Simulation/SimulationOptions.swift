/// How one simulation runs.
package struct SimulationOptions: Sendable {
  /// Which server model to use.
  package enum Fidelity: String, Sendable, CaseIterable {
    /// The scheduler of the real server, one step at a time.
    case scheduler
    /// The same rules on counts, several steps at a time; for long runs.
    case counting
    /// The scheduler where the run is short enough, counting otherwise.
    case auto
  }

  /// Seconds of traffic, and the share of them left out of the statistics at the start.
  package var duration = 600.0
  package var warmUp = 0.1
  /// Equal seeds give equal results.
  package var seed: UInt64 = 1
  package var fidelity = Fidelity.auto
  /// Deviation of each server's step time over its mean, drawn anew each step.
  package var jitter = 0.0
  /// Slowness of single attention servers: index and factor.
  package var stragglers: [(server: Int, factor: Double)] = []
  /// Whether the busiest expert group is slower by what even routing makes of chance.
  package var hasExpertNoise = true
  /// Failures per server and day, and seconds until a server is back.
  package var failuresPerServerDay = 0.0
  package var recovery = 60.0
  /// Tokens per second of the separate prefill machines; nil leaves prefill out.
  package var prefillRate: Double?
  /// Parts of the run whose means give the confidence intervals.
  package var batchCount = 20
  /// Sequence-steps up to which `auto` uses the scheduler.
  package var schedulerBudget = 4e6

  /// Ten quiet minutes.
  package init() {}

  /// Rejects what no run can have.
  func validate() throws(SimulationError) {
    let positive: [(String, Double)] = [
      ("the duration", duration), ("the recovery time", recovery),
      ("the prefill rate", prefillRate ?? 1), ("the number of batches", Double(batchCount - 1)),
    ]
    for (name, value) in positive where !(value > 0 && value.isFinite) {
      throw .notPositive(quantity: name, value: value)
    }
    guard jitter >= 0, jitter < 10, failuresPerServerDay >= 0, warmUp >= 0, warmUp < 1 else {
      throw .notPositive(quantity: "jitter, failure rate or warm-up", value: jitter)
    }
    for straggler in stragglers where !(straggler.factor > 0) {
      throw .notPositive(quantity: "a straggler's factor", value: straggler.factor)
    }
  }
}
