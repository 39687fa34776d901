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
        "group-size", ["32", "64", "128", "row"],
        help: "columns that share a factor (default: 32 for int4, 128 for int8; row: the whole "
          + "row, int8 only)"),
      .toggle("symmetric", help: "int4 without zero points: less exact, a little smaller"),
      .toggle("zero-points", help: "int4 with zero points, which is the default"),
      .string("keep", "REGEX", repeated: true, help: "leave tensors whose names match as they are"),
      .choice(
        "measure", ["auto", "off", "kinds", "tensors"], default: "auto",
        help: "run the model to find which matrices need more bits: kinds of them (auto, if the "
          + "checkpoint is small beside the memory) or each by itself, which takes longer"),
      .number(
        "tolerance", in: 0...100,
        help: "how far rounding may move predictions, in nats per token (default: 0.005, int4 "
          + "0.008); matrices get more bits until it does not move them further"),
      .string(
        "calibration", "FILE",
        help: "text to measure on instead of the built-in one; int4 also feeds errors back by it"),
      .integer(
        "calibration-tokens", in: 1...10_000_000, default: 8192,
        help: "how many of its tokens count"),
      .byteCount("max-shard-size", default: "1GB", help: "start another shard beyond this"),
    ],
    discussion: """
      Embeddings, norms, routers, the output head and the vision tower stay as they are. Factors \
      are searched for the least squared error. Then the model reads a short text, and its \
      predictions before and after rounding are compared: where they move further than the \
      tolerance, the matrices that move them most for their size stay in 16 bits (fp8, int8) or \
      get 8 (int4). With a text of your own, int4 also rounds columns one after the other, so that \
      later ones make up for what earlier ones lost on that text. A run that was stopped goes on \
      behind its last finished shard.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let source = arguments.argument("SOURCE") ?? ""
    let directory = arguments.argument("DIR") ?? ""
    var options = try options(arguments)
    let calibration = try calibration(source, arguments)
    if let calibration {
      options.calibration = calibration.identity
      options.measure = arguments.string("measure") == "tensors" ? .tensors : .kinds
      options.feedsErrorsBack =
        options.weights == .int4 && arguments.optionalString("calibration") != nil
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
    if let size = arguments.optionalString("group-size") {
      if size == "row", weights == .int4 {
        throw CommandFailure(
          .usage, code: "usage", "--group-size row is for int8; int4 needs 32, 64 or 128")
      }
      options.groupSize = Int(size) ?? 0
    }
    if arguments.isOn("symmetric"), arguments.isOn("zero-points") {
      throw CommandFailure(
        .usage, code: "usage", "--symmetric and --zero-points exclude each other")
    }
    options.hasZeroPoints = weights == .int4 && !arguments.isOn("symmetric")
    options.keptPatterns = arguments.strings("keep")
    if let tolerance = arguments.optionalNumber("tolerance") { options.tolerance = tolerance }
    if let size = arguments.optionalByteCount("max-shard-size") {
      options.shardByteCount = max(1, size)
    }
    return options
  }

  /// What measures, unless it was told not to or the machine is too small for it.
  private static func calibration(
    _ source: String, _ arguments: ParsedArguments
  ) throws -> Calibration? {
    let measure = arguments.string("measure")
    if measure == "off" {
      if arguments.optionalString("calibration") != nil {
        throw CommandFailure(.usage, code: "usage", "--measure off leaves --calibration no use")
      }
      return nil
    }
    if measure != "auto" || arguments.optionalString("calibration") != nil {
      return try Calibration(source, arguments)
    }
    // The values that stand in for the weights, and the rounded ones, are kept.
    let needed = 3 * (try ModelFolder(path: source).files.byteCount)
    let available = MachineFacts().usableByteCount ?? 0
    if needed > min(available, autoByteLimit) {
      arguments.log.info(
        "not measured which matrices need more bits: that would take \(ByteSize.words(needed)) of "
          + "memory and a while; --measure kinds does it anyway")
      return nil
    }
    do { return try Calibration(source, arguments) } catch {
      arguments.log.info("not measured which matrices need more bits: \(error)")
      return nil
    }
  }

  /// Three times a checkpoint that two cores measure within some minutes.
  private static let autoByteLimit = 24 << 30

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

  init(_ source: String, _ arguments: ParsedArguments) throws {
    var text = CalibrationText.text
    var name = CalibrationText.identity
    if let path = arguments.optionalString("calibration") {
      guard let data = FileManager.default.contents(atPath: path) else {
        throw CommandFailure(.usage, code: "file_not_found", "\(path): cannot be read")
      }
      text = String(decoding: data, as: UTF8.self)
      name = String(ByteRegion(copying: [UInt8](data)).checksum, radix: 16)
    }
    let context = try ModelFolder(path: source).configuration.text.contextLength
    let ids = try Tokenizer(directory: source).encode(text)
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
    identity = "\(name), \(ids.count) tokens"
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
        "more bits: \(one.name), which would move predictions by \(nats(one.divergence))")
    }
    if let divergence = report.divergence {
      lines.append("rounding the others moves predictions by \(nats(divergence))")
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
          ["name": .string(one.name), "divergence": .number(one.divergence)]
        }),
      "divergence": report.divergence.map { .number($0) } ?? .null,
    ]
  }

  private static func nats(_ divergence: Double) -> String {
    String(format: "%.5f nats per token", divergence)
  }

  private static func percent(_ share: Double) -> String {
    String(format: "%.2f %%", 100 * share)
  }
}
