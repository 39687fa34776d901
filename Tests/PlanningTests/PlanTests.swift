import ClusterControl
import CostModel
import JSONScanning
import Planning
import Testing

@Suite("Planner")
struct PlanTests {
  private let models: ModelCatalogue
  private let hardware: HardwareCatalogue

  init() throws {
    models = try ModelCatalogue.builtIn()
    var hardware = try HardwareCatalogue.builtIn()
    // The prices of the reference plans.
    for (name, price) in [("h100", 2.0), ("h20", 0.8), ("h200", 3.0)] {
      hardware.replace(try hardware.hardware(named: name).priced(at: price, date: "test"))
    }
    self.hardware = hardware
  }

  private func request(
    _ model: String = "step3", attention: [String], feedForward: [String]? = nil, context: Int,
    limit: Double = 0.05
  ) throws -> PlanRequest {
    var request = PlanRequest(
      model: try models.model(named: model), context: context,
      hardware: try attention.map { try hardware.hardware(named: $0) }, limit: limit,
      efficiencies: try Efficiencies.builtIn())
    if let feedForward {
      request.feedForwardHardware = try feedForward.map { try hardware.hardware(named: $0) }
    }
    return request
  }

  @Test(
    "the reference plans with H100 FFN servers: layout, micro-batch and price",
    arguments: [
      ("h100", 4096, "2A2F", 2176, 0.134), ("h20", 4096, "4A2F", 2176, 0.122),
      ("h200", 4096, "1A2F", 1920, 0.130), ("h100", 8192, "3A2F", 1792, 0.184),
      ("h20", 8192, "5A2F", 2048, 0.140), ("h200", 8192, "2A3F", 2304, 0.168),
      ("h100", 32_768, "13A3F", 1920, 0.472), ("h20", 32_768, "15A2F", 2048, 0.281),
      ("h200", 32_768, "6A2F", 1792, 0.409),
    ])
  func referencePlans(
    attention: String, context: Int, label: String, tokens: Int, price: Double
  ) throws {
    let result = try PlanResult(
      request(attention: [attention], feedForward: ["h100"], context: context))
    let best = try #require(result.best)
    #expect(best.deployment.label == label)
    #expect(best.deployment.microBatchTokens == tokens)
    #expect(abs(best.price - price) < 0.0007)
    #expect(best.estimate.timePerOutputToken <= 0.05)
    #expect(best.estimate.fits)
  }

  @Test("a plan names its binding constraint, a runner-up, sensitivities and an error bar")
  func explanation() throws {
    let result = try PlanResult(request(attention: ["h100", "h20"], context: 4096))
    let document = try #require(try PlanDocument(result))
    #expect(document.explanation.binding == .feedForwardTime)
    #expect(document.explanation.utilisation.count == Constraint.allCases.count)
    #expect(result.pairs.count >= 2)
    #expect(document.explanation.sensitivities.contains { $0.contains("dearer") })
    #expect(document.explanation.errorBar == 0.12)
    #expect(!result.baselines.isEmpty)
    #expect(document.text.contains("H20") || document.text.contains("h20"))
  }

  @Test("devices without a measurement and unusual contexts are warned about")
  func warnings() throws {
    let result = try PlanResult(request(attention: ["l40s", "b200"], context: 65_536))
    let document = try #require(try PlanDocument(result))
    #expect(document.explanation.warnings.contains { $0.contains("no measurement") })
    #expect(document.explanation.warnings.contains { $0.contains("4K to 32K") })
    #expect(document.explanation.errorBar > 0.3)
  }

  @Test("an impossible limit is answered with the reason")
  func impossible() throws {
    let result = try PlanResult(request(attention: ["h100"], context: 4096, limit: 0.001))
    #expect(result.best == nil)
    #expect(try PlanDocument(result) == nil)
    #expect(try result.impossibility().hasPrefix("not possible, because even 128 tokens"))
    #expect(throws: CostModelError.self) {
      try PlanResult(request(attention: ["h100"], context: 4096, limit: -1))
    }
  }

  @Test("a plan file reads back to the same deployment and the same prediction")
  func planFile() throws {
    let result = try PlanResult(request("dsv3", attention: ["h800"], context: 4096))
    let document = try #require(try PlanDocument(result))
    let text = document.document.documentText
    let file = try PlanFile(
      document: JSONValue(document: Array(text.utf8), file: "plan.json"), file: "plan.json")
    guard case .disaggregated(let deployment) = file.layout else {
      Issue.record("wrong layout")
      return
    }
    let best = try #require(result.best)
    #expect(deployment.label == best.deployment.label)
    #expect(file.model.parameterCount == result.request.model.parameterCount)
    let pipeline = try PipelineModel(
      file.model, context: file.context, efficiencies: .builtIn(), assumptions: file.assumptions)
    let again = pipeline.estimate(deployment)
    #expect(again.stepTime == best.estimate.stepTime)
    #expect(throws: CostModelError.self) {
      try PlanFile(document: JSONValue(parsing: #"{"format": "other"}"#), file: "plan.json")
    }
  }

  @Test("expert parallelism has a plan of its own, which reads back and says what binds")
  func baselinePlan() throws {
    let result = try PlanResult(request("dsv3", attention: ["h100"], context: 4096))
    let document = try #require(try BaselineDocument(result))
    let text = document.document.documentText
    let file = try PlanFile(
      document: JSONValue(document: Array(text.utf8), file: "plan.json"), file: "plan.json")
    guard case .expertParallel(let deployment) = file.layout else {
      Issue.record("wrong layout")
      return
    }
    let best = try #require(result.baselines.first)
    #expect(deployment.label == best.deployment.label)
    #expect(deployment.batchPerDevice == best.deployment.batchPerDevice)
    #expect(best.estimate.timePerOutputToken <= 0.05 && best.estimate.fits)
    #expect(document.text.hasPrefix(deployment.label) && !document.bindingReason.isEmpty)
    // One more pair of sequences breaks what is named.
    var larger = deployment
    larger.batchPerDevice += 2
    let estimate = try result.request.pipeline().estimate(larger)
    #expect(!estimate.fits || estimate.timePerOutputToken > 0.05)
  }

  @Test("a plan says whether disaggregation pays, by the prices it lists")
  func verdict() throws {
    let result = try PlanResult(request(attention: ["h100", "h20"], context: 32_768))
    let split = try #require(result.best).price
    let whole = try #require(result.baselines.first).price
    let verdict = try #require(result.verdict)
    #expect(verdict.hasPrefix(split < whole ? "pays" : "does not pay"))
    let document = try #require(try PlanDocument(result))
    #expect(document.text.contains(verdict))
  }

  @Test("draft tokens pay where they are accepted often enough, and nowhere else")
  func drafts() throws {
    func price(_ drafts: Int, _ acceptance: Double) throws -> Double {
      var request = try request(attention: ["h100"], context: 8192)
      request.assumptions.speculation = try Speculation(
        draftCount: drafts, acceptance: acceptance)
      let best = try #require(try PlanResult(request).best)
      #expect(best.estimate.timePerOutputToken <= 0.05)
      #expect(abs(best.estimate.tokensPerStep - (drafts == 0 ? 1 : 1 + acceptance)) < 1e-12)
      return best.price
    }
    let without = try price(0, 0)
    let hopeless = try price(1, 0)
    let likely = try price(1, 0.9)
    #expect(hopeless > without)
    #expect(likely < hopeless)
    #expect(throws: CostModelError.self) { try Speculation(draftCount: 1, acceptance: 1.5) }
  }

  @Test(
    "a cluster file of a plan is one that nodes accept, with every expert held",
    arguments: [(1, 1), (2, 3), (1, 48), (3, 64), (2, 96)])
  func clusterFile(attention: Int, feedForward: Int) throws {
    let cpu = try hardware.hardware(named: "epyc-genoa")
    let model = try models.model(named: "step3")
    let deployment = Deployment(
      attentionHardware: cpu, feedForwardHardware: cpu, attentionServers: attention,
      feedForwardServers: feedForward, microBatchCount: 3, microBatchTokens: 64)
    let document = try ClusterPlan.document(
      deployment, model: model, hosts: ["one", "two"], keyFile: "cluster.key")
    guard var object = document.object else {
      Issue.record("no object")
      return
    }
    // The key itself lies beside the file.
    object["key_file"] = nil
    object["key"] = .string(String(repeating: "k", count: 32))
    let file = try ClusterFile(.object(object), path: "cluster.json")
    try file.check(expertCount: 48)
    #expect(file.nodes(.attention).count == deployment.attentionDevices)
    #expect(file.nodes(.ffn).count == deployment.feedForwardDevices)
    #expect(file.microBatchCount == 3)
  }

  @Test("more nodes than expert slices are refused with the numbers")
  func tooManyNodes() throws {
    let cpu = try hardware.hardware(named: "epyc-genoa")
    let deployment = Deployment(
      attentionHardware: cpu, feedForwardHardware: cpu, attentionServers: 1,
      feedForwardServers: 193, microBatchCount: 3, microBatchTokens: 64)
    #expect(
      throws: CostModelError.tooManyShards(
        model: "step3", shards: 193 * cpu.devicesPerServer, experts: 48)
    ) {
      try ClusterPlan.document(
        deployment, model: models.model(named: "step3"), hosts: [], keyFile: "cluster.key")
    }
  }

  @Test("more hardware never makes the plan dearer, a looser limit neither", arguments: 0..<12)
  func monotone(seed: Int) throws {
    let names = ["h800", "h20", "a800", "h100", "h200", "l40s"]
    let few = Array(names[(seed % 3)...(seed % 3 + 1)])
    let many = Array(names[(seed % 3)...(seed % 3 + 3)])
    let context = [2048, 4096, 8192, 16_384][seed % 4]
    let small = try PlanResult(request(attention: few, context: context)).best?.price
    let large = try PlanResult(request(attention: many, context: context)).best?.price
    let loose = try PlanResult(request(attention: few, context: context, limit: 0.1)).best?.price
    if let small {
      #expect(try #require(large) <= small * (1 + 1e-12))
      #expect(try #require(loose) <= small * (1 + 1e-12))
    }
  }

  @Test("planned prices stay above the theoretical bound of their devices")
  func lowerBound() throws {
    for model in models.models {
      let result = try PlanResult(request(model.name, attention: ["h800", "h20"], context: 8192))
      for plan in result.pairs {
        let attention = plan.deployment.attentionHardware
        let feedForward = plan.deployment.feedForwardHardware
        var exact = CostAssumptions()
        exact.operationCount = .exact
        let bound =
          try DecodingCost(model, on: attention, context: 8192, assumptions: exact).attention
          + DecodingCost(model, on: feedForward, context: 8192, assumptions: exact).feedForward
        #expect(plan.price >= bound)
      }
    }
  }
}
