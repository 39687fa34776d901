import CommandLineInterface
import Foundation
import Inference
import JSONScanning
import Kernels
import ModelConfiguration
import Quantization
import Step3Model
import Tensors
import Tokenization

/// `step3 quantize`: a smaller checkpoint with nearly the same answers.
struct QuantizeCommand: Command {
  static let specification = CommandSpecification(
    "quantize", abstract: "Write a checkpoint with 8 or 4 bits per weight.",
    example: "step3 quantize models/bf16 models/int4 --weights int4 --calibration text.txt",
    arguments: [
      Argument("SOURCE", help: "Step3 checkpoint folder in BF16 or F32"),
      Argument("DIR", help: "folder to write; appears complete or not at all"),
    ],
    flags: [
      .choice("weights", ["fp8", "int8", "int4"], required: true, help: "format of the matrices"),
      .choice(
        "group-size", ["32", "64", "128"],
        help: "columns that share a factor (default: 32 for int4, the whole row for int8)"),
      .toggle("symmetric", help: "int4 without zero points: less exact, a little smaller"),
      .toggle("zero-points", help: "int4 with zero points, which is the default"),
      .string("keep", "REGEX", repeated: true, help: "leave tensors whose names match as they are"),
      .string("calibration", "FILE", help: "text that the model reads, to see what rounding does"),
      .integer(
        "calibration-tokens", in: 1...10_000_000, default: 8192,
        help: "how many of its tokens count"),
      .number(
        "tolerance", in: 0...100, default: 0.01,
        help: "int4 with a text: how far predictions may move, in nats per token; matrices get "
          + "8 bits until they do not move further"),
      .byteCount("max-shard-size", default: "1GB", help: "start another shard beyond this"),
    ],
    discussion: """
      Embeddings, norms, routers, the output head and the vision tower stay as they are. Factors \
      are searched for the least squared error. With a calibration text columns are rounded one \
      after the other, and later ones make up for what earlier ones lost on that text; with int4 \
      the effect of every matrix on the predictions is measured as well, and those that move them \
      most get 8 bits. A run that was stopped goes on behind its last finished shard.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let source = arguments.argument("SOURCE") ?? ""
    let directory = arguments.argument("DIR") ?? ""
    var options = try options(arguments)
    var calibration: Calibration?
    if let text = arguments.optionalString("calibration") {
      let made = try Calibration(source, text, arguments)
      options.calibration = made.identity
      calibration = made
    }
    let quantizer = try Quantizer(
      source: try calibration?.runs.files ?? ModelFolder(path: source).files, options: options,
      names: names, team: WorkTeam(workerCount: arguments.threads), calibration: calibration)
    let reporter = ConversionProgress("quantize", log: arguments.log)
    let report = try quantizer.run(to: directory) { piece, total in
      reporter.advance(by: piece, of: total)
    }
    reporter.finish()
    StandardOutput.write(
      arguments.wantsJSON ? QuantizeText.json(report).text() + "\n" : QuantizeText.text(report))
  }

  private static func options(_ arguments: ParsedArguments) throws -> QuantizationOptions {
    guard let weights = QuantizationOptions.Weights(rawValue: arguments.string("weights")) else {
      preconditionFailure("the flag's choices are the formats")
    }
    var options = QuantizationOptions(weights: weights)
    options.groupSize = arguments.optionalString("group-size").flatMap { Int($0) }
    if arguments.isOn("symmetric"), arguments.isOn("zero-points") {
      throw CommandFailure(
        .usage, code: "usage", "--symmetric and --zero-points exclude each other")
    }
    options.hasZeroPoints = weights == .int4 && !arguments.isOn("symmetric")
    options.keptPatterns = arguments.strings("keep")
    options.tolerance = arguments.number("tolerance")
    if let size = arguments.optionalByteCount("max-shard-size") {
      options.shardByteCount = max(1, size)
    }
    return options
  }

  private static var names: QuantizationNames {
    QuantizationNames(
      packed: WeightNames.packedSuffix, factor: WeightNames.factorSuffix,
      zeroPoint: WeightNames.zeroPointSuffix, shape: WeightNames.shapeSuffix,
      scaleInverse: WeightNames.scaleSuffix, isQuantizable: WeightNames.isProjection)
  }
}

/// A model that reads the calibration text whenever the quantiser asks.
private struct Calibration: QuantizationCalibration {
  let runs: CalibrationRuns
  /// What the result depends on.
  let identity: String
  private let log: Log

  init(_ source: String, _ path: String, _ arguments: ParsedArguments) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CommandFailure(.usage, code: "file_not_found", "\(path): cannot be read")
    }
    let context = try ModelFolder(path: source).configuration.text.contextLength
    let ids = try Tokenizer(directory: source).encode(String(decoding: data, as: UTF8.self))
      .prefix(arguments.integer("calibration-tokens")).map(Int.init)
    guard !ids.isEmpty else { throw InferenceError.emptyPrompt }
    let window = min(1024, ids.count, context)
    var engine = EngineOptions()
    engine.threads = arguments.threads
    engine.kernels = KernelChoice(rawValue: arguments.kernels) ?? .auto
    runs = try CalibrationRuns(
      path: source,
      windows: stride(from: 0, to: ids.count, by: window).map {
        Array(ids[$0..<min(ids.count, $0 + window)])
      }, options: engine)
    let hash = String(ByteRegion(copying: [UInt8](data)).checksum, radix: 16)
    identity = "\(hash), \(ids.count) tokens"
    log = arguments.log
  }

  func record(_ recorder: InputRecorder) throws {
    log.info("running the model over the calibration text")
    try runs.record(recorder)
  }

  func replace(_ tensor: String, matrix: Int, with bytes: [UInt8]) throws {
    try runs.replace(tensor, matrix: matrix, with: bytes)
  }

  func divergence() throws -> Double { try runs.divergence() }

  func restore(_ tensor: String) { runs.restore(tensor) }
}

/// The report, for people and for programs.
private enum QuantizeText {
  static func text(_ report: QuantizationReport) -> String {
    guard report.wasWritten else {
      return "\(report.directory) is up to date: made from the same input with the same options\n"
    }
    var lines = report.groups.map { group in
      let loss =
        group.loss.norm > 0 ? ", relative error \(percent(group.loss.relativeError))" : ""
      return "\(group.name): \(group.tensorCount) tensors, \(group.storage), "
        + "\(ByteSize.words(group.sourceByteCount)) to \(ByteSize.words(group.byteCount))\(loss)"
    }
    if report.keptShardCount > 0 {
      lines.append("went on behind \(report.keptShardCount) shards that were finished before")
    }
    for one in report.sensitive {
      lines.append(
        "8 bits: \(one.name), which would move predictions by \(nats(one.divergence))")
    }
    if report.divergence > 0 {
      lines.append("4 bits elsewhere move predictions by about \(nats(report.divergence))")
    }
    lines.append(
      "wrote \(ByteSize.words(report.byteCount)) of \(ByteSize.words(report.sourceByteCount)) "
        + "to \(report.directory)")
    return lines.joined(separator: "\n") + "\n"
  }

  static func json(_ report: QuantizationReport) -> JSONValue {
    [
      "directory": .string(report.directory), "written": .boolean(report.wasWritten),
      "kept_shards": .integer(report.keptShardCount),
      "source_bytes": .integer(report.sourceByteCount), "bytes": .integer(report.byteCount),
      "groups": .array(
        report.groups.map { group in
          [
            "name": .string(group.name), "storage": .string(group.storage),
            "tensors": .integer(group.tensorCount),
            "source_bytes": .integer(group.sourceByteCount), "bytes": .integer(group.byteCount),
            "relative_error": .number(group.loss.relativeError),
          ]
        }),
      "sensitive": .array(
        report.sensitive.map { one in
          ["name": .string(one.name), "divergence_at_4_bits": .number(one.divergence)]
        }),
      "divergence": .number(report.divergence),
    ]
  }

  private static func nats(_ divergence: Double) -> String {
    String(format: "%.5f nats per token", divergence)
  }

  private static func percent(_ share: Double) -> String {
    String(format: "%.2f %%", 100 * share)
  }
}
