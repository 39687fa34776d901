import JSONScanning

/// The facts of the text decoder: every dimension, read from `text_config` and validated.
///
/// Defaults are those of the published configuration class; the real model uses them all.
package struct TextConfiguration: Sendable, Equatable {
  /// D, width of the residual stream.
  package var hiddenSize = 7168
  /// Number of decoder layers.
  package var layerCount = 61
  /// H, query heads; all of them share one key and one value head.
  package var headCount = 64
  /// d, width of a head, of the key and of the value.
  package var headDimension = 256
  /// Q, width of the shared low-rank query.
  package var sharedQueryDimension = 2048
  /// F of dense layers.
  package var denseWidth = 18432
  /// E, routed experts of a mixture layer.
  package var expertCount = 48
  /// K, experts that a token is sent to.
  package var expertsPerToken = 3
  /// F of one routed expert.
  package var expertWidth = 5120
  /// F of the shared expert.
  package var sharedExpertWidth = 5120
  /// Whether the K weights are rescaled to sum to 1 (false in the real model).
  package var normalizesExpertWeights = false
  /// For each layer, whether its feed-forward is a mixture of experts.
  package var isMixtureLayer: [Bool] = (0..<61).map { (4...59).contains($0) }
  /// Layers that config.json names as mixtures and that the model does not have.
  package private(set) var absentMixtureLayers: [Int] = []
  /// Whether config.json names the mixture layers; where it does not, the checkpoint's tensors
  /// decide (see `resolveMixtureLayers`).
  package private(set) var namesMixtureLayers = false
  /// V, rows of the embedding table and of the output head.
  package var vocabularySize = 128_815
  /// ε of every RMSNorm.
  package var normEpsilon = 1e-5
  /// Rotary position embedding.
  package var rotary = RotaryConfiguration()
  /// Longest context in tokens.
  package var contextLength = 65_536

  /// The real model's facts.
  package init() {}
}

extension TextConfiguration {
  init(_ reader: inout ConfigurationReader) throws(ConfigurationError) {
    let standard = TextConfiguration()
    hiddenSize = try reader.integer("hidden_size", classDefault: standard.hiddenSize)
    layerCount = try reader.integer(
      "num_hidden_layers", classDefault: standard.layerCount, in: 1...4096)
    headCount = try reader.integer(
      "num_attention_heads", classDefault: standard.headCount, in: 1...65_536)
    let groups = try reader.integer("num_attention_groups", classDefault: 1, in: 1...65_536)
    guard groups == 1 else {
      throw reader.unsupported(
        "num_attention_groups", "\(groups)", "MFA has one key and one value head")
    }
    headDimension = try reader.integer(
      "head_dim", classDefault: standard.headDimension, in: 2...65_536)
    guard headDimension.isMultiple(of: 2) else {
      throw reader.unsupported(
        "head_dim", "\(headDimension)", "rotary embedding pairs dimensions, so it must be even")
    }
    let shared = try reader.integer(
      "share_q_dim", classDefault: standard.sharedQueryDimension, in: 0...(1 << 31))
    sharedQueryDimension = shared == 0 ? headDimension : shared
    denseWidth = try reader.integer("intermediate_size", classDefault: standard.denseWidth)
    expertCount = try reader.integer(
      "moe_num_experts", classDefault: standard.expertCount, in: 1...65_536)
    expertsPerToken = try reader.integer(
      "moe_top_k", classDefault: standard.expertsPerToken, in: 1...65_536)
    expertWidth = try reader.integer("moe_intermediate_size", classDefault: standard.expertWidth)
    sharedExpertWidth = try reader.integer(
      "share_expert_dim", classDefault: standard.sharedExpertWidth)
    normalizesExpertWeights = try reader.bool("norm_expert_weight", classDefault: false)
    vocabularySize = try reader.integer("vocab_size", classDefault: standard.vocabularySize)
    normEpsilon = try reader.positive("rms_norm_eps", classDefault: standard.normEpsilon)
    contextLength = try Self.contextLength(&reader)
    (isMixtureLayer, absentMixtureLayers) = try Self.mixtureLayers(
      &reader, layerCount: layerCount)
    namesMixtureLayers = reader.has("moe_layers_enum")
    rotary = try RotaryConfiguration(
      &reader, headDimension: headDimension, contextLength: contextLength)
    if isMixtureLayer.contains(true), expertsPerToken > expertCount {
      throw reader.unsupported(
        "moe_top_k", "\(expertsPerToken)", "there are only \(expertCount) experts")
    }
  }

  /// `max_position_embedding` is singular in published files; the plural and `max_seq_len` are
  /// accepted where it is absent.
  private static func contextLength(
    _ reader: inout ConfigurationReader
  ) throws(ConfigurationError) -> Int {
    for key in ["max_position_embedding", "max_position_embeddings", "max_seq_len"]
    where reader.value(key) != nil {
      return try reader.integer(key, classDefault: 65_536)
    }
    return try reader.integer("max_position_embedding", classDefault: 65_536)
  }

  /// Which layers are mixtures. Published files write the string "4,5,…,59"; lists occur, null
  /// means all but layer 0, and "" or "-1" mean none. An absent key means the class default, layers
  /// 4 to 59 as far as there are such.
  private static func mixtureLayers(
    _ reader: inout ConfigurationReader, layerCount: Int
  ) throws(ConfigurationError) -> (isMixture: [Bool], absent: [Int]) {
    let key = "moe_layers_enum"
    var layers: [Int]
    var origin = ValueOrigin.file
    switch reader.value(key) {
    case nil:
      let isNull = reader.has(key)
      layers = isNull ? Array(1..<max(1, layerCount)) : (4...59).filter { $0 < layerCount }
      if !isNull { origin = .classDefault }
    case .string(let text)?:
      layers = []
      for part in text.split(separator: ",", omittingEmptySubsequences: true) {
        let words = part.split(separator: " ")
        if words.isEmpty { continue }
        guard words.count == 1, let layer = Int(words[0]) else {
          throw reader.unsupported(key, "\"\(text)\"", "\"\(part)\" is not a layer number")
        }
        layers.append(layer)
      }
    default:
      layers = try reader.integers(key) ?? []
    }
    layers.removeAll { $0 == -1 }
    if let negative = layers.first(where: { $0 < 0 }) {
      throw reader.unsupported(key, "\(negative)", "layers count from 0")
    }
    // Shortened models keep the full model's list; the published engines pass over the rest.
    let absent = layers.filter { $0 >= layerCount }
    layers.removeAll { $0 >= layerCount }
    reader.note(key, layers.map(String.init).joined(separator: ","), origin)
    var isMixture = [Bool](repeating: false, count: layerCount)
    for layer in layers { isMixture[layer] = true }
    return (isMixture, absent)
  }
}
