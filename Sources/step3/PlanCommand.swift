import CommandLineInterface
import CostModel
import JSONScanning
import Planning

/// `step3 plan`: how many attention and FFN machines meet a latency, and what that costs.
struct PlanCommand: Command {
  static let specification = CommandSpecification(
    "plan", abstract: "Find the cheapest deployment that meets a time per output token.",
    example: "step3 plan --model-spec step3 --hardware h100 h20 --context 4K --tpot-ms 50",
    flags: [
      .string(
        "model-spec", "NAME|FILE", default: "step3",
        help: "the model: a catalogue name, a config.json or a checkpoint folder"),
      .string("hardware", "NAME", repeated: true, help: "devices for both sides, or all"),
      .string("attention-hardware", "NAME", repeated: true, help: "devices for attention only"),
      .string("ffn-hardware", "NAME", repeated: true, help: "devices for the FFN only"),
      .string("context", "N", default: "8K", help: "tokens of context, 8K for 8192"),
      .number("tpot-ms", "X", default: 50, help: "milliseconds per output token at most"),
      .choice(
        "layout", ["afd", "ep"], default: "afd",
        help: "disaggregated servers, or expert parallelism without"),
      .string(
        "micro-batches", "N|auto", default: "3", help: "micro-batches in flight; auto tries 2-4"),
      .choice(
        "tile", ["64", "128"], default: "128", help: "tokens a micro-batch is a multiple of"),
      .number("kv-scale", "X", default: 1, help: "KV bytes: 2 for BF16 caches, 0.5 for 4-bit"),
      .number("weight-bytes", "X", default: 1, help: "bytes per weight"),
      .choice("mla", ["exact", "report"], default: "exact", help: "count of MLA FLOPs"),
      .choice(
        "duplex", ["half", "full"], default: "half", help: "whether directions share a link"),
      .choice(
        "dispatch", ["broadcast", "routed"], default: "broadcast",
        help: "tokens to every FFN server, or to those that hold a chosen expert"),
      .choice(
        "collectives", ["serial", "overlapped"], default: "serial",
        help: "whether collectives inside a server hide behind arithmetic"),
      .number(
        "expert-skew", "X", default: 1, help: "load of the busiest expert group over the mean"),
      .number("expert-redundancy", "X", default: 0, help: "extra expert copies, as a share"),
      .number("usable-memory", "X", default: 0.9, help: "share of memory that may be filled"),
      .integer("drafts", default: 0, help: "draft tokens per step (MTP)"),
      .number("acceptance", "X", default: 0, help: "probability that a draft is accepted"),
      .toggle("strict", help: "refuse plans outside the calibrated range instead of warning"),
      .string("out", "FILE", help: "write the plan, for step3 simulate"),
      .string(
        "cluster-out", "FILE", help: "write a cluster file, for machines that run this engine"),
      .string("host", "NAME", repeated: true, help: "hosts of the cluster file"),
      .string("chart", "FILE.svg", help: "write a chart too"),
      .choice("k", ["1024", "1000"], default: "1024", help: "tokens in 1K"),
    ] + PlanningArguments.hardwareFlags)

  static func run(_ arguments: ParsedArguments) throws {
    let request = try request(arguments)
    let result = try PlanResult(request)
    if arguments.string("layout") == "ep" { return try runBaseline(result, arguments) }
    guard let document = try PlanDocument(result) else {
      throw CommandFailure(.failed, code: "not_possible", try result.impossibility())
    }
    if arguments.isOn("strict"),
      let reason = document.explanation.warnings.first(where: { $0.contains("calibrated range") })
    {
      throw CommandFailure(.failed, code: "not_calibrated", "refused by --strict: \(reason)")
    }
    let text = document.document.documentText
    StandardOutput.write(arguments.string("format") == "json" ? text : document.text)
    if let path = arguments.optionalString("out") { try PlanningArguments.write(text, to: path) }
    if let path = arguments.optionalString("cluster-out"), let best = result.best {
      let cluster = try ClusterPlan.document(
        best.deployment, model: request.model, hosts: arguments.strings("host"),
        keyFile: "cluster.key")
      try PlanningArguments.write(cluster.documentText, to: path)
      StandardError.write(
        "\(path): every node needs the same secret in cluster.key beside it: "
          + "openssl rand -hex 32 > cluster.key\n")
    }
    if let path = arguments.optionalString("chart") {
      try PlanningArguments.write(document.chart.svg, to: path)
    }
  }

  private static func runBaseline(_ result: PlanResult, _ arguments: ParsedArguments) throws {
    for flag in ["cluster-out", "chart"] where arguments.optionalString(flag) != nil {
      throw CommandFailure(
        .usage, code: "afd_only", "--\(flag) is for --layout afd: it draws attention and FFN nodes")
    }
    guard let document = try BaselineDocument(result) else {
      throw CommandFailure(
        .failed, code: "not_possible",
        "not possible, because no number of these devices holds the experts and two sequences "
          + "each within the limit; a longer --tpot-ms, larger devices or --layout afd may")
    }
    let text = document.document.documentText
    StandardOutput.write(arguments.string("format") == "json" ? text : document.text)
    if let path = arguments.optionalString("out") { try PlanningArguments.write(text, to: path) }
  }

  private static func request(_ arguments: ParsedArguments) throws -> PlanRequest {
    let catalogue = try PlanningArguments.catalogue(arguments)
    let model = try PlanningArguments.model(
      arguments.string("model-spec"), in: ModelCatalogue.builtIn())
    let contexts = try PlanningArguments.contexts(
      [arguments.string("context")], kilo: Int(arguments.string("k")) ?? 1024)
    guard let context = contexts.first, contexts.count == 1 else {
      throw UsageError.badValue(
        arguments.string("context"), origin: .flag("context"), expected: "one context",
        nearest: nil)
    }
    let named = arguments.strings("hardware")
    let both = try PlanningArguments.devices(
      named.isEmpty ? HardwareCatalogue.reportNames : named, in: catalogue)
    var request = PlanRequest(
      model: model, context: context, hardware: both, limit: arguments.number("tpot-ms") / 1e3,
      efficiencies: try Efficiencies.builtIn())
    let attention = arguments.strings("attention-hardware")
    let feedForward = arguments.strings("ffn-hardware")
    if !attention.isEmpty {
      request.attentionHardware = try PlanningArguments.devices(attention, in: catalogue)
    }
    if !feedForward.isEmpty {
      request.feedForwardHardware = try PlanningArguments.devices(feedForward, in: catalogue)
    }
    request.assumptions = try assumptions(arguments)
    request.tile = Int(arguments.string("tile")) ?? 128
    let microBatches = arguments.string("micro-batches")
    if microBatches == "auto" {
      request.microBatchCounts = [2, 3, 4]
    } else {
      guard let count = Int(microBatches), (1...8).contains(count) else {
        throw UsageError.badValue(
          microBatches, origin: .flag("micro-batches"), expected: "auto or a number from 1 to 8",
          nearest: nil)
      }
      request.microBatchCounts = [count]
    }
    return request
  }

  private static func assumptions(_ arguments: ParsedArguments) throws -> TimingAssumptions {
    var assumptions = TimingAssumptions()
    assumptions.kvScale = arguments.number("kv-scale")
    assumptions.weightByteCount = arguments.number("weight-bytes")
    assumptions.operationCount = arguments.choice("mla")
    assumptions.usesInt8 = arguments.isOn("int8")
    assumptions.duplex = arguments.choice("duplex")
    assumptions.dispatch = arguments.choice("dispatch")
    assumptions.collectives = arguments.choice("collectives")
    assumptions.expertSkew = arguments.number("expert-skew")
    assumptions.expertRedundancy = arguments.number("expert-redundancy")
    assumptions.usableMemory = arguments.number("usable-memory")
    assumptions.priceLevel = arguments.choice("price-level")
    assumptions.speculation = try Speculation(
      draftCount: arguments.integer("drafts"), acceptance: arguments.number("acceptance"))
    return assumptions
  }
}
