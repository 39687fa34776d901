import CommandLineInterface
import Conversion
import JSONScanning
import Tensors

/// `step3 convert`: a Llama-family model as a Step3 checkpoint with the same answers.
struct ConvertCommand: Command {
  static let specification = CommandSpecification(
    "convert", abstract: "Turn a Llama-family model into a Step3 checkpoint with the same answers.",
    example: "step3 convert model.gguf models/mine",
    arguments: [
      Argument("SOURCE", help: "GGUF file, or HF folder with config.json and safetensors"),
      Argument("DIR", help: "folder to write; appears complete or not at all"),
    ],
    flags: [
      .choice("dtype", ["bf16", "f32"], default: "bf16", help: "element type of the weights"),
      .choice(
        "moe", ["upcycled", "exact-split", "none"], default: "upcycled",
        help: "how some layers become mixtures of experts"),
      .toggle("dense", help: "no mixture layer at all, as --moe none"),
      .integerList("moe-layers", help: "the mixture layers (default: those that suit --moe)"),
      .integer("experts", in: 1...4096, default: 4, help: "routed experts per mixture layer"),
      .string("router", "DIR", help: "safetensors with router rows for upcycled layers"),
      .string("vision", "DIR", help: "vision tower, image tokens and chat template to add"),
      .string("tokenizer", "DIR", help: "folder with tokenizer.json, instead of the source's own"),
      .string(
        "license-file", "FILE", repeated: true, help: "file to put beside the weights unchanged"),
      .byteCount("max-shard-size", default: "5GB", help: "start another shard beyond this"),
    ],
    discussion: """
      The mapping is exact: grouped-query attention in Step3's form, mixtures whose output is that \
      of the dense layer. Doing the same conversion again does nothing. Models that have no exact \
      counterpart are refused by name.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let source = arguments.argument("SOURCE") ?? ""
    let directory = arguments.argument("DIR") ?? ""
    let converter = try Converter(path: source, options: options(arguments))
    let reporter = ConversionProgress("convert", log: arguments.log)
    let report = try converter.run(to: directory) { piece, total in
      reporter.advance(by: piece, of: total)
    }
    reporter.finish()
    if arguments.wantsJSON {
      StandardOutput.write(json(report).text() + "\n")
    } else {
      StandardOutput.write(text(report))
    }
  }

  private static func options(_ arguments: ParsedArguments) -> ConversionOptions {
    var options = ConversionOptions()
    options.elementType = arguments.string("dtype") == "f32" ? .float32 : .bfloat16
    let layers = arguments.isGiven("moe-layers") ? arguments.integers("moe-layers") : nil
    let count = arguments.integer("experts")
    switch arguments.isOn("dense") ? "none" : arguments.string("moe") {
    case "upcycled": options.mixture = .upcycled(layers: layers, expertCount: count)
    case "exact-split": options.mixture = .exactSplit(layers: layers, expertCount: count)
    default: options.mixture = .none
    }
    options.routerFolder = arguments.optionalString("router")
    options.visionFolder = arguments.optionalString("vision")
    options.tokenizerFolder = arguments.optionalString("tokenizer")
    options.licenseFiles = arguments.strings("license-file")
    if let size = arguments.optionalByteCount("max-shard-size") {
      options.maximumShardByteCount = max(1, size)
    }
    return options
  }

  private static func text(_ report: ConversionReport) -> String {
    guard report.wasWritten else {
      return "\(report.directory) is up to date: made from the same input with the same options\n"
    }
    var lines = report.groups.map { group in
      let size = ByteSize.words(group.byteCount)
      return "\(group.name): \(group.tensorCount) tensors, \(size), \(group.remark)"
    }
    lines.append("wrote \(ByteSize.words(report.byteCount)) of weights to \(report.directory)")
    return lines.joined(separator: "\n") + "\n"
  }

  private static func json(_ report: ConversionReport) -> JSONValue {
    [
      "directory": .string(report.directory), "written": .boolean(report.wasWritten),
      "bytes": .integer(report.byteCount),
      "groups": .array(
        report.groups.map { group in
          [
            "name": .string(group.name), "tensors": .integer(group.tensorCount),
            "bytes": .integer(group.byteCount), "remark": .string(group.remark),
          ]
        }),
    ]
  }
}
