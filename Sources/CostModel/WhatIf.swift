#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// USD per million tokens with speculative decoding, feed-forward on its own hardware.
///
/// [max(q F_attn Uf, B_kv Ub) + q F_lin Uf + q F_ffn Uf'] (1 + n/layers) / T
package func speculativeCost(
  _ model: ModelArchitecture, attentionOn attention: Hardware, feedForwardOn feedForward: Hardware,
  context: Int, speculation: Speculation, assumptions: CostAssumptions = .init()
) throws(CostModelError) -> Double {
  let work = try TokenWork(model, context: context, assumptions: assumptions)
  let price = try UnitPrice(attention, assumptions: assumptions)
  let other = try UnitPrice(feedForward, assumptions: assumptions)
  let queries = speculation.queryCount
  let core = max(queries * work.attentionFlops * price.flop, work.kvByteCount * price.byte)
  let rest = queries * (work.linearFlops * price.flop + work.feedForwardFlops * other.flop)
  let drafts = 1 + Double(speculation.draftCount) / Double(model.layerCount)
  return 1e6 * (core + rest) * drafts / speculation.tokensPerStep
}

/// The acceptance at which one draft token costs nothing: cost(q) / cost(1) - 1.
package func breakEvenAcceptance(
  _ model: ModelArchitecture, attentionOn attention: Hardware, feedForwardOn feedForward: Hardware,
  context: Int, assumptions: CostAssumptions = .init()
) throws(CostModelError) -> Double {
  let without = try speculativeCost(
    model, attentionOn: attention, feedForwardOn: feedForward, context: context,
    speculation: .none, assumptions: assumptions)
  let with = try speculativeCost(
    model, attentionOn: attention, feedForwardOn: feedForward, context: context,
    speculation: Speculation(draftCount: 1, acceptance: 0), assumptions: assumptions)
  return with / without - 1
}

/// Expected maximum of `count` standard normals, by Gumbel's limit; 0 for a single one.
package func gumbelMeanOfNormals(count: Int) -> Double {
  guard count > 1 else { return 0 }
  let root = sqrt(2 * log(Double(count)))
  let location = root - (log(log(Double(count))) + log(4 * Double.pi)) / (2 * root)
  let eulerMascheroni = 0.577_215_664_901_532_9
  return location + eulerMascheroni / root
}

/// Load of the busiest of `groupCount` expert groups over the mean, under even routing.
package func statisticalImbalance(groupCount: Int, meanTokensPerGroup: Double) -> Double {
  guard groupCount > 1, meanTokensPerGroup > 0 else { return 1 }
  let spread = sqrt((1 - 1 / Double(groupCount)) / meanTokensPerGroup)
  return 1 + gumbelMeanOfNormals(count: groupCount) * spread
}

/// The sparsest MoE a network lets run compute-bound: H x roofline x layers x bytes / (2 Net t).
///
/// - Parameters:
///   - stage: seconds all layers together may spend in one stage, 50/3 ms in the report.
///   - bytesPerElement: 3 for FP8 out and BF16 back over a shared link, 2 with full duplex.
package func minimumSparsity(
  hidden: Int, layers: Int, roofline: Double, serverNetwork: Double, stage: Double,
  bytesPerElement: Double = 3
) -> Double {
  Double(hidden) * roofline * Double(layers) * bytesPerElement / (2 * serverNetwork * stage)
}

/// What one device can carry inside one stage of one layer: the rule of Section 6 of the report.
package struct StageBudget: Equatable, Sendable {
  /// Bytes a device reads in the stage at its peak bandwidth.
  package let readableByteCount: Double
  /// Bytes of the projections it must read; the output projection is split over the server.
  package let linearByteCount: Double
  /// Cached tokens a device can attend to in one stage.
  package let kvTokenCount: Double
  /// Feed-forward bytes a device reads in the stage at half its bandwidth.
  package let feedForwardByteCount: Double
  /// Devices for 300 GB of feed-forward weights, and the same in servers of eight.
  package let feedForwardDeviceCount: Int
  package let feedForwardServerCount: Int

  package init(
    _ model: ModelArchitecture, on hardware: Hardware, stage: Double,
    feedForwardWeights: Double = 300e9, devicesPerServer: Int = 8
  ) {
    readableByteCount = hardware.bandwidth * stage
    let group = model.attention[0]
    let hidden = model.hiddenDimension
    let output: Double
    switch group.shape {
    case .multiMatrix(let heads, let dimension, _), .grouped(let heads, _, let dimension):
      output = Double(heads * dimension * hidden)
    case .latent(let heads, _, _, _, _, let value): output = Double(heads * value * hidden)
    case .lightning(let heads, let dimension): output = Double(heads * dimension * hidden)
    }
    let linear = group.shape.linearParameterCount(hidden: hidden)
    linearByteCount = linear - output + output / Double(devicesPerServer)
    let perToken = group.shape.storedElementCount * group.storageByteCount
    kvTokenCount = max(0, readableByteCount - linearByteCount) / perToken
    feedForwardByteCount = readableByteCount * 0.5
    let perDevice = feedForwardByteCount * Double(model.layerCount)
    feedForwardDeviceCount = Int((feedForwardWeights / perDevice).rounded(.up))
    feedForwardServerCount = Int(
      (feedForwardWeights / (perDevice * Double(devicesPerServer))).rounded(.up))
  }
}
