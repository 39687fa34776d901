package import JSONScanning

/// The facts of a checkpoint, read from config.json and validated once.
package struct Step3Configuration: Sendable, Equatable {
  /// The registered class name, such as `Step3VLForConditionalGeneration`.
  package var architecture = "Step3VLForConditionalGeneration"
  /// The text decoder.
  package var text = TextConfiguration()
  /// The vision tower; nil for a text-only checkpoint.
  package var vision: VisionConfiguration?
  /// Stride of the first downsampling convolution after the tower.
  package var projectorStride = 1
  /// Whether the projector has a bias.
  package var projectorHasBias = true
  /// The id of `<im_patch>`.
  package var imageTokenID = 128_001
  /// Begin-of-sequence id, where the file names one.
  package var beginOfSequenceID: Int?
  /// End-of-sequence ids.
  package var endOfSequenceIDs: [Int] = []
  /// Every value in use with its origin, in the order of reading.
  package var entries: [ConfigurationEntry] = []

  /// The real model's class defaults.
  package init() {}
}

extension Step3Configuration {
  static let architectures = [
    "Step3VLForConditionalGeneration", "Step3vForConditionalGeneration", "Step3TextForCausalLM",
  ]

  /// Reads a parsed config.json; `path` is only for messages.
  package init(json: JSONValue, path: String) throws(ConfigurationError) {
    guard case .object = json else {
      throw .notJSON(path: path, reason: "the top level is not an object")
    }
    var top = ConfigurationReader(path: path, prefix: "", object: json)
    architecture = try Self.architecture(top)
    top.note("architectures", "[\"\(architecture)\"]", .file)
    let isTextOnly = architecture == "Step3TextForCausalLM"
    try checkQuantization(top)

    // Text-only checkpoints may be flat; the nested form wins where both could be meant.
    let nested = top.value("text_config")
    var reader = ConfigurationReader(
      path: path, prefix: nested == nil && isTextOnly ? "" : "text_config.",
      object: try Self.object(nested, "text_config", top)
        ?? (isTextOnly ? json : .object(JSONObject())))
    text = try TextConfiguration(&reader)

    if !isTextOnly {
      var visionReader = ConfigurationReader(
        path: path, prefix: "vision_config.",
        object: try Self.object(top.value("vision_config"), "vision_config", top)
          ?? .object(JSONObject()))
      vision = try VisionConfiguration(&visionReader)
      projectorStride = try top.integer("understand_projector_stride", classDefault: 1, in: 1...64)
      projectorHasBias = try top.bool("projector_bias", classDefault: true)
      imageTokenID = try top.integer("image_token_id", classDefault: 128_001, in: 0...(1 << 31))
      reader.append(visionReader.entries)
    }
    beginOfSequenceID = try top.integers("bos_token_id")?.first
    let outer = try top.integers("eos_token_id")
    let inner = try reader.integers("eos_token_id")
    endOfSequenceIDs = outer ?? inner ?? []
    entries = top.entries + reader.entries
  }

  private static func architecture(_ top: ConfigurationReader) throws(ConfigurationError) -> String
  {
    let modelType = try top.string("model_type")
    var names: [String] = []
    if case .array(let items)? = top.value("architectures") {
      for case .string(let name) in items { names.append(name) }
    }
    if let known = names.first(where: { architectures.contains($0) }) { return known }
    if let other = names.first {
      throw .otherArchitecture(path: top.path, found: other)
    }
    switch modelType {
    case "step3_vl": return "Step3VLForConditionalGeneration"
    case "step3_text": return "Step3TextForCausalLM"
    case let other?: throw .otherArchitecture(path: top.path, found: other)
    case nil:
      throw .otherArchitecture(
        path: top.path, found: "an unnamed model (neither architectures nor model_type is given)")
    }
  }

  private static func object(
    _ value: JSONValue?, _ key: String, _ top: ConfigurationReader
  ) throws(ConfigurationError) -> JSONValue? {
    guard let value else { return nil }
    guard case .object = value else { throw top.wrongType(key, "an object", value) }
    return value
  }
}

extension Step3Configuration {
  /// Takes the mixture layers from the checkpoint itself where config.json does not name them.
  ///
  /// The class default fits the real model's 61 layers only; a layer with a router is a mixture.
  package mutating func resolveMixtureLayers(hasRouter: (_ layer: Int) -> Bool) {
    if text.namesMixtureLayers { return }
    text.isMixtureLayer = (0..<text.layerCount).map(hasRouter)
    let layers = text.isMixtureLayer.indices.filter { text.isMixtureLayer[$0] }
    entries = entries.map { entry in
      guard entry.field.hasSuffix("moe_layers_enum") else { return entry }
      return ConfigurationEntry(
        field: entry.field, value: layers.map(String.init).joined(separator: ","),
        origin: .classDefault)
    }
  }
}
