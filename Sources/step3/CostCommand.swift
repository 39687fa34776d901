import CommandLineInterface
import CostModel
import JSONScanning
import Planning

/// `step3 cost`: what a million decoded tokens costs, and every table and figure of the report.
struct CostCommand: Command {
  static let specification = CommandSpecification(
    "cost", abstract: "Say what a million decoded tokens costs on which hardware.",
    example: "step3 cost --model-spec step3 dsv3 --hardware h800 h20 --context 8K 32K",
    flags: [
      .string(
        "model-spec", "NAME|FILE", repeated: true,
        help: "models: catalogue names, config.json files or checkpoint folders (default: all)"),
      .string(
        "hardware", "NAME", repeated: true,
        help: "devices, or all (default: the report's h800 h20 a800 910b)"),
      .string(
        "context", "N", repeated: true, help: "contexts in tokens, 8K for 8192 (default: 8K 32K)"),
      .choice(
        "report", ReportCatalogue.names + ["all"],
        help: "regenerate a table or figure of the Step-3 report instead"),
      .choice("mla", ["report", "exact"], default: "report", help: "count of MLA FLOPs"),
      .choice("k", ["1024", "1000"], default: "1024", help: "tokens in 1K"),
      .choice(
        "stage", ["report", "exact"], default: "report", help: "stage of 16.6 ms or 50/3 ms"),
      .choice(
        "duplex", Duplex.allCases.map(\.rawValue), default: "half",
        help: "whether both directions share a link"),
      .number(
        "ffn-batch", "N", help: "FFN by roofline at N tokens per batch (default: compute-bound)"),
      .number("kv-scale", "X", default: 1, help: "KV bytes, 0.5 for 4-bit"),
      .choice("format", ["text", "json", "csv"], default: "text", help: "form of the result"),
      .string("chart", "FILE.svg", help: "write a chart too"),
    ] + PlanningArguments.hardwareFlags,
    discussion: """
      Costs are a theoretical lower bound: peaks reached, communication free. Reports: table1 to
      table9, figure1 to figure5, and pairs, budget, sparsity, weak-hardware, efficiency, mtp,
      kv4, imbalance, claims, slips (where the report's statements do not follow).
      """)

  static func run(_ arguments: ParsedArguments) throws {
    var inputs = try ReportInputs()
    inputs.hardware = try PlanningArguments.catalogue(arguments)
    inputs.kilo = Int(arguments.string("k")) ?? 1024
    inputs.assumptions = try assumptions(arguments)
    inputs.stageIsTruncated = arguments.string("stage") == "report"
    inputs.duplex = arguments.choice("duplex")
    if let name = arguments.optionalString("report") {
      try write(reports: name, from: inputs, arguments)
    } else {
      try writeTable(from: inputs, arguments)
    }
  }

  private static func assumptions(_ arguments: ParsedArguments) throws -> CostAssumptions {
    var assumptions = CostAssumptions()
    assumptions.operationCount = arguments.choice("mla")
    assumptions.usesInt8 = arguments.isOn("int8")
    assumptions.priceLevel = arguments.choice("price-level")
    assumptions.kvScale = arguments.number("kv-scale")
    guard assumptions.kvScale > 0 else {
      throw CostModelError.notPositive(quantity: "--kv-scale", value: assumptions.kvScale)
    }
    if let batch = arguments.optionalNumber("ffn-batch") {
      guard batch >= 1 else {
        throw CostModelError.notPositive(quantity: "--ffn-batch", value: batch)
      }
      assumptions.feedForwardBatch = batch
    }
    return assumptions
  }

  private static func writeTable(
    from inputs: ReportInputs, _ arguments: ParsedArguments
  ) throws {
    let names = arguments.strings("hardware")
    let contexts = arguments.strings("context")
    let table = try CostTable(
      models: PlanningArguments.models(arguments.strings("model-spec"), in: inputs.models),
      hardware: PlanningArguments.devices(
        names.isEmpty ? HardwareCatalogue.reportNames : names, in: inputs.hardware),
      contexts: PlanningArguments.contexts(
        contexts.isEmpty ? ["8K", "32K"] : contexts, kilo: inputs.kilo),
      assumptions: inputs.assumptions, skipsUnpriced: names == ["all"])
    switch arguments.string("format") {
    case "json": StandardOutput.write(table.document.documentText)
    case "csv": StandardOutput.write(table.csv)
    default: StandardOutput.write(table.text)
    }
    if let path = arguments.optionalString("chart") {
      try PlanningArguments.write(table.chart.svg, to: path)
    }
  }

  private static func write(
    reports name: String, from inputs: ReportInputs, _ arguments: ParsedArguments
  ) throws {
    var reports: [Report] = []
    for each in name == "all" ? ReportCatalogue.names : [name] {
      if let report = try ReportCatalogue.report(each, from: inputs) { reports.append(report) }
    }
    switch arguments.string("format") {
    case "json":
      let documents = reports.map(\.document)
      let whole: JSONValue =
        name == "all" ? .members([("reports", .array(documents))]) : documents[0]
      StandardOutput.write(whole.documentText)
    case "csv": StandardOutput.write(reports.map(\.csv).joined(separator: "\r\n"))
    default: StandardOutput.write(reports.map(\.text).joined(separator: "\n\n"))
    }
    guard let path = arguments.optionalString("chart") else { return }
    guard let chart = reports.compactMap(\.chart).first, name != "all" else {
      throw CommandFailure(
        .usage, code: "no_chart",
        "--chart: \(name) has no chart; figure1 to figure5, table9 and "
          + "pairs have one")
    }
    try PlanningArguments.write(chart.svg, to: path)
  }
}
