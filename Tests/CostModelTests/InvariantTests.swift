import CostModel
import Testing

/// A small reproducible source of random numbers; a failing seed is printed by the test.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

@Suite("Invariants of the cost model")
struct InvariantTests {
  private let models: [ModelArchitecture]
  private let devices: [Hardware]

  init() throws {
    models = try ModelCatalogue.builtIn().models
    devices = try HardwareCatalogue.builtIn().entries.filter { $0.price != nil }
  }

  @Test("cost grows with context and price, and doubles with all prices", arguments: 0..<200)
  func monotone(seed: UInt64) throws {
    var random = SplitMix(state: seed)
    let model = try #require(models.randomElement(using: &random))
    let device = try #require(devices.randomElement(using: &random))
    let context = Int.random(in: 1...100_000, using: &random)
    let more = context + Int.random(in: 1...30_000, using: &random)
    let cost = try DecodingCost(model, on: device, context: context)
    #expect(try DecodingCost(model, on: device, context: more).total >= cost.total)
    let price = try device.hourlyPrice(.mid)
    let doubled = device.priced(at: 2 * price, date: "test")
    let twice = try DecodingCost(model, on: doubled, context: context)
    #expect(isClose(twice.total, 2 * cost.total, 1e-12))
    let dearer = device.priced(at: 1.01 * price, date: "test")
    #expect(try DecodingCost(model, on: dearer, context: context).total > cost.total)
  }

  @Test("a pair is never dearer than one device, nor cheaper with fewer", arguments: 0..<200)
  func pairs(seed: UInt64) throws {
    var random = SplitMix(state: seed)
    let model = try #require(models.randomElement(using: &random))
    let context = Int.random(in: 1...131_072, using: &random)
    let chosen = devices.filter { _ in Bool.random(using: &random) } + [devices[0]]
    let pair = try DisaggregatedCost(model, among: chosen, context: context)
    for device in chosen {
      let alone = try DecodingCost(model, on: device, context: context)
      #expect(pair.total <= alone.total)
    }
    let fewer = Array(chosen.dropFirst())
    if !fewer.isEmpty {
      #expect(try DisaggregatedCost(model, among: fewer, context: context).total >= pair.total)
    }
  }

  @Test("the time model never beats the theoretical price", arguments: 0..<300)
  func lowerBound(seed: UInt64) throws {
    var random = SplitMix(state: seed)
    let model = try #require(models.randomElement(using: &random))
    let attention = try #require(devices.randomElement(using: &random))
    let feedForward = try #require(devices.randomElement(using: &random))
    let context = Int.random(in: 256...65_536, using: &random)
    var efficiencies = try Efficiencies.ideal()
    efficiencies.scale = Double.random(in: 0.3...1, using: &random)
    let pipeline = try PipelineModel(
      model, context: context, efficiencies: efficiencies, assumptions: TimingAssumptions())
    let estimate = pipeline.estimate(
      Deployment(
        attentionHardware: attention, feedForwardHardware: feedForward,
        attentionServers: Int.random(in: 1...16, using: &random),
        feedForwardServers: Int.random(in: 1...8, using: &random),
        microBatchCount: Int.random(in: 1...5, using: &random),
        microBatchTokens: 64 * Int.random(in: 1...64, using: &random)))
    var exact = CostAssumptions()
    exact.operationCount = .exact
    let bound =
      try DecodingCost(model, on: attention, context: context, assumptions: exact).attention
      + DecodingCost(model, on: feedForward, context: context, assumptions: exact).feedForward
    let price = try #require(estimate.usdPerMillionTokens)
    // BF16 caches compute in BF16 here, where the price table takes the 8-bit peak throughout.
    #expect(price >= bound * (1 - 1e-9))
  }

  @Test("time per token grows with the micro-batch, and falls with servers", arguments: 0..<100)
  func pipelineMonotone(seed: UInt64) throws {
    var random = SplitMix(state: seed)
    let model = try #require(models.randomElement(using: &random))
    let device = try #require(devices.randomElement(using: &random))
    let pipeline = try PipelineModel(
      model, context: 8192, efficiencies: .builtIn(), assumptions: TimingAssumptions())
    var deployment = Deployment(
      attentionHardware: device, feedForwardHardware: device,
      attentionServers: Int.random(in: 1...8, using: &random),
      feedForwardServers: Int.random(in: 1...8, using: &random), microBatchCount: 3,
      microBatchTokens: 128 * Int.random(in: 1...30, using: &random))
    let base = pipeline.estimate(deployment).timePerOutputToken
    deployment.microBatchTokens += 128
    #expect(pipeline.estimate(deployment).timePerOutputToken >= base)
    #expect(
      minimumSparsity(
        hidden: 7168, layers: 61, roofline: 591, serverNetwork: 400e9, stage: 0.0166)
        > minimumSparsity(
          hidden: 7168, layers: 61, roofline: 591, serverNetwork: 800e9, stage: 0.0166))
  }

  @Test("4K on x servers and 8K on twice as many share attention time and KV per device")
  func bookkeeping() throws {
    let catalogue = try ModelCatalogue.builtIn()
    let h100 = try HardwareCatalogue.builtIn().hardware(named: "h100")
    func estimate(_ context: Int, _ servers: Int) throws -> (Double, Double) {
      let pipeline = try PipelineModel(
        catalogue.model(named: "step3"), context: context, efficiencies: .builtIn(),
        assumptions: TimingAssumptions())
      let estimate = pipeline.estimate(
        Deployment(
          attentionHardware: h100, feedForwardHardware: h100, attentionServers: servers,
          feedForwardServers: 2, microBatchCount: 3, microBatchTokens: 2048))
      return (estimate.layers[0].attention.total, estimate.attentionMemory)
    }
    let short = try estimate(4096, 2)
    let long = try estimate(8192, 4)
    #expect(isClose(short.0, long.0, 1e-12))
    #expect(isClose(short.1, long.1, 1e-12))
    // 3A4F with three micro-batches of 3,072 at exactly 50 ms.
    #expect(isClose(9216 / 0.05 / 56, 3291.43, 1e-5))
  }
}
