/// What the price model takes for granted; every switch of the report's reading.
package struct CostAssumptions: Equatable, Sendable {
  /// Count of MLA (and lightning) FLOPs.
  package var operationCount: OperationCount = .report
  /// Compute in INT8 where a device has no FP8.
  package var usesInt8: Bool = false
  /// KV bytes relative to the catalogue's storage: 0.5 stands for 4-bit KV with 8-bit compute.
  package var kvScale: Double = 1
  /// Tokens per feed-forward batch; nil assumes compute-bound experts, as the report does.
  package var feedForwardBatch: Double?
  package var priceLevel: PriceLevel = .mid

  package init() {}
}

/// USD per FLOP and per byte of one fully used device.
package struct UnitPrice: Equatable, Sendable {
  /// USD of one FLOP and of one byte.
  package let flop: Double
  package let byte: Double

  package init(
    _ hardware: Hardware, assumptions: CostAssumptions
  ) throws(CostModelError) {
    let second = try hardware.hourlyPrice(assumptions.priceLevel) / 3600
    flop = second / hardware.eightBitPeak(usingInt8: assumptions.usesInt8)
    byte = second / hardware.bandwidth
  }
}

/// What one decoded token moves and computes; independent of hardware.
package struct TokenWork: Equatable, Sendable {
  /// Bytes and FLOPs per token, all layers.
  package let kvByteCount: Double
  package let attentionFlops: Double
  package let linearFlops: Double
  package let feedForwardFlops: Double

  package init(
    _ model: ModelArchitecture, context: Int, assumptions: CostAssumptions = .init()
  ) throws(CostModelError) {
    try model.validate(context: context)
    kvByteCount = model.kvByteCount(context: Double(context)) * assumptions.kvScale
    attentionFlops = model.attentionFlops(
      context: Double(context), count: assumptions.operationCount)
    linearFlops = model.linearFlops
    feedForwardFlops = model.feedForwardFlops
  }
}

/// Theoretical USD per million decoded tokens on one kind of device: a lower bound.
package struct DecodingCost: Equatable, Sendable {
  /// What was computed: names, context and, for one device, the work.
  package let model: String
  package let hardware: String
  package let context: Int
  package let work: TokenWork
  /// Attention core and the projections around it.
  package let attention: Double
  package let feedForward: Double

  /// USD per million tokens of both halves.
  package var total: Double { attention + feedForward }

  package init(
    _ model: ModelArchitecture, on hardware: Hardware, context: Int,
    assumptions: CostAssumptions = .init()
  ) throws(CostModelError) {
    let price = try UnitPrice(hardware, assumptions: assumptions)
    let work = try TokenWork(model, context: context, assumptions: assumptions)
    self.model = model.name
    self.hardware = hardware.name
    self.context = context
    self.work = work
    let core = max(work.attentionFlops * price.flop, work.kvByteCount * price.byte)
    attention = 1e6 * (core + work.linearFlops * price.flop)
    feedForward =
      1e6
      * Self.feedForwardPrice(model, price: price, batch: assumptions.feedForwardBatch)
  }

  /// USD per token of the feed-forward layers.
  ///
  /// With a batch, each layer pays for the longer of its FLOPs and of its weight bytes (one per
  /// parameter) spread over the batch; without one it is compute-bound.
  private static func feedForwardPrice(
    _ model: ModelArchitecture, price: UnitPrice, batch: Double?
  ) -> Double {
    guard let batch else { return model.feedForwardFlops * price.flop }
    let hidden = model.hiddenDimension
    return model.feedForward.reduce(0) { sum, group in
      let flops = 2 * group.activeParameterCount(hidden: hidden) * price.flop
      let bytes =
        group.touchedParameterCount(hidden: hidden, tokens: batch) / batch * price.byte
      return sum + Double(group.layerCount) * max(flops, bytes)
    }
  }
}

/// The cheapest pair of attention and feed-forward hardware; communication is taken as free.
package struct DisaggregatedCost: Equatable, Sendable {
  /// What was computed: names, context and, for one device, the work.
  package let model: String
  package let context: Int
  package let attention: DecodingCost
  package let feedForward: DecodingCost

  /// USD per million tokens of both halves.
  package var total: Double { attention.attention + feedForward.feedForward }

  package init(
    _ model: ModelArchitecture, among hardware: [Hardware], context: Int,
    assumptions: CostAssumptions = .init()
  ) throws(CostModelError) {
    var attention: DecodingCost?
    var feedForward: DecodingCost?
    for device in hardware where device.price != nil {
      let cost = try DecodingCost(model, on: device, context: context, assumptions: assumptions)
      if cost.attention < attention?.attention ?? .infinity { attention = cost }
      if cost.feedForward < feedForward?.feedForward ?? .infinity { feedForward = cost }
    }
    guard let attention, let feedForward else {
      throw .noPrice(hardware: hardware.map(\.name).joined(separator: ", "))
    }
    self.model = model.name
    self.context = context
    self.attention = attention
    self.feedForward = feedForward
  }
}
