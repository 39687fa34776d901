import Foundation
import JSONScanning
import Kernels
import Tensors

/// The config.json and the model card of a quantised checkpoint.
struct QuantizedConfiguration {
  static var indented: JSONFormat {
    var format = JSONFormat()
    format.indent = 2
    return format
  }

  private let configuration: JSONObject
  private let sourceCard: String?

  /// Reads the source's files.
  init(source: String) throws(QuantizationError) {
    let path = source + "/config.json"
    guard let data = FileManager.default.contents(atPath: path) else {
      throw .badConfiguration(path: path, reason: "no such file")
    }
    do {
      guard let object = try JSONValue(parsing: [UInt8](data), duplicateKeys: .keepLast).object
      else { throw QuantizationError.badConfiguration(path: path, reason: "is no JSON object") }
      configuration = object
    } catch { throw .badConfiguration(path: path, reason: "\(error)") }
    sourceCard = try? String(contentsOfFile: source + "/README.md", encoding: .utf8)
  }

  /// The source's config.json with a description of how matrices are stored.
  func text(_ plan: QuantizationPlan, _ options: JSONValue) -> String {
    var result = configuration
    result["quantization_config"] = Self.description(plan)
    return JSONValue.object(result).text(Self.indented) + "\n"
  }

  /// `fp8` with blocks, as published, or compressed-tensors.
  private static func description(_ plan: QuantizationPlan) -> JSONValue {
    let entries = plan.shards.joined()
    let isMatrix = { (entry: QuantizationPlan.Entry) in entry.tensor.shape.count > 1 }
    let kept = entries.filter { $0.storage == .kept && isMatrix($0) }.map { module($0.tensor.name) }
    if entries.contains(where: { $0.storage == .e4m3 }) {
      return [
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": .array(kept.map { .string($0) }),
      ]
    }
    // The largest group is the rule, "Linear"; the others name their modules.
    var byStorage: [(storage: WeightStorage, modules: [String], byteCount: Int)] = []
    for entry in entries where entry.storage != .kept {
      let place =
        byStorage.firstIndex { $0.storage == entry.storage }
        ?? {
          byStorage.append((entry.storage, [], 0))
          return byStorage.count - 1
        }()
      byStorage[place].modules.append(module(entry.tensor.name))
      byStorage[place].byteCount += entry.tensor.bytes.byteCount
    }
    byStorage.sort { $0.byteCount > $1.byteCount }
    var groups = JSONObject()
    for (index, group) in byStorage.enumerated() {
      groups["group_\(index)"] = [
        "targets": index == 0 ? ["Linear"] : .array(group.modules.map { .string($0) }),
        "weights": weights(group.storage, plan), "input_activations": .null,
        "output_activations": .null, "format": .string(format(group.storage)),
      ]
    }
    let formats = Set(byStorage.map { format($0.storage) })
    return [
      "quant_method": "compressed-tensors",
      "format": .string(formats.count == 1 ? formats.first ?? "" : "mixed-precision"),
      "quantization_status": "compressed", "config_groups": .object(groups),
      "ignore": .array(kept.map { .string($0) }),
    ]
  }

  private static func weights(_ storage: WeightStorage, _ plan: QuantizationPlan) -> JSONValue {
    var bits = 8
    var size: Int?
    switch storage {
    case .int4(let group): (bits, size) = (4, group)
    case .int8(.columns(let group)): size = group
    default: break
    }
    return [
      "num_bits": .integer(bits), "type": "int",
      "symmetric": .boolean(bits == 8 || !plan.hasZeroPoints),
      "strategy": size == nil ? "channel" : "group",
      "group_size": size.map { .integer($0) } ?? .null, "dynamic": false, "actorder": .null,
      "observer": "mse",
    ]
  }

  private static func format(_ storage: WeightStorage) -> String {
    if case .int4 = storage { return "pack-quantized" }
    return "int-quantized"
  }

  private static func module(_ name: String) -> String {
    name.hasSuffix(".weight") ? String(name.dropLast(7)) : name
  }

  // MARK: The card

  /// The source's card with a note of what was done, or a short card.
  func card(
    _ plan: QuantizationPlan, _ options: JSONValue, source: CheckpointFiles
  ) -> String {
    var sizes: [String: (count: Int, bytes: Int)] = [:]
    for entry in plan.shards.joined() {
      let words = entry.storage.words(
        hasZeroPoints: plan.hasZeroPoints, entry.tensor.elementType)
      let bytes = plan.declarations(of: entry).reduce(0) { $0 + $1.byteCount }
      sizes[words, default: (0, 0)].count += 1
      sizes[words, default: (0, 0)].bytes += bytes
    }
    let before = source.names.reduce(0) { $0 + (source[$1]?.bytes.byteCount ?? 0) }
    var lines = [
      "## Quantisation", "",
      "The weights of this checkpoint were rounded by `step3 quantize --weights "
        + "\(options["weights"]?.string ?? "")`: factors chosen for the least squared error"
        + (options["feedback"] == true ? ", rounding errors fed back by a calibration text" : "")
        + ". Tensors: \(before) bytes before, \(plan.byteCount) after.", "",
      "| stored as | tensors | bytes |", "|---|---|---|",
    ]
    for key in sizes.keys.sorted() {
      lines.append("| \(key) | \(sizes[key]?.count ?? 0) | \(sizes[key]?.bytes ?? 0) |")
    }
    let note = lines.joined(separator: "\n") + "\n"
    guard let sourceCard else { return "# A quantised Step3 checkpoint\n\n" + note }
    return sourceCard + (sourceCard.hasSuffix("\n") ? "\n" : "\n\n") + note
  }
}
