import CommandLineInterface
import CostModel
import Foundation
import JSONScanning
import Kernels
import Planning
import Tensors

/// `step3 bench calibrate`: this machine as a hardware entry for the planner.
struct BenchCalibrateCommand: Command {
  static let specification = CommandSpecification(
    "bench calibrate", abstract: "Measure this machine as a hardware entry for cost and plan.",
    example: "step3 bench calibrate --out hardware.json",
    flags: [
      .string("out", "FILE", required: true, help: "the hardware file to write"),
      .string("name", "NAME", default: "this-machine", help: "how plans will call the machine"),
      .number("hourly-price", "USD", help: "price per hour, needed for plans"),
      .number("nic-gbps", "X", help: "network bandwidth in gigabits per second (default: 10)"),
      .string(
        "links", "FILE",
        help: "what cluster check --format json said: the slowest link is the network"),
      .byteCount("memory", default: "256MiB", help: "memory to read, far more than the caches"),
      .string(
        "runs", "FILE", repeated: true,
        help: "results of bench decode, prefill or afd --json to fit the efficiencies to"),
      .string("model-spec", "FILE", help: "the checkpoint of the runs"),
      .number("weight-bytes", "X", default: 2, help: "bytes per weight in the runs"),
      .number("kv-bytes", "X", default: 2, help: "bytes per cached element in the runs"),
    ],
    discussion: """
      Bandwidth, peaks and the shares that the kernels reach are measured here. With --runs the
      shares are fitted to measured runs of a model instead: a few of different batch and context
      are enough to predict the others (bench predict). Runs of bench afd, whose sides have a core
      each, need an entry of their own: calibrate with --threads 1.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let price = arguments.optionalNumber("hourly-price")
    if let price, price <= 0 {
      throw CostModelError.notPositive(quantity: "--hourly-price", value: price)
    }
    let probe = try measure(arguments, price: price)
    var hardware = probe.hardware()
    let files = arguments.strings("runs")
    if !files.isEmpty {
      guard let name = arguments.optionalString("model-spec") else {
        throw CommandFailure(
          .usage, code: "missing_model", "--runs needs --model-spec, the checkpoint of the runs")
      }
      let model = try PlanningArguments.model(name, in: ModelCatalogue.builtIn())
      var runs: [EngineRun] = []
      for file in files { runs += try EngineRunFiles.read(file, arguments) }
      hardware = probe.hardware(
        efficiency: try Calibration.fit(runs, model: model, hardware: hardware))
    }
    let text = hardware.document.documentText
    try PlanningArguments.write(text, to: arguments.string("out"))
    StandardOutput.write(text)
  }

  private static func measure(
    _ arguments: ParsedArguments, price: Double?
  ) throws -> MachineProbe {
    let kernels = try KernelSet.select(KernelChoice(rawValue: arguments.kernels) ?? .auto)
    let team = WorkTeam(workerCount: arguments.threads)
    let memory = arguments.optionalByteCount("memory") ?? 256 << 20
    let limits = MachineLimits.measure(team: team, byteCount: memory)
    let links = try linkBandwidth(arguments)
    let benchmark = KernelBenchmark(
      compute: Compute(kernels: kernels, team: team), byteCount: memory, repeats: 5)
    let peak = (limits.peaks[.bfloat16] ?? limits.peaks[.float32])?.median ?? 1e9
    let decode = benchmark.linear(.bfloat16, .bfloat16, rows: nil, columns: 2048, tokens: 1)
    let prefill = benchmark.linear(.bfloat16, .bfloat16, rows: 2048, columns: 2048, tokens: 512)
    // Few heads over far more keys and values than caches hold: bytes bound it, not arithmetic.
    let cached = try benchmark.attention(
      .bfloat16, heads: 4, headDimension: 256, rows: 1, positions: memory / 2048)
    let dense = try benchmark.attention(
      .bfloat16, heads: 64, headDimension: 256, rows: 256, positions: 2048)
    return MachineProbe(
      name: arguments.string("name"),
      memoryByteCount: Double(ProcessInfo.processInfo.physicalMemory),
      bandwidth: limits.read.median, machineBandwidth: machineBandwidth(besides: team, memory),
      bf16Peak: peak, int8Peak: limits.peaks[.int8]?.median,
      nicBandwidth: links ?? (arguments.optionalNumber("nic-gbps") ?? 10) / 8 * 1e9,
      isNICMeasured: links != nil,
      linearBandwidth: min(1.2, decode.bytesPerSecond / limits.read.median),
      linearFlops: min(1.2, prefill.operationsPerSecond / peak),
      attentionBandwidth: min(1.2, cached.bytesPerSecond / limits.read.median),
      attentionFlops: min(1.2, dense.operationsPerSecond / peak), price: price,
      date: Date.now.formatted(.iso8601.year().month().day()))
  }
}

extension BenchCalibrateCommand {
  /// Bytes per second of all cores, where the entry is of fewer: nodes on one machine share them.
  private static func machineBandwidth(besides team: WorkTeam, _ byteCount: Int) -> Double? {
    let all = WorkTeam(workerCount: nil)
    guard team.workerCount < all.workerCount else { return nil }
    return MachineLimits.measureRead(team: all, byteCount: byteCount, repeats: 5).median
  }

  /// Bytes per second of the slowest link in a report of `cluster check`, if one is given.
  private static func linkBandwidth(_ arguments: ParsedArguments) throws -> Double? {
    guard let path = arguments.optionalString("links") else { return nil }
    guard arguments.optionalNumber("nic-gbps") == nil else {
      throw CommandFailure(
        .usage, code: "two_networks", "--links and --nic-gbps both give the network; choose one")
    }
    let document = try JSONValue(document: PlanningArguments.bytes(of: path), file: path)
    let rates = document["links"]?.array?.compactMap { $0["bytes_per_second"]?.number } ?? []
    guard let slowest = rates.min(), slowest > 0 else {
      throw CostModelError.malformedDocument(
        file: path, place: "links", fact: "no link with \"bytes_per_second\" is in it")
    }
    return slowest
  }
}

/// `step3 bench predict`: the cost model against measured runs of our own engine.
struct BenchPredictCommand: Command {
  static let specification = CommandSpecification(
    "bench predict", abstract: "Compare measured runs of this engine with the model's predictions.",
    example: "step3 bench predict --hardware-file h.json --model-spec DIR --runs decode.json",
    flags: [
      .string("hardware-file", "FILE", required: true, help: "an entry of bench calibrate"),
      .string("model-spec", "FILE", required: true, help: "the checkpoint of the runs"),
      .string(
        "runs", "FILE", repeated: true, required: true,
        help: "results of bench decode, prefill or afd --json; FILE:WEIGHT:KV sets their bytes"),
      .number("weight-bytes", "X", default: 2, help: "bytes per weight in the runs"),
      .number("kv-bytes", "X", default: 2, help: "bytes per cached element in the runs"),
      .choice("format", ["text", "json", "csv"], default: "text", help: "form of the result"),
    ])

  static func run(_ arguments: ParsedArguments) throws {
    let path = arguments.string("hardware-file")
    let catalogue = try HardwareCatalogue(
      parsing: try PlanningArguments.bytes(of: path), file: path)
    guard let hardware = catalogue.entries.first else {
      throw CostModelError.malformedDocument(
        file: path, place: "hardware", fact: "an entry is needed")
    }
    let model = try PlanningArguments.model(
      arguments.string("model-spec"), in: ModelCatalogue.builtIn())
    var runs: [EngineRun] = []
    for file in arguments.strings("runs") { runs += try EngineRunFiles.read(file, arguments) }
    let report = try EngineComparison(model: model, hardware: hardware).report(runs)
    switch arguments.string("format") {
    case "json": StandardOutput.write(report.document.documentText)
    case "csv": StandardOutput.write(report.csv)
    default: StandardOutput.write(report.text)
    }
  }
}

/// Files of measured runs; `FILE:WEIGHT:KV` says with how many bytes per weight and per element.
enum EngineRunFiles {
  static func read(_ text: String, _ arguments: ParsedArguments) throws -> [EngineRun] {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let sizes = parts.dropFirst().map { Double($0) }
    guard sizes.allSatisfy({ ($0 ?? 0) > 0 }), sizes.count <= 2 else {
      throw UsageError.badValue(
        text, origin: .flag("runs"), expected: "FILE or FILE:WEIGHT_BYTES:KV_BYTES", nearest: nil)
    }
    let path = String(parts[0])
    return try EngineRun.runs(
      parsing: PlanningArguments.bytes(of: path), file: path,
      weightByteCount: (sizes.first ?? nil) ?? arguments.number("weight-bytes"),
      kvByteCount: (sizes.count > 1 ? sizes[1] : nil) ?? arguments.number("kv-bytes"))
  }
}
