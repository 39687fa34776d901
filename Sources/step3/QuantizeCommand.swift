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
      .string("calibration", "FILE", help: "text on which inputs are measured, to weight errors"),
      .integer(
        "calibration-tokens", in: 1...10_000_000, default: 8192,
        help: "how many of its tokens count"),
      .number(
        "sensitivity", in: 1...1_000_000, default: 2,
        help: "int4: matrices whose error is that many times the median's get 8 bits"),
      .byteCount("max-shard-size", default: "1GB", help: "start another shard beyond this"),
    ],
    discussion: """
      Embeddings, norms, routers, the output head and the vision tower stay as they are. Factors \
      are searched for the least squared error. With int4 the error of every matrix is measured \
      first, and those that lose far more than the others get 8 bits. A run that was stopped goes \
      on behind its last finished shard.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let source = arguments.argument("SOURCE") ?? ""
    let directory = arguments.argument("DIR") ?? ""
    var options = try options(arguments)
    let folder = try ModelFolder(path: source)
    var importance: ImportanceSource?
    if let text = arguments.optionalString("calibration") {
      let recorder = InputRecorder()
      options.calibration = try calibrate(folder, text, recorder, arguments)
      importance = { recorder.meanSquares(of: $0) }
    }
    let quantizer = try Quantizer(
      source: folder.files, options: options, names: names,
      team: WorkTeam(workerCount: arguments.threads), importance: importance)
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
    options.sensitivity = arguments.number("sensitivity")
    if let size = arguments.optionalByteCount("max-shard-size") {
      options.shardByteCount = max(1, size)
    }
    return options
  }

  /// Runs the model over the text; returns what the measurement depends on.
  private static func calibrate(
    _ folder: ModelFolder, _ path: String, _ recorder: InputRecorder, _ arguments: ParsedArguments
  ) throws -> String {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CommandFailure(.usage, code: "file_not_found", "\(path): cannot be read")
    }
    let limit = arguments.integer("calibration-tokens")
    let ids = try Tokenizer(directory: folder.path)
      .encode(String(decoding: data, as: UTF8.self)).prefix(limit).map(Int.init)
    guard !ids.isEmpty else { throw InferenceError.emptyPrompt }
    let window = min(1024, ids.count, folder.configuration.text.contextLength)
    var engine = EngineOptions()
    engine.threads = arguments.threads
    engine.kernels = KernelChoice(rawValue: arguments.kernels) ?? .auto
    var session = try ScoringSession(
      folder, options: engine, contextLength: window, recorder: recorder)
    for start in stride(from: 0, to: ids.count, by: window) {
      session.reset()
      try session.feed(Array(ids[start..<min(ids.count, start + window)]))
      arguments.log.info("calibrated on \(min(ids.count, start + window)) of \(ids.count) tokens")
    }
    let hash = String(ByteRegion(copying: [UInt8](data)).checksum, radix: 16)
    return "\(hash), \(ids.count) tokens"
  }

  private static var names: QuantizationNames {
    QuantizationNames(
      packed: WeightNames.packedSuffix, factor: WeightNames.factorSuffix,
      zeroPoint: WeightNames.zeroPointSuffix, shape: WeightNames.shapeSuffix,
      scaleInverse: WeightNames.scaleSuffix, isQuantizable: WeightNames.isProjection)
  }
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
      lines.append("sensitive, so 8 bits: \(one.name), \(percent(one.relativeError)) at 4 bits")
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
          ["name": .string(one.name), "relative_error_at_4_bits": .number(one.relativeError)]
        }),
    ]
  }

  private static func percent(_ share: Double) -> String {
    String(format: "%.2f %%", 100 * share)
  }
}
