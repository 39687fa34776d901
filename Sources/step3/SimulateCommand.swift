import CommandLineInterface
import CostModel
import JSONScanning
import Planning
import Simulation

/// `step3 simulate`: runs traffic through a planned deployment under a virtual clock.
struct SimulateCommand: Command {
  static let specification = CommandSpecification(
    "simulate", abstract: "Run traffic through a planned deployment under a virtual clock.",
    example: "step3 simulate --plan plan.json --load 0.8 --duration 3600",
    flags: [
      .string("plan", "FILE", required: true, help: "a plan of step3 plan --out"),
      .string(
        "trace", "FILE.jsonl", help: "requests: lines of arrival, prompt_tokens, output_tokens"),
      .number("load", "X", default: 0.8, help: "offered load as a share of the planned throughput"),
      .number("requests-per-second", "X", help: "offered load in requests, instead of --load"),
      .number("prompt-mean", "X", help: "mean prompt (default: fills the planned context)"),
      .number("prompt-variation", "X", default: 1, help: "deviation of prompts over their mean"),
      .number("output-mean", "X", default: 800, help: "mean answer in tokens"),
      .number("output-variation", "X", default: 1, help: "deviation of answers over their mean"),
      .number("swing", "X", default: 0, help: "daily swing of the load around its mean, below 1"),
      .number("duration", "SECONDS", help: "seconds of traffic (default: 600, or the trace's)"),
      .number("warm-up", "X", default: 0.1, help: "share of the run left out of the statistics"),
      .integer("seed", default: 1, help: "equal seeds give equal results"),
      .choice(
        "fidelity", SimulationOptions.Fidelity.allCases.map(\.rawValue), default: "auto",
        help: "the server's scheduler step by step, or its rules on counts for long runs"),
      .number("jitter", "X", default: 0.02, help: "deviation of server step times over their mean"),
      .string(
        "straggler", "SERVER=FACTOR", repeated: true,
        help: "an attention server slower by a factor"),
      .toggle("expert-noise", default: true, help: "chance imbalance of expert groups"),
      .number("expert-skew", "X", help: "load of the busiest expert group over the mean"),
      .number("failures-per-day", "X", default: 0, help: "failures per server and day"),
      .number("recovery", "SECONDS", default: 60, help: "until a failed server is back"),
      .number("prefill-rate", "X", help: "tokens per second of separate prefill machines"),
      .string("chart", "FILE.svg", help: "write a timeline of the pipeline"),
      .string("load-chart", "FILE.svg", help: "write load and latency over the run"),
    ])

  static func run(_ arguments: ParsedArguments) throws {
    let path = arguments.string("plan")
    let document = try JSONValue(document: PlanningArguments.bytes(of: path), file: path)
    let plan = try PlanFile(document: document, file: path)
    var assumptions = plan.assumptions
    assumptions.expertSkew = arguments.optionalNumber("expert-skew") ?? assumptions.expertSkew
    let pipeline = try PipelineModel(
      plan.model, context: plan.context, efficiencies: Efficiencies.builtIn(),
      assumptions: assumptions)
    let system = try SimulatedSystem(plan.simulatedLayout, pipeline: pipeline)
    let workload = try workload(arguments, plan: plan, pipeline: pipeline)
    var options = try options(arguments)
    if case .trace(let requests) = workload, arguments.optionalNumber("duration") == nil {
      options.duration = max(60, (requests.last?.arrival ?? 0) + 60)
    }
    let simulator = try Simulator(
      system, workload: workload, limit: plan.limit, options: options)
    let result = try simulator.run()
    let summary = SimulationSummary(result, plan: plan, pipeline: pipeline)
    StandardOutput.write(
      arguments.string("format") == "json" ? result.document.documentText : summary.text)
    if let path = arguments.optionalString("load-chart") {
      try PlanningArguments.write(summary.loadChart.svg, to: path)
    }
    guard let path = arguments.optionalString("chart") else { return }
    guard case .disaggregated(let deployment) = plan.layout else {
      throw CommandFailure(
        .usage, code: "no_timeline",
        "--chart: expert parallelism has no pipeline to draw; "
          + "--load-chart draws its load")
    }
    let chart = SimulationSummary.timeline(deployment, pipeline: pipeline, layerCount: 8)
    try PlanningArguments.write(chart.svg, to: path)
  }

  private static func options(_ arguments: ParsedArguments) throws -> SimulationOptions {
    var options = SimulationOptions()
    options.duration = arguments.optionalNumber("duration") ?? 600
    options.warmUp = arguments.number("warm-up")
    options.seed = UInt64(arguments.integer("seed"))
    options.fidelity = arguments.choice("fidelity")
    options.jitter = arguments.number("jitter")
    options.hasExpertNoise = arguments.isOn("expert-noise")
    options.failuresPerServerDay = arguments.number("failures-per-day")
    options.recovery = arguments.number("recovery")
    options.prefillRate = arguments.optionalNumber("prefill-rate")
    for text in arguments.strings("straggler") {
      let parts = text.split(separator: "=")
      guard parts.count == 2, let server = Int(parts[0]), let factor = Double(parts[1]) else {
        throw UsageError.badValue(
          text, origin: .flag("straggler"), expected: "a server and a factor such as 0=1.3",
          nearest: nil)
      }
      options.stragglers.append((server, factor))
    }
    return options
  }

  private static func workload(
    _ arguments: ParsedArguments, plan: PlanFile, pipeline: PipelineModel
  ) throws -> Workload {
    if let path = arguments.optionalString("trace") {
      let text = String(decoding: try PlanningArguments.bytes(of: path), as: UTF8.self)
      return try Workload.trace(parsing: text, file: path)
    }
    let output = arguments.number("output-mean")
    // A sequence half way through its answer has the planned context on average; length bias
    // makes long answers weigh more.
    let bias = 1 + arguments.number("output-variation") * arguments.number("output-variation")
    let filling = Double(plan.context) - output * bias / 2
    let prompt = arguments.optionalNumber("prompt-mean") ?? max(1, filling)
    let room = plan.model.contextLimit
    let rate: Double
    if let given = arguments.optionalNumber("requests-per-second") {
      rate = given
    } else {
      let load = arguments.number("load")
      guard load > 0 else { throw SimulationError.notPositive(quantity: "--load", value: load) }
      rate = load * plan.throughput(pipeline) / output
    }
    return .random(
      requestsPerSecond: rate,
      prompt: try LengthDistribution(
        mean: prompt, variation: arguments.number("prompt-variation"),
        limit: min(room - 1, Int(prompt * 8) + 1)),
      output: try LengthDistribution(
        mean: output, variation: arguments.number("output-variation"),
        limit: min(room / 2, Int(output * 8) + 1)),
      swing: arguments.number("swing"))
  }
}
