extension LlamaSource {
  /// Reads a Llama-family GGUF file; what has no exact counterpart in Step3 is refused by name.
  package init(gguf path: String) throws(ConversionError) {
    let file: GGUFFile
    do throws(GGUFError) { file = try GGUFFile(path: path) } catch { throw .gguf(error) }
    try self.init(gguf: file)
  }

  /// Reads a Llama-family model from a GGUF file already opened.
  package init(gguf file: GGUFFile) throws(ConversionError) {
    let reader = GGUFFacts(file: file)
    try reader.checkArchitecture()
    try reader.checkKeys()
    let facts = try reader.configuration()
    try facts.validate(path: file.path)

    var inventory = TensorInventory(path: file.path, file.tensors.map { SourceTensor($0) })
    inventory.ignore { $0 == GGUFNames.rotaryDivisors }
    let weights = try inventory.takeModel(
      facts, embedding: GGUFNames.embedding, finalNorm: GGUFNames.finalNorm,
      output: GGUFNames.output, layerName: { GGUFNames.layer($0, $1) })
    try inventory.finish()

    self.path = file.path
    configuration = facts
    rowOrder = .interleavedPairs
    embedding = weights.embedding
    layers = weights.layers
    finalNorm = weights.finalNorm
    outputProjection = weights.output
    tokenizer = .vocabulary(try GGUFVocabulary(file, rowCount: facts.vocabularySize))
    provenance = try reader.provenance()
  }
}

/// Reads the hyperparameters of a GGUF file of architecture `llama`.
private struct GGUFFacts {
  let file: GGUFFile

  func get<Value>(
    _ body: () throws(GGUFError) -> Value
  ) throws(ConversionError) -> Value {
    do throws(GGUFError) { return try body() } catch { throw .gguf(error) }
  }

  private func count(_ key: String) throws(ConversionError) -> Int? {
    try get { () throws(GGUFError) in try file.count("llama." + key) }
  }

  private func number(_ key: String) throws(ConversionError) -> Double? {
    try get { () throws(GGUFError) in try file.number("llama." + key) }
  }

  private func string(_ key: String) throws(ConversionError) -> String? {
    try get { () throws(GGUFError) in try file.string(key) }
  }

  private func required(_ key: String) throws(ConversionError) -> Int {
    let value = try count(key)
    return try get { () throws(GGUFError) in try file.required("llama." + key, value) }
  }

  private func unsupported(_ key: String, _ value: String) -> ConversionError {
    .unsupportedFeature(path: file.path, feature: "llama." + key, value: value)
  }

  func checkArchitecture() throws(ConversionError) {
    let name = try get { () throws(GGUFError) in
      try file.required("general.architecture", try file.string("general.architecture"))
    }
    guard name == "llama" else {
      throw .unsupportedArchitecture(path: file.path, architecture: name)
    }
  }

  /// Hyperparameters that are read below, or that change nothing.
  private static let knownKeys: Set<String> = [
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
    "attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base",
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scaling.attn_factor", "rope.scale_linear", "expert_count",
    "expert_used_count", "attention.causal", "attention.sliding_window",
  ]

  /// Refuses hyperparameters whose meaning is not known: they might change the model.
  func checkKeys() throws(ConversionError) {
    for key in file.keys where key.hasPrefix("llama.") {
      guard Self.knownKeys.contains(String(key.dropFirst("llama.".count))) else {
        throw .unsupportedFeature(
          path: file.path, feature: key, value: file.metadata[key]?.summary ?? "")
      }
    }
    if let experts = try count("expert_count"), experts > 0 {
      throw unsupported("expert_count", "a mixture of \(experts) experts")
    }
    if let causal = try get({ () throws(GGUFError) in try file.bool("llama.attention.causal") }),
      !causal
    {
      throw unsupported("attention.causal", "false")
    }
    if let window = try count("attention.sliding_window"), window > 0,
      window < (try count("context_length") ?? .max)
    {
      throw unsupported("attention.sliding_window", "\(window)")
    }
  }

  func configuration() throws(ConversionError) -> LlamaConfiguration {
    let hidden = try required("embedding_length")
    let heads = try required("attention.head_count")
    guard heads > 0 else {
      throw .invalidConfiguration(
        path: file.path, field: "llama.attention.head_count", value: "0",
        expected: "a positive number")
    }
    let dimension = try count("attention.key_length") ?? hidden / heads
    for key in ["attention.value_length", "rope.dimension_count"] {
      if let other = try count(key), other != dimension {
        throw unsupported(key, "\(other), while the head dimension is \(dimension)")
      }
    }
    guard let table = file.tensor(GGUFNames.embedding), table.shape.count == 2 else {
      throw .missingTensor(path: file.path, tensor: GGUFNames.embedding)
    }
    let epsilonKey = "attention.layer_norm_rms_epsilon"
    let epsilon = try number(epsilonKey)
    return LlamaConfiguration(
      layerCount: try required("block_count"), hiddenSize: hidden, headCount: heads,
      groupCount: try count("attention.head_count_kv") ?? heads, headDimension: dimension,
      feedForwardSize: try required("feed_forward_length"), vocabularySize: table.shape[0],
      contextLength: try required("context_length"),
      normEpsilon: Float(
        try get { () throws(GGUFError) in try file.required("llama." + epsilonKey, epsilon) }),
      rotary: RotaryFrequencies(
        theta: try number("rope.freq_base") ?? 10000, scaling: try scaling()))
  }

  private func scaling() throws(ConversionError) -> RotaryFrequencies.Scaling {
    let type = try string("llama.rope.scaling.type") ?? "none"
    let linear = try number("rope.scale_linear")
    let factor = try number("rope.scaling.factor") ?? linear ?? 1
    if let divisors = file.tensor(GGUFNames.rotaryDivisors) {
      guard type == "none" || factor == 1 else {
        throw unsupported("rope.scaling.type", "\(type) together with \(divisors.name)")
      }
      return .divisors(SourceTensor(divisors).all().map(Double.init))
    }
    switch type {
    case "none", "linear":
      return factor == 1 ? .none : .linear(factor: factor)
    case "yarn":
      let original = try required("rope.scaling.original_context_length")
      let scale = try number("rope.scaling.attn_factor") ?? 1
      return .yarn(
        factor: factor, originalContext: Double(original), betaFast: 32, betaSlow: 1,
        truncates: true, attentionFactor: scale * RotaryFrequencies.yarnAttentionFactor(factor))
    default:
      throw unsupported("rope.scaling.type", type)
    }
  }

  func provenance() throws(ConversionError) -> Provenance {
    var names: [String] = []
    for tensor in file.tensors where !names.contains(tensor.type.name) {
      names.append(tensor.type.name)
    }
    return Provenance(
      name: try string("general.name"), organization: try string("general.organization"),
      license: try string("general.license"), encodings: names.sorted().joined(separator: ", "),
      licenseFiles: [])
  }
}
