package import JSONScanning
import ModelConfiguration

// Reads the config.json of any supported attention family into an architecture.
//
// Step3 goes through the engine's own reader, so that both agree on every default. The other
// families share their key names in practice, so the family is told by the keys that only it has:
// kv_lora_rank for MLA, attn_type_list for lightning hybrids, heads otherwise.

extension ModelArchitecture {
  /// Reads a parsed config.json; `name` is how the model will be called.
  package init(
    configuration document: JSONValue, name: String, file: String
  ) throws(CostModelError) {
    let reader = try CheckpointReader(document, file: file)
    if reader.isStep3 {
      try self.init(step3: document, name: name, file: file)
      return
    }
    try reader.refuseUnknownFamilies()
    let layerCount = try reader.count("num_hidden_layers", "n_layer")
    let hidden = try reader.count("hidden_size", "n_embd")
    let limit = try reader.optionalCount("max_position_embeddings", "n_positions") ?? 131_072
    self.init(
      name: name, title: name, aliases: [], layerCount: layerCount, hiddenDimension: hidden,
      vocabularySize: try reader.count("vocab_size"),
      hasTiedEmbeddings: reader.isOn("tie_word_embeddings"), contextLimit: limit,
      trainedContext: nil, publishedParameterCount: nil,
      attention: try reader.attentionGroups(layerCount: layerCount, hidden: hidden),
      feedForward: try reader.feedForwardGroups(layerCount: layerCount),
      evidence: file, doubts: [])
  }

  private init(step3 document: JSONValue, name: String, file: String) throws(CostModelError) {
    let text: TextConfiguration
    do {
      text = try Step3Configuration(json: document, path: file).text
    } catch {
      throw .malformedDocument(file: file, place: "configuration", fact: error.description)
    }
    let all = Array(0..<text.layerCount)
    let mixture = all.filter { text.isMixtureLayer[$0] }
    let dense = all.filter { !text.isMixtureLayer[$0] }
    var groups: [FeedForwardGroup] = []
    if !dense.isEmpty {
      groups.append(.dense(layers: dense, width: text.denseWidth))
    }
    if !mixture.isEmpty {
      groups.append(
        FeedForwardGroup(
          layers: mixture, denseWidth: 0, expertCount: text.expertCount,
          topK: text.expertsPerToken, expertWidth: text.expertWidth,
          sharedExpertCount: text.sharedExpertWidth > 0 ? 1 : 0,
          sharedWidth: text.sharedExpertWidth))
    }
    self.init(
      name: name, title: name, aliases: [], layerCount: text.layerCount,
      hiddenDimension: text.hiddenSize, vocabularySize: text.vocabularySize,
      hasTiedEmbeddings: false, contextLimit: text.contextLength, trainedContext: nil,
      publishedParameterCount: nil,
      attention: [
        AttentionGroup(
          layers: all,
          shape: .multiMatrix(
            heads: text.headCount, headDimension: text.headDimension,
            queryRank: text.sharedQueryDimension),
          window: nil, storageByteCount: 1)
      ],
      feedForward: groups, evidence: file, doubts: [])
  }
}

extension FeedForwardGroup {
  static func dense(layers: [Int], width: Int) -> FeedForwardGroup {
    FeedForwardGroup(
      layers: layers, denseWidth: width, expertCount: 0, topK: 0, expertWidth: 0,
      sharedExpertCount: 0, sharedWidth: 0)
  }
}

/// The members of a config.json that describe the text model.
private struct CheckpointReader {
  let file: String
  let modelType: String
  private let object: JSONObject
  private let architectures: [String]

  init(_ document: JSONValue, file: String) throws(CostModelError) {
    guard let top = document.object else {
      throw .malformedDocument(file: file, place: "document", fact: "an object was expected")
    }
    object = top["text_config"]?.object ?? top
    architectures = (top["architectures"]?.array ?? []).compactMap(\.string)
    modelType = object["model_type"]?.string ?? top["model_type"]?.string ?? ""
    self.file = file
  }

  var isStep3: Bool {
    modelType.hasPrefix("step3") || architectures.contains { $0.hasPrefix("Step3") }
      || object["share_q_dim"] != nil
  }

  func refuseUnknownFamilies() throws(CostModelError) {
    let foreign = ["mamba", "rwkv", "jamba", "griffin", "recurrent", "hyena", "bamba", "zamba"]
    let type = modelType.lowercased()
    let isForeign =
      foreign.contains { type.contains($0) } || object["linear_num_value_heads"] != nil
      || object["ssm_cfg"] != nil || object["mamba_d_state"] != nil
    let hasHeads = object["num_attention_heads"] != nil || object["n_head"] != nil
    guard hasHeads, !isForeign else {
      let shown = modelType.isEmpty ? architectures.first ?? "(none given)" : modelType
      throw .unsupportedModelType(file: file, modelType: shown)
    }
  }

  func optionalCount(_ keys: String...) throws(CostModelError) -> Int? {
    for key in keys {
      guard let value = object[key], !value.isNull else { continue }
      guard let count = value.integer, count >= 0, count < 1 << 40 else {
        throw failure("\"\(key)\" must be a whole number")
      }
      return count
    }
    return nil
  }

  func count(_ keys: String...) throws(CostModelError) -> Int {
    for key in keys {
      if let count = try optionalCount(key) {
        guard count > 0 else { throw failure("\"\(key)\" must be positive") }
        return count
      }
    }
    throw failure("\"\(keys[0])\" is missing")
  }

  func isOn(_ key: String) -> Bool { object[key]?.boolean ?? false }

  private func failure(_ fact: String) -> CostModelError {
    .malformedDocument(file: file, place: "configuration", fact: fact)
  }

  private func list(_ key: String, layerCount: Int) throws(CostModelError) -> [JSONValue]? {
    guard let values = object[key]?.array else { return nil }
    guard values.count == layerCount else {
      throw failure("\"\(key)\" has \(values.count) entries for \(layerCount) layers")
    }
    return values
  }

  // MARK: Attention

  func attentionGroups(layerCount: Int, hidden: Int) throws(CostModelError) -> [AttentionGroup] {
    let heads = try count("num_attention_heads", "n_head")
    let all = Array(0..<layerCount)
    if let rank = try optionalCount("kv_lora_rank") {
      let shape = AttentionShape.latent(
        heads: heads, queryRank: try optionalCount("q_lora_rank"), kvRank: rank,
        ropeDimension: try count("qk_rope_head_dim"),
        nopeDimension: try count("qk_nope_head_dim"), valueDimension: try count("v_head_dim"))
      return [AttentionGroup(layers: all, shape: shape, window: nil, storageByteCount: 1)]
    }
    let kvHeads = try optionalCount("num_key_value_heads", "multi_query_group_num") ?? heads
    let dimension = try optionalCount("head_dim") ?? hidden / heads
    guard kvHeads > 0, heads % kvHeads == 0, dimension > 0 else {
      throw failure("num_key_value_heads must divide num_attention_heads")
    }
    let shape = AttentionShape.grouped(heads: heads, kvHeads: kvHeads, headDimension: dimension)
    if let types = try list("attn_type_list", layerCount: layerCount) {
      let linear = all.filter { types[$0].integer == 0 }
      return groups(
        full: all.filter { !linear.contains($0) }, shape, other: linear,
        AttentionGroup(
          layers: linear, shape: .lightning(heads: heads, headDimension: dimension), window: nil,
          storageByteCount: 4))
    }
    let windowed = try windowedLayers(layerCount: layerCount)
    let window = try optionalCount("attention_chunk_size", "sliding_window") ?? 0
    guard window > 0, !windowed.isEmpty else {
      return [AttentionGroup(layers: all, shape: shape, window: nil, storageByteCount: 1)]
    }
    return groups(
      full: all.filter { !windowed.contains($0) }, shape, other: windowed,
      AttentionGroup(layers: windowed, shape: shape, window: window, storageByteCount: 1))
  }

  /// Full layers of a hybrid keep BF16 KV, as the report takes them; nothing else is hybrid.
  private func groups(
    full: [Int], _ shape: AttentionShape, other: [Int], _ group: AttentionGroup
  ) -> [AttentionGroup] {
    guard !full.isEmpty else { return [group] }
    let growing = AttentionGroup(
      layers: full, shape: shape, window: nil, storageByteCount: other.isEmpty ? 1 : 2)
    return other.isEmpty ? [growing] : [growing, group]
  }

  /// Layers that see a window only, by whichever of the customary keys says so.
  private func windowedLayers(layerCount: Int) throws(CostModelError) -> [Int] {
    let all = Array(0..<layerCount)
    if let types = try list("layer_types", layerCount: layerCount) {
      return all.filter { (types[$0].string ?? "").contains("full") == false }
    }
    if let rotary = try list("no_rope_layers", layerCount: layerCount) {
      return all.filter { rotary[$0].integer == 1 }
    }
    if object["attention_chunk_size"]?.integer != nil {
      let interval = try optionalCount("no_rope_layer_interval") ?? 4
      return all.filter { ($0 + 1) % max(1, interval) != 0 }
    }
    if let pattern = try optionalCount("sliding_window_pattern"), pattern > 0 {
      return all.filter { ($0 + 1) % pattern != 0 }
    }
    guard object["sliding_window"]?.integer != nil else { return [] }
    if object["use_sliding_window"] != nil, !isOn("use_sliding_window") { return [] }
    return all.filter { $0 >= (object["max_window_layers"]?.integer ?? 0) }
  }

  // MARK: Feed-forward

  func feedForwardGroups(layerCount: Int) throws(CostModelError) -> [FeedForwardGroup] {
    let all = Array(0..<layerCount)
    let experts =
      try optionalCount(
        "n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts") ?? 0
    guard experts > 1 else {
      return [.dense(layers: all, width: try count("intermediate_size", "n_inner"))]
    }
    let mixture = try mixtureLayers(layerCount: layerCount)
    let dense = all.filter { !mixture.contains($0) }
    let width = try count("moe_intermediate_size", "expert_intermediate_size", "intermediate_size")
    let shared = try sharedExperts(width: width)
    let routed = FeedForwardGroup(
      layers: mixture, denseWidth: 0, expertCount: experts,
      topK: try count("num_experts_per_tok", "moe_k", "moe_topk"), expertWidth: width,
      sharedExpertCount: shared.count, sharedWidth: shared.width)
    guard routed.topK <= experts else {
      throw failure("more experts per token than the \(experts) there are")
    }
    guard !dense.isEmpty else { return [routed] }
    let denseWidth = try count("intermediate_size_mlp", "intermediate_size", "n_inner")
    return [.dense(layers: dense, width: denseWidth), routed]
  }

  private func sharedExperts(width: Int) throws(CostModelError) -> (count: Int, width: Int) {
    if let whole = try optionalCount("shared_expert_intermediate_size"), whole > 0 {
      return (1, whole)
    }
    if modelType.hasPrefix("llama4") { return (1, width) }
    let count = try optionalCount("n_shared_experts", "num_shared_experts") ?? 0
    return (count, count * width)
  }

  private func mixtureLayers(layerCount: Int) throws(CostModelError) -> [Int] {
    let all = Array(0..<layerCount)
    if let named = object["moe_layers"]?.array {
      return named.compactMap(\.integer).filter { $0 >= 0 && $0 < layerCount }.sorted()
    }
    if modelType.hasPrefix("llama4") {
      let step = max(1, try optionalCount("interleave_moe_layer_step") ?? 1)
      return all.filter { ($0 + 1) % step == 0 }
    }
    let first = try optionalCount("first_k_dense_replace", "moe_layer_start_index") ?? 0
    let last = try optionalCount("moe_layer_end_index") ?? layerCount - 1
    let interval = max(
      1, try optionalCount("moe_layer_freq", "moe_layer_interval", "decoder_sparse_step") ?? 1)
    let dense = Set((object["mlp_only_layers"]?.array ?? []).compactMap(\.integer))
    let isCountedFromOne = object["decoder_sparse_step"] != nil
    return all.filter { layer in
      let place = isCountedFromOne ? layer + 1 : layer
      return layer >= first && layer <= last && place % interval == 0 && !dense.contains(layer)
    }
  }
}
