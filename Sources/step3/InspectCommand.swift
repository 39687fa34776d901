import CommandLineInterface
import Inference
import JSONScanning
import KVCaching
import Kernels
import ModelConfiguration
import Step3Model
import Tensors

/// `step3 inspect`: what a checkpoint is, and what it takes to run it.
struct InspectCommand: Command {
  static let specification = CommandSpecification(
    "inspect", abstract: "Show what a checkpoint is and what it takes to run it.",
    example: "step3 inspect --model DIR --context 8192", takesModel: true,
    flags: [
      .integer("context", in: 1...(1 << 31), help: "tokens to plan memory for (the model's)"),
      ModelFlags.dtype, ModelFlags.cacheType,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    let report = try CheckpointReport(
      ModelFolder(path: arguments.model), options: ModelFlags.options(arguments),
      context: arguments.optionalInteger("context"))
    StandardOutput.write(
      arguments.wantsJSON ? report.json.text() + "\n" : report.text)
  }
}

/// The facts that `inspect` prints.
private struct CheckpointReport {
  let folder: ModelFolder
  let traffic: ModelTraffic
  let activation: ActivationType
  let context: Int
  let cacheByteCount: Int
  let tower: TowerFacts?
  let warnings: [String]
  let bandwidth: Double

  init(_ folder: ModelFolder, options: EngineOptions, context requested: Int?) throws {
    self.folder = folder
    let text = folder.configuration.text
    context = requested ?? text.contextLength
    guard context <= text.contextLength else {
      throw InferenceError.contextTooLong(requested: context, contextLength: text.contextLength)
    }
    activation = options.resolvedActivation(weightByteCount: folder.textByteCount)
    let layout = KVLayout(
      elementType: options.cacheType ?? (activation == .float32 ? .float32 : .bfloat16),
      blockSize: options.blockSize, headDimension: text.headDimension)
    let blocks = (context + options.blockSize - 1) / options.blockSize
    cacheByteCount = KVStore.byteCount(
      layout: layout, layerCount: text.layerCount, blockCount: blocks)
    let kernels: KernelSet
    do { kernels = try KernelSet.select(options.kernels) } catch {
      throw InferenceError.kernels(error)
    }
    let compute = Compute(kernels: kernels, threadCount: options.threads)
    var loader = ModelLoader(files: folder.files, configuration: text)
    let halves = try loader.load(activation: activation, compute: compute)
    traffic = ModelTraffic(decoder: halves.decoder, feedForward: halves.feedForward)
    tower = try TowerFacts(folder, activation: activation, compute: compute)
    let absent = text.absentMixtureLayers.map {
      "moe_layers_enum names layer \($0), which the model does not have"
    }
    warnings = absent + loader.unusedNames.map { "tensor \($0) is not used" }
    bandwidth =
      MachineLimits.measureRead(
        team: compute.team, byteCount: 256 << 20, repeats: 3
      ).median
  }

  /// Weights, tower and cache.
  private var totalByteCount: Int {
    folder.textByteCount + folder.visionByteCount + cacheByteCount
  }

  /// Bytes that a decode step of one sequence reads at the planned context.
  var decodeByteCount: Double { traffic.byteCount(batch: 1) + Double(cacheByteCount) }

  /// Element types of the tensors: how many, and their bytes.
  var elementTypes: [(type: ElementType, tensorCount: Int, byteCount: Int)] {
    ElementType.allCases.compactMap { type in
      let tensors = folder.files.names.compactMap { folder.files[$0] }
        .filter { $0.elementType == type }
      guard !tensors.isEmpty else { return nil }
      return (type, tensors.count, tensors.reduce(0) { $0 + $1.bytes.byteCount })
    }
  }

  var json: JSONValue {
    var parts = JSONObject()
    for part in ModelTraffic.Part.allCases {
      if let count = traffic.parameterCounts[part] { parts[part.rawValue] = .integer(count) }
    }
    var types = JSONObject()
    for entry in elementTypes {
      types[entry.type.rawValue] = [
        "tensors": .integer(entry.tensorCount), "bytes": .integer(entry.byteCount),
      ]
    }
    return [
      "architecture": .string(folder.configuration.architecture),
      "configuration": .array(
        folder.configuration.entries.map {
          [
            "field": .string($0.field), "value": .string($0.value),
            "origin": .string($0.origin.rawValue),
          ]
        }),
      "parameters": [
        "total": .integer(traffic.parameterCount), "active": .integer(traffic.activeParameterCount),
        "parts": .object(parts),
      ],
      "dtypes": .object(types),
      "bytes_on_disk": .integer(folder.files.byteCount),
      "memory": [
        "context": .integer(context), "weights": .integer(folder.textByteCount),
        "kv_cache": .integer(cacheByteCount), "vision_weights": .integer(folder.visionByteCount),
        "total": .integer(totalByteCount),
      ],
      "vision": tower?.json ?? .null,
      "decode_roofline": [
        "bytes_per_token": .number(decodeByteCount),
        "read_bandwidth": .number(bandwidth),
        "tokens_per_second": .number(bandwidth / decodeByteCount),
      ],
      "activations": .string(activation.rawValue),
      "warnings": .array(warnings.map { .string($0) }),
    ]
  }

  var text: String {
    var lines = ["\(folder.path): \(folder.configuration.architecture)", "", "configuration"]
    for entry in folder.configuration.entries {
      let mark = entry.origin == .file ? "" : "  (default)"
      lines.append("  \(pad(entry.field, 44))\(entry.value.prefix(80))\(mark)")
    }
    lines += ["", "parameters"]
    for part in ModelTraffic.Part.allCases {
      if let count = traffic.parameterCounts[part] {
        lines.append("  \(pad(part.rawValue, 20))\(count)")
      }
    }
    lines.append("  \(pad("total", 20))\(traffic.parameterCount)")
    lines.append("  \(pad("active per token", 20))\(traffic.activeParameterCount)")
    lines += ["", "tensors"]
    for entry in elementTypes {
      lines.append(
        "  \(pad(entry.type.rawValue, 20))\(entry.tensorCount) tensors, "
          + "\(megabytes(Double(entry.byteCount)))")
    }
    lines += tower?.lines ?? []
    lines += [
      "", "memory at a context of \(context) tokens, activations \(activation.rawValue)",
      "  \(pad("weights", 20))\(megabytes(Double(folder.textByteCount)))",
      "  \(pad("vision weights", 20))\(megabytes(Double(folder.visionByteCount)))",
      "  \(pad("KV cache", 20))\(megabytes(Double(cacheByteCount)))",
      "  \(pad("together", 20))\(megabytes(Double(totalByteCount)))",
      "  \(pad("on disk", 20))\(megabytes(Double(folder.files.byteCount)))", "",
      "decode roofline of this machine at that context",
      "  \(pad("read per token", 20))\(megabytes(decodeByteCount))",
      "  \(pad("read bandwidth", 20))\(megabytes(bandwidth))/s",
      "  \(pad("at most", 20))\(rounded(bandwidth / decodeByteCount)) tokens/s",
    ]
    if !warnings.isEmpty { lines += ["", "warnings"] + warnings.map { "  " + $0 } }
    return lines.joined(separator: "\n") + "\n"
  }

  private func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }

  private func megabytes(_ bytes: Double) -> String { "\(rounded(bytes / 1e6)) MB" }

  private func rounded(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
}
