import Foundation
import JSONScanning
import Tensors

extension LlamaSource {
  /// Opens a GGUF file or an HF folder.
  package init(path: String) throws(ConversionError) {
    guard let attributes = try? FileManager.default.attributesOfItem(atPath: path) else {
      throw .file(.notFound(path: path))
    }
    // A link is followed: what it leads to lists like a folder, or does not.
    let isFolder =
      attributes[.type] as? FileAttributeType == .typeDirectory
      || (try? FileManager.default.contentsOfDirectory(atPath: path)) != nil
    if isFolder {
      try self.init(folder: path)
    } else {
      try self.init(gguf: path)
    }
  }

  /// Whether the source is one GGUF file.
  var isGGUF: Bool { rowOrder == .interleavedPairs }

  /// Reads an HF folder: config.json, safetensors, tokenizer files.
  package init(folder: String) throws(ConversionError) {
    let configPath = folder + "/config.json"
    guard let data = FileManager.default.contents(atPath: configPath) else {
      throw .notASource(path: folder)
    }
    let json: JSONValue
    do throws(JSONError) { json = try JSONValue(parsing: [UInt8](data)) } catch {
      throw .malformedJSON(path: configPath, reason: error.description)
    }
    let facts = HuggingFaceFacts(path: configPath, json: json)
    let model = try facts.configuration()
    try model.validate(path: configPath)

    let files: CheckpointFiles
    do throws(SafetensorsError) { files = try CheckpointFiles(directory: folder) } catch {
      throw .checkpoint(error)
    }
    var tensors: [SourceTensor] = []
    var encodings: [String] = []
    for name in files.names {
      guard let tensor = files[name] else { continue }
      if name.hasSuffix(HuggingFaceNames.rotaryTableSuffix) { continue }
      let type: BlockType
      switch tensor.elementType {
      case .float32: type = .float32
      case .float16: type = .float16
      case .bfloat16: type = .bfloat16
      default:
        throw .unsupportedElementType(
          path: files.path(of: name), tensor: name, type: tensor.elementType.rawValue)
      }
      if !encodings.contains(type.name) { encodings.append(type.name) }
      tensors.append(
        SourceTensor(name: name, type: type, shape: tensor.shape, bytes: tensor.bytes))
    }
    var inventory = TensorInventory(path: folder, tensors)
    let weights = try inventory.takeModel(
      model, embedding: HuggingFaceNames.embedding, finalNorm: HuggingFaceNames.finalNorm,
      output: HuggingFaceNames.output, layerName: { HuggingFaceNames.layer($0, $1) })
    try inventory.finish()
    guard weights.output != nil || facts.isTied else {
      throw .missingTensor(path: folder, tensor: HuggingFaceNames.output)
    }

    self.path = folder
    configuration = model
    rowOrder = .halves
    embedding = weights.embedding
    layers = weights.layers
    finalNorm = weights.finalNorm
    // A tied model's head is its embedding even if a file carries a stale copy.
    outputProjection = facts.isTied ? nil : weights.output
    tokenizer = .folder(path: folder, ids: facts.specialIDs)
    provenance = Provenance(
      name: facts.name, organization: nil, license: nil,
      encodings: encodings.sorted().joined(separator: ", "),
      licenseFiles: Self.licenseFiles(in: folder))
  }

  private static func licenseFiles(in folder: String) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return names.filter { name in
      ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"].contains { name.uppercased().hasPrefix($0) }
    }.sorted().map { folder + "/" + $0 }
  }

  /// The files of a folder that the weights depend on.
  static func inputFiles(folder: String) throws(ConversionError) -> [String] {
    do throws(SafetensorsError) {
      return [folder + "/config.json"] + (try CheckpointFiles(directory: folder).files.map(\.path))
    } catch {
      throw .checkpoint(error)
    }
  }
}

extension TokenizerSource {
  /// The special ids, where the tokenizer is known.
  var specialIDs: SpecialIDs {
    switch self {
    case .vocabulary(let vocabulary): TokenizerExport.specialIDs(vocabulary)
    case .folder(_, let ids): ids
    }
  }
}

/// Reads config.json of a Llama-family model.
private struct HuggingFaceFacts {
  let path: String
  let json: JSONValue

  var name: String? { json["_name_or_path"]?.string.flatMap { $0.isEmpty ? nil : $0 } }
  var isTied: Bool { json["tie_word_embeddings"]?.boolean ?? false }

  var specialIDs: SpecialIDs {
    var ids = SpecialIDs()
    ids.begin = json["bos_token_id"]?.integer
    ids.padding = json["pad_token_id"]?.integer
    let end = json["eos_token_id"]
    ids.end = end?.array?.compactMap(\.integer) ?? end?.integer.map { [$0] } ?? []
    return ids
  }

  private func value(_ key: String) -> JSONValue? {
    json[key].flatMap { $0.isNull ? nil : $0 }
  }

  private func count(_ key: String) throws(ConversionError) -> Int? {
    guard let found = value(key) else { return nil }
    guard let number = found.integer else { throw wrong(key, found, "a whole number") }
    return number
  }

  private func required(_ key: String) throws(ConversionError) -> Int {
    guard let number = try count(key) else { throw .missingField(path: path, field: key) }
    return number
  }

  private func wrong(_ key: String, _ found: JSONValue, _ expected: String) -> ConversionError {
    .invalidConfiguration(path: path, field: key, value: found.text(), expected: expected)
  }

  private func unsupported(_ key: String, _ found: JSONValue) -> ConversionError {
    .unsupportedFeature(path: path, feature: key, value: found.text())
  }

  /// Features that have no counterpart, by the value that means they are off.
  private static let switchedOff: [(key: String, off: [JSONValue])] = [
    ("attention_bias", [false]), ("mlp_bias", [false]), ("qkv_bias", [false]),
    ("use_bias", [false]), ("hidden_act", ["silu", "swish"]), ("partial_rotary_factor", [1]),
    ("quantization_config", []), ("num_local_experts", [0]), ("num_experts", [0]),
    ("qk_norm", [false]), ("use_qk_norm", [false]), ("logit_scale", [1]),
    ("embedding_multiplier", [1]), ("residual_multiplier", [1]), ("attention_multiplier", []),
    ("logits_scaling", [1]), ("final_logit_softcapping", []), ("attn_logit_softcapping", []),
    ("no_rope_layers", [[]]),
  ]

  func configuration() throws(ConversionError) -> LlamaConfiguration {
    let type = json["model_type"]?.string ?? "none"
    guard ["llama", "mistral"].contains(type) else {
      throw .unsupportedArchitecture(path: path, architecture: type)
    }
    for (key, off) in Self.switchedOff {
      guard let found = value(key), !off.contains(found) else { continue }
      if let number = found.number, number == off.first?.number { continue }
      throw unsupported(key, found)
    }
    if let types = value("layer_types") {
      guard types.array?.allSatisfy({ $0 == "full_attention" }) == true else {
        throw unsupported("layer_types", types)
      }
    }
    let context = try required("max_position_embeddings")
    if let window = try count("sliding_window"), window < context {
      throw unsupported("sliding_window", .integer(window))
    }
    let hidden = try required("hidden_size")
    let heads = try required("num_attention_heads")
    guard heads > 0 else { throw wrong("num_attention_heads", .integer(heads), "above 0") }
    guard let epsilon = value("rms_norm_eps")?.number else {
      throw .missingField(path: path, field: "rms_norm_eps")
    }
    return LlamaConfiguration(
      layerCount: try required("num_hidden_layers"), hiddenSize: hidden, headCount: heads,
      groupCount: try count("num_key_value_heads") ?? heads,
      headDimension: try count("head_dim") ?? hidden / heads,
      feedForwardSize: try required("intermediate_size"),
      vocabularySize: try required("vocab_size"), contextLength: context,
      normEpsilon: Float(epsilon), rotary: try rotary(context: context))
  }

  private func rotary(context: Int) throws(ConversionError) -> RotaryFrequencies {
    let scaling = value("rope_parameters") ?? value("rope_scaling")
    let theta = scaling?["rope_theta"]?.number ?? value("rope_theta")?.number ?? 10000
    guard let scaling else { return RotaryFrequencies(theta: theta, scaling: .none) }
    let type = scaling["rope_type"]?.string ?? scaling["type"]?.string ?? "default"
    func number(_ key: String, _ standard: Double?) throws(ConversionError) -> Double {
      if let found = scaling[key], !found.isNull {
        guard let number = found.number else { throw wrong(key, found, "a number") }
        return number
      }
      guard let standard else { throw .missingField(path: path, field: "rope_scaling." + key) }
      return standard
    }
    let original = "original_max_position_embeddings"
    switch type {
    case "default": return RotaryFrequencies(theta: theta, scaling: .none)
    case "linear":
      return RotaryFrequencies(theta: theta, scaling: .linear(factor: try number("factor", nil)))
    case "llama3":
      return RotaryFrequencies(
        theta: theta,
        scaling: .llama3(
          factor: try number("factor", nil), lowFrequencyFactor: try number("low_freq_factor", nil),
          highFrequencyFactor: try number("high_freq_factor", nil),
          originalContext: try number(original, nil)))
    case "yarn":
      for key in ["mscale", "mscale_all_dim"] {
        if let found = scaling[key], !found.isNull {
          throw unsupported("rope_scaling." + key, found)
        }
      }
      let factor = try number("factor", nil)
      return RotaryFrequencies(
        theta: theta,
        scaling: .yarn(
          factor: factor, originalContext: try number(original, Double(context)),
          betaFast: try number("beta_fast", 32), betaSlow: try number("beta_slow", 1),
          truncates: scaling["truncate"]?.boolean ?? true,
          attentionFactor: try number(
            "attention_factor", RotaryFrequencies.yarnAttentionFactor(factor))))
    default: throw unsupported("rope_scaling.rope_type", .string(type))
    }
  }
}
