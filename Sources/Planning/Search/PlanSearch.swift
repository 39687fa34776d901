package import CostModel

// The search behind `step3 plan`. For a pair of devices, a number of micro-batches and y
// feed-forward servers, time per token grows with the micro-batch B, so the largest B is found by
// bisection; for each B below it the smallest x that meets time and memory follows likewise.
// Everything is tried on a grid of tiles: a pair takes about a millisecond, so no optimiser is
// needed and no better corner is missed.

/// Finds the cheapest deployment of one pair of devices.
struct PairSearch {
  private let pair: PreparedPipeline
  private let request: PlanRequest
  private let attentionPrice: Double
  private let feedForwardPrice: Double
  private let kvPerSequence: Double
  private let attentionRoom: Double
  private let leastFeedForwardServers: Int

  /// nil where a price is missing or the weights fit on no allowed number of servers.
  init?(_ request: PlanRequest, pipeline: PipelineModel, attention: Hardware, feedForward: Hardware)
  {
    let level = request.assumptions.priceLevel
    guard let attentionPrice = try? attention.hourlyPrice(level),
      let feedForwardPrice = try? feedForward.hourlyPrice(level)
    else { return nil }
    self.request = request
    pair = pipeline.prepared(attention: attention, feedForward: feedForward)
    self.attentionPrice = attentionPrice * Double(attention.devicesPerServer)
    self.feedForwardPrice = feedForwardPrice * Double(feedForward.devicesPerServer)
    kvPerSequence = pipeline.sequenceKVByteCount
    attentionRoom =
      (request.assumptions.usableMemory * attention.memoryByteCount
        - pipeline.attentionWeightByteCount) * Double(attention.devicesPerServer)
    let room = request.assumptions.usableMemory * feedForward.memoryByteCount
    let devices = (pipeline.feedForwardMemory(devices: 1) / room).rounded(.up)
    leastFeedForwardServers = max(
      1, Int((devices / Double(feedForward.devicesPerServer)).rounded(.up)))
    guard attentionRoom > 0, leastFeedForwardServers <= request.serverLimit else { return nil }
  }

  private func time(_ x: Int, _ y: Int, _ m: Int, _ tokens: Int) -> Double {
    pair.timePerOutputToken(
      attentionServers: x, feedForwardServers: y, microBatches: m, tokens: tokens)
  }

  /// The cheapest deployment that meets the limit, or nil.
  func best() -> PlannedDeployment? {
    var best: (price: Double, x: Int, y: Int, m: Int, tokens: Int)?
    for m in request.microBatchCounts {
      var stagnant = 0
      for y in leastFeedForwardServers...request.serverLimit {
        let before = best?.price ?? .infinity
        consider(y: y, m: m, best: &best)
        // More servers than the best needs only add price; four in vain are enough.
        stagnant = (best?.price ?? .infinity) < before ? 0 : stagnant + 1
        if best != nil, stagnant >= 4 { break }
        if best == nil, stagnant >= 24 { break }
      }
    }
    guard let best else { return nil }
    let deployment = Deployment(
      attentionHardware: pair.attentionHardware, feedForwardHardware: pair.feedForwardHardware,
      attentionServers: best.x, feedForwardServers: best.y, microBatchCount: best.m,
      microBatchTokens: best.tokens)
    return PlannedDeployment(deployment: deployment, estimate: pair.estimate(deployment))
  }

  private func consider(
    y: Int, m: Int, best: inout (price: Double, x: Int, y: Int, m: Int, tokens: Int)?
  ) {
    let most = request.tokenLimit / request.tile
    let ceiling = largest(upTo: most) { tiles in
      time(request.serverLimit, y, m, tiles * request.tile) <= request.limit
    }
    guard ceiling > 0 else { return }
    for tiles in stride(from: ceiling, through: 1, by: -1) {
      let tokens = tiles * request.tile
      // Price if attention were free: nothing smaller can win any more.
      let floor = feedForwardPrice * Double(y) * time(request.serverLimit, y, m, tokens)
      if let best, 1e6 * floor / 3600 / Double(m * tokens) >= best.price { continue }
      let needed = kvPerSequence * Double(m * tokens) / attentionRoom
      guard needed <= Double(request.serverLimit) else { continue }
      let least = max(1, Int(needed.rounded(.up)))
      guard let x = smallest(from: least, { time($0, y, m, tokens) <= request.limit }) else {
        continue
      }
      for servers in x...min(x + 1, request.serverLimit) {
        let step = time(servers, y, m, tokens)
        let hourly = attentionPrice * Double(servers) + feedForwardPrice * Double(y)
        let price = 1e6 * hourly * step / 3600 / Double(m * tokens)
        if price < best?.price ?? .infinity { best = (price, servers, y, m, tokens) }
      }
    }
  }

  private func largest(upTo most: Int, _ holds: (Int) -> Bool) -> Int {
    guard most > 0, holds(1) else { return 0 }
    var low = 1
    var high = most + 1
    while high - low > 1 {
      let middle = (low + high) / 2
      if holds(middle) { low = middle } else { high = middle }
    }
    return low
  }

  private func smallest(from least: Int, _ holds: (Int) -> Bool) -> Int? {
    guard least <= request.serverLimit, holds(request.serverLimit) else { return nil }
    var low = least - 1
    var high = request.serverLimit
    while high - low > 1 {
      let middle = (low + high) / 2
      if holds(middle) { high = middle } else { low = middle }
    }
    return high
  }
}

/// Everything a search found.
package struct PlanResult: Sendable {
  /// What was asked.
  package let request: PlanRequest
  /// The cheapest deployment of each pair of devices, cheapest first.
  package let pairs: [PlannedDeployment]
  /// The cheapest expert-parallel deployment of each device, cheapest first.
  package let baselines: [PlannedBaseline]
  /// Devices that could not take part, and why.
  package let exclusions: [String]

  /// The answer, where there is one.
  package var best: PlannedDeployment? { pairs.first }

  /// Searches every pair of devices.
  package init(_ request: PlanRequest) throws(CostModelError) {
    let pipeline = try request.pipeline()
    var pairs: [PlannedDeployment] = []
    for attention in request.attentionHardware {
      for feedForward in request.feedForwardHardware {
        let search = PairSearch(
          request, pipeline: pipeline, attention: attention, feedForward: feedForward)
        if let found = search?.best() { pairs.append(found) }
      }
    }
    var baselines: [PlannedBaseline] = []
    var names: [String] = []
    for device in request.attentionHardware + request.feedForwardHardware {
      guard !names.contains(device.name) else { continue }
      names.append(device.name)
      if let found = BaselineSearch(request, pipeline: pipeline).best(device) {
        baselines.append(found)
      }
    }
    self.request = request
    self.pairs = pairs.sorted { $0.price < $1.price }
    self.baselines = baselines.sorted { $0.price < $1.price }
    exclusions = Self.exclusions(request, pipeline: pipeline)
  }

  private static func exclusions(_ request: PlanRequest, pipeline: PipelineModel) -> [String] {
    var notes: [String] = []
    let weights = pipeline.attentionWeightByteCount
    for device in request.attentionHardware {
      let room = request.assumptions.usableMemory * device.memoryByteCount
      if device.price == nil { notes.append("\(device.name): no price is known (--price)") }
      if weights > room {
        notes.append(
          "\(device.name) for attention: projections and embeddings of "
            + "\(fixedText(weights / 1e9, decimals: 1)) GB do not fit in "
            + "\(fixedText(room / 1e9, decimals: 1)) GB")
      }
    }
    return notes
  }
}

/// Finds the cheapest expert-parallel deployment of one kind of device.
struct BaselineSearch {
  private let request: PlanRequest
  private let pipeline: PipelineModel

  init(_ request: PlanRequest, pipeline: PipelineModel) {
    self.request = request
    self.pipeline = pipeline
  }

  func best(_ device: Hardware) -> PlannedBaseline? {
    guard device.price != nil else { return nil }
    var best: PlannedBaseline?
    let experts = request.model.feedForward.map(\.expertCount).max() ?? 0
    let most = max(8, min(384, experts))
    for devices in stride(from: device.devicesPerServer, through: most, by: device.devicesPerServer)
    {
      // Whole experts only: more devices with the same number of experts each change nothing.
      guard let found = largestBatch(device, devices: devices) else { continue }
      if found.price < best?.price ?? .infinity { best = found }
    }
    return best
  }

  private func largestBatch(_ device: Hardware, devices: Int) -> PlannedBaseline? {
    func estimate(_ batch: Int) -> ExpertParallelEstimate {
      pipeline.estimate(
        ExpertParallelDeployment(hardware: device, deviceCount: devices, batchPerDevice: batch))
    }
    func holds(_ batch: Int) -> Bool {
      let estimate = estimate(batch)
      return estimate.fits && estimate.timePerOutputToken <= request.limit
    }
    guard holds(2) else { return nil }
    var low = 1
    var high = 2048
    while high - low > 1 {
      let middle = (low + high) / 2
      if holds(2 * middle) { low = middle } else { high = middle }
    }
    return PlannedBaseline(
      deployment: ExpertParallelDeployment(
        hardware: device, deviceCount: devices, batchPerDevice: 2 * low),
      estimate: estimate(2 * low))
  }
}
