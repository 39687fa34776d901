import CostModel
import Simulation
import Testing

@Suite("Simulator")
struct SimulatorTests {
  private let deployment: Deployment
  private let pipeline: PipelineModel

  init() throws {
    let h100 = try HardwareCatalogue.builtIn().hardware(named: "h100")
    deployment = Deployment(
      attentionHardware: h100, feedForwardHardware: h100, attentionServers: 2,
      feedForwardServers: 2, microBatchCount: 3, microBatchTokens: 96)
    pipeline = try PipelineModel(
      ModelCatalogue.builtIn().model(named: "step3"), context: 4096,
      efficiencies: Efficiencies.builtIn(), assumptions: TimingAssumptions())
  }

  private func run(
    _ workload: Workload, deployment: Deployment? = nil,
    _ change: (inout SimulationOptions) -> Void
  ) throws -> SimulationResult {
    var options = SimulationOptions()
    options.duration = 120
    options.hasExpertNoise = false
    change(&options)
    let system = try SimulatedSystem(
      .disaggregated(deployment ?? self.deployment), pipeline: pipeline)
    return try Simulator(system, workload: workload, limit: 0.05, options: options).run()
  }

  private func random(_ rate: Double, variation: Double = 0.7) throws -> Workload {
    .random(
      requestsPerSecond: rate,
      prompt: try LengthDistribution(mean: 3600, variation: variation, limit: 20_000),
      output: try LengthDistribution(mean: 200, variation: variation, limit: 1000), swing: 0)
  }

  @Test("equal seeds give equal results, other seeds other ones")
  func deterministic() throws {
    let workload = try random(20)
    let first = try run(workload) { $0.jitter = 0.05 }
    let again = try run(workload) { $0.jitter = 0.05 }
    let other = try run(workload) {
      $0.jitter = 0.05
      $0.seed = 2
    }
    #expect(first.document == again.document)
    #expect(first.document != other.document)
  }

  @Test("counting servers and the real scheduler agree, under light load and at the limit")
  func fidelities() throws {
    for rate in [15.0, 40, 80] {
      let workload = try random(rate)
      let exact = try run(workload) { $0.fidelity = .scheduler }
      let counted = try run(workload) { $0.fidelity = .counting }
      #expect(exact.fidelity == .scheduler && counted.fidelity == .counting)
      #expect(isNear(counted.throughput.mean, exact.throughput.mean, 0.03), "\(rate)")
      #expect(isNear(counted.timePerOutputToken.mean, exact.timePerOutputToken.mean, 0.03))
      #expect(isNear(counted.cacheUsage.mean, exact.cacheUsage.mean, 0.05))
    }
  }

  @Test("a saturated quiet run reaches what the time model says of its load")
  func saturated() throws {
    let requests = (0..<4000).map { _ in
      SimulatedRequest(arrival: 0, promptCount: 3996, outputCount: 200)
    }
    let result = try run(.trace(requests)) {
      $0.fidelity = .scheduler
      $0.duration = 60
    }
    let estimate = pipeline.estimate(deployment)
    #expect(isNear(result.throughput.mean, estimate.throughput, 0.02))
    #expect(isNear(result.timePerOutputToken.mean, estimate.timePerOutputToken, 0.02))
    #expect(isNear(result.runningSequences.mean, 288, 0.01))
  }

  @Test("an expert-parallel system reaches what its time model says, and every request ends")
  func expertParallel() throws {
    let h100 = try HardwareCatalogue.builtIn().hardware(named: "h100")
    let deployment = ExpertParallelDeployment(
      hardware: h100, deviceCount: 16, batchPerDevice: 32)
    let system = try SimulatedSystem(.expertParallel(deployment), pipeline: pipeline)
    var options = SimulationOptions()
    options.hasExpertNoise = false
    options.duration = 60
    let requests = (0..<6000).map { _ in
      SimulatedRequest(arrival: 0, promptCount: 3996, outputCount: 200)
    }
    for fidelity in [SimulationOptions.Fidelity.scheduler, .counting] {
      options.fidelity = fidelity
      let result = try Simulator(
        system, workload: .trace(requests), limit: 0.05, options: options
      ).run()
      let estimate = pipeline.estimate(deployment)
      #expect(isNear(result.throughput.mean, estimate.throughputPerDevice * 16, 0.03))
      #expect(isNear(result.timePerOutputToken.mean, estimate.timePerOutputToken, 0.03))
    }
    let few = requests.prefix(300)
    options.duration = 200
    let result = try Simulator(
      system, workload: .trace(Array(few)), limit: 0.05, options: options
    ).run()
    #expect(result.finishedCount == 300)
  }

  @Test("jitter, stragglers and failures cost time, and every request still ends")
  func trouble() throws {
    let workload = try random(40)
    let quiet = try run(workload) { $0.fidelity = .counting }
    let noisy = try run(workload) {
      $0.fidelity = .counting
      $0.jitter = 0.2
    }
    let straggling = try run(workload) {
      $0.fidelity = .counting
      $0.stragglers = [(0, 2)]
    }
    #expect(noisy.timePerOutputToken.mean > quiet.timePerOutputToken.mean)
    #expect(straggling.timePerOutputToken.mean > quiet.timePerOutputToken.mean * 1.3)
    for fidelity in [SimulationOptions.Fidelity.scheduler, .counting] {
      let requests = (0..<400).map {
        SimulatedRequest(arrival: Double($0) * 0.05, promptCount: 1000, outputCount: 100)
      }
      let failing = try run(.trace(requests)) {
        $0.fidelity = fidelity
        $0.failuresPerServerDay = 4000
        $0.recovery = 1
      }
      #expect(failing.failureCount > 0)
      #expect(failing.finishedCount == 400, "\(fidelity)")
    }
  }

  @Test("a confidence interval shrinks with the length of the run")
  func confidence() throws {
    let short = try run(random(40)) { $0.fidelity = .counting }
    let long = try run(random(40)) {
      $0.fidelity = .counting
      $0.duration = 4000
    }
    #expect(long.throughput.halfWidth < short.throughput.halfWidth)
    #expect(long.throughput.halfWidth > 0)
    #expect(abs(long.throughput.mean - 40 * 200) < 4 * long.throughput.halfWidth + 200)
  }

  @Test("impossible requests and traces are refused with place and fact")
  func refusals() throws {
    let trace = "{\"arrival\": 0, \"prompt_tokens\": 10, \"output_tokens\": 5}\nnonsense\n"
    #expect(throws: SimulationError.self) { try Workload.trace(parsing: trace, file: "t.jsonl") }
    do {
      _ = try Workload.trace(parsing: "{\"arrival\": 0, \"prompt_tokens\": 10}", file: "t.jsonl")
    } catch {
      #expect(error.description == "t.jsonl, line 1: \"output_tokens\" is missing")
    }
    #expect(throws: SimulationError.emptyTrace(file: "t.jsonl")) {
      try Workload.trace(parsing: "\n", file: "t.jsonl")
    }
    let huge = Workload.trace([
      SimulatedRequest(arrival: 0, promptCount: 900_000_000, outputCount: 5)
    ])
    #expect(throws: SimulationError.self) { try run(huge) { _ in } }
    #expect(throws: SimulationError.self) { try run(random(-1)) { _ in } }
  }

  @Test("event by event the pipeline has the formula's period, or more on a shared link")
  func timeline() throws {
    for (count, tokens) in [(3, 2048), (2, 1024), (4, 512), (1, 256)] {
      var deployment = deployment
      deployment.microBatchCount = count
      deployment.microBatchTokens = tokens
      let timing = try #require(pipeline.estimate(deployment).layers.first { $0.isMoE })
      let layers = [LayerTiming](repeating: timing, count: 60)
      let free = PipelineTimeline(layers: layers, microBatches: count, duplex: .full)
      #expect(isNear(free.steadyPeriod, timing.period, 0.01), "\(count)")
      #expect(free.spans.count == 60 * count * 4)
      // Out and back take turns on one link, so a micro-batch may wait where the formula sees none.
      let shared = PipelineTimeline(layers: layers, microBatches: count, duplex: .half)
      #expect(shared.steadyPeriod >= timing.period * 0.99)
      #expect(shared.steadyPeriod <= timing.period * 1.12)
    }
  }

  private func isNear(_ value: Double, _ expected: Double, _ share: Double) -> Bool {
    abs(value - expected) <= share * abs(expected)
  }
}
