#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// (a^p + b^p)^(1/p): close to the larger, a little above it where both are near.
package func smoothMaximum(_ a: Double, _ b: Double, exponent p: Double) -> Double {
  let larger = max(a, b)
  guard larger > 0, p.isFinite else { return larger }
  let smaller = min(a, b) / larger
  return larger * pow(1 + pow(smaller, p), 1 / p)
}

/// Seconds of one attention layer on one device.
package struct AttentionStageTime: Equatable, Sendable {
  /// Seconds of the core, of the projections, and of everything else.
  package let core: Double
  package let linear: Double
  package let overhead: Double
  /// Seconds of the layer.
  package var total: Double { core + linear + overhead }

  /// - Parameters:
  ///   - samples: sequences in the device's part of the micro-batch.
  ///   - tensorParallel: devices that share the heads of each sample (GQA); 1 for data parallel.
  package init(
    _ group: AttentionGroup, hidden: Int, on hardware: Hardware, efficiency: DeviceEfficiency,
    samples: Double, context: Double, assumptions: TimingAssumptions, tensorParallel: Double = 1
  ) {
    let storage =
      group.storageByteCount * (group.shape.isRecurrent ? 1 : assumptions.kvScale)
    let queries = assumptions.speculation.queryCount
    let eightBit = hardware.eightBitPeak(usingInt8: assumptions.usesInt8)
    let peak = storage <= 1 ? eightBit : hardware.bf16Peak
    let share = samples / tensorParallel
    let attended = group.attendedTokens(context: context)
    let bytes = share * attended * group.shape.storedElementCount * storage
    let padding = max(
      1, Double(efficiency.tileRows) / Double(group.shape.queriesPerStoredHead))
    let flops =
      share * attended * group.shape.coreFlops(assumptions.operationCount) * queries
    core = smoothMaximum(
      bytes / (hardware.bandwidth * efficiency.attentionBandwidth),
      flops * padding / (peak * efficiency.attentionFlops), exponent: efficiency.smoothing)
    let weights = group.shape.linearParameterCount(hidden: hidden) / tensorParallel
    let gemmPeak = assumptions.weightByteCount <= 1 ? eightBit : hardware.bf16Peak
    linear = max(
      weights * assumptions.weightByteCount / (hardware.bandwidth * efficiency.linearBandwidth),
      2 * weights * samples * queries / (gemmPeak * efficiency.linearFlops))
    overhead = efficiency.attentionOverhead
  }
}

/// Seconds of one feed-forward layer on `serverCount` servers that share its weights.
package struct FeedForwardStageTime: Equatable, Sendable {
  /// Seconds of matrix products, of collectives, of everything else, and how they combine.
  package let products: Double
  package let collectives: Double
  package let overhead: Double
  package let mode: CollectiveMode

  /// Seconds of the layer.
  package var total: Double {
    (mode == .serial ? products + collectives : max(products, collectives)) + overhead
  }

  /// - Parameters:
  ///   - tokens: tokens of the micro-batch, system wide, drafts not yet counted.
  ///   - reach: share of the tokens that come to each server.
  package init(
    _ group: FeedForwardGroup, hidden: Int, on hardware: Hardware, efficiency: DeviceEfficiency,
    tokens: Double, serverCount: Int, reach: Double, scaleUpEfficiency: Double,
    assumptions: TimingAssumptions
  ) {
    let devices = Double(serverCount * hardware.devicesPerServer)
    let perServer = Double(hardware.devicesPerServer)
    let queried = tokens * assumptions.speculation.queryCount
    let eightBit = hardware.eightBitPeak(usingInt8: assumptions.usesInt8)
    let peak = assumptions.weightByteCount <= 1 ? eightBit : hardware.bf16Peak
    let bytes =
      group.touchedParameterCount(hidden: hidden, tokens: queried) * assumptions.weightByteCount
    let skew = group.isMoE ? assumptions.expertSkew : 1
    let flops = 2 * group.activeParameterCount(hidden: hidden) * queried * skew
    products = smoothMaximum(
      bytes / devices / (hardware.bandwidth * efficiency.linearBandwidth),
      flops / devices / (peak * efficiency.linearFlops), exponent: efficiency.smoothing)
    let link = hardware.scaleUpBandwidth ?? hardware.nicBandwidth
    let linkEfficiency = scaleUpEfficiency
    collectives =
      perServer > 1
      ? 3 * Double(hidden) * queried * reach * (perServer - 1) / perServer
        / (link * linkEfficiency) : 0
    overhead = efficiency.feedForwardOverhead
    mode = assumptions.collectives
  }
}

/// Seconds that links between attention and feed-forward servers are busy with one layer.
package struct NetworkStageTime: Equatable, Sendable {
  /// The busiest attention server, one resource or the busier direction.
  package let attentionSide: Double
  package let feedForwardSide: Double
  /// There and back, one after the other: what a micro-batch waits for.
  package let roundTrip: Double

  /// Seconds of the busier side.
  package var busiest: Double { max(attentionSide, feedForwardSide) }

  package init(
    hidden: Int, tokens: Double, attentionServers: Int, feedForwardServers: Int, reach: Double,
    attentionHardware: Hardware, feedForwardHardware: Hardware, nicEfficiency: Double,
    assumptions: TimingAssumptions
  ) {
    let queried = tokens * assumptions.speculation.queryCount
    func seconds(_ tokens: Double, _ bytesPerToken: Double, _ hardware: Hardware) -> Double {
      bytesPerToken * Double(hidden) * tokens
        / (Double(hardware.devicesPerServer) * hardware.nicBandwidth * nicEfficiency)
    }
    let sent =
      queried / Double(attentionServers) * Double(feedForwardServers) * reach
    let received = queried * reach
    let busyBytes: Double = assumptions.duplex == .half ? 3 : 2
    attentionSide = seconds(sent, busyBytes, attentionHardware)
    feedForwardSide = seconds(received, busyBytes, feedForwardHardware)
    roundTrip = max(
      seconds(sent, 3, attentionHardware), seconds(received, 3, feedForwardHardware))
  }

  /// Share of tokens that need one of `serverCount` servers, without routing limits.
  package static func reach(
    _ group: FeedForwardGroup, serverCount: Int, mode: DispatchMode
  ) -> Double {
    guard mode == .routed, group.isMoE, serverCount > 1 else { return 1 }
    // The shared expert is computed by whichever chosen server comes first: no extra copy.
    return 1 - pow(1 - 1 / Double(serverCount), Double(group.topK))
  }
}
