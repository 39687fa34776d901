/// x attention servers and y feed-forward servers that decode m micro-batches of B tokens.
package struct Deployment: Equatable, Sendable {
  /// Devices of both sides, server counts, and micro-batches in flight.
  package var attentionHardware: Hardware
  package var feedForwardHardware: Hardware
  package var attentionServers: Int
  package var feedForwardServers: Int
  package var microBatchCount: Int
  /// Tokens per micro-batch, system wide.
  package var microBatchTokens: Int

  package init(
    attentionHardware: Hardware, feedForwardHardware: Hardware, attentionServers: Int,
    feedForwardServers: Int, microBatchCount: Int, microBatchTokens: Int
  ) {
    self.attentionHardware = attentionHardware
    self.feedForwardHardware = feedForwardHardware
    self.attentionServers = attentionServers
    self.feedForwardServers = feedForwardServers
    self.microBatchCount = microBatchCount
    self.microBatchTokens = microBatchTokens
  }

  /// The usual short form, such as 2A2F.
  package var label: String { "\(attentionServers)A\(feedForwardServers)F" }
  /// Devices of the attention side.
  package var attentionDevices: Int { attentionServers * attentionHardware.devicesPerServer }
  /// Devices of the feed-forward side.
  package var feedForwardDevices: Int {
    feedForwardServers * feedForwardHardware.devicesPerServer
  }
  /// Devices of both sides.
  package var deviceCount: Int { attentionDevices + feedForwardDevices }
  /// Sequences in flight.
  package var batch: Int { microBatchCount * microBatchTokens }
}

/// What limits a deployment; every one of them is checked and named.
package enum Constraint: String, Sendable, CaseIterable {
  case attentionTime = "attention time"
  case feedForwardTime = "FFN time"
  case attentionNetwork = "attention network"
  case feedForwardNetwork = "FFN network"
  case attentionMemory = "attention memory"
  case feedForwardMemory = "FFN memory"
  case latency = "SLA (one micro-batch's way through all stages)"
}

/// Stage times of one class of layers, in seconds.
package struct LayerTiming: Equatable, Sendable {
  /// The class of layers and the seconds of each of its stages.
  package let layerCount: Int
  package let isMoE: Bool
  package let attention: AttentionStageTime
  package let feedForward: FeedForwardStageTime
  package let network: NetworkStageTime
  package let microBatchCount: Int

  /// Time one micro-batch needs for the layer when nothing is in its way.
  package var passage: Double { attention.total + feedForward.total + network.roundTrip }
  /// The busiest resource, once per micro-batch.
  package var bottleneck: Double { max(attention.total, feedForward.total, network.busiest) }
  /// Steady state: max(m x slowest stage, sum of stages).
  package var period: Double { max(Double(microBatchCount) * bottleneck, passage) }
}

/// What the time model says about one deployment.
package struct DeploymentEstimate: Equatable, Sendable {
  /// Stage times per class of layers, seconds outside the layers, and tokens per step.
  package let layers: [LayerTiming]
  package let head: Double
  package let tokensPerStep: Double
  /// Seconds per step of a sequence, draft layers included.
  package let stepTime: Double
  package let throughput: Double
  package let throughputPerDevice: Double
  package let usdPerMillionTokens: Double?
  /// Bytes per device, and the share of its memory that may be filled.
  package let attentionMemory: Double
  package let attentionMemoryLimit: Double
  package let feedForwardMemory: Double
  package let feedForwardMemoryLimit: Double
  package let isCalibrated: Bool

  /// Seconds per emitted token of one sequence.
  package var timePerOutputToken: Double { stepTime / tokensPerStep }

  /// Whether weights and caches fit.
  package var fits: Bool {
    attentionMemory <= attentionMemoryLimit && feedForwardMemory <= feedForwardMemoryLimit
  }

  /// Use of each constraint, 1 meaning exhausted, under a limit on time per output token.
  package func utilisation(limit: Double) -> [(constraint: Constraint, share: Double)] {
    let budget = limit * tokensPerStep
    func time(_ stage: (LayerTiming) -> Double) -> Double {
      (layers.reduce(0) { $0 + Double($1.layerCount) * stage($1) } * draftFactor + head) / budget
    }
    func busy(_ stage: @escaping (LayerTiming) -> Double) -> Double {
      time { Double($0.microBatchCount) * stage($0) }
    }
    return [
      (.attentionTime, busy { $0.attention.total }),
      (.feedForwardTime, busy { $0.feedForward.total }),
      (.attentionNetwork, busy { $0.network.attentionSide }),
      (.feedForwardNetwork, busy { $0.network.feedForwardSide }),
      (.attentionMemory, attentionMemory / attentionMemoryLimit),
      (.feedForwardMemory, feedForwardMemory / feedForwardMemoryLimit),
      (.latency, time(\.passage)),
    ]
  }

  let draftFactor: Double
}
