/// The names of tensors in published checkpoints: the only place that knows them.
///
/// Published files name text tensors `model.layers.…`; files that were saved again by the
/// transformers library say `model.language_model.layers.…`. The output head has one name in both.
package struct WeightNames: Sendable {
  /// `model.` or `model.language_model.`.
  package let prefix: String

  /// Finds out which prefix a checkpoint uses.
  package init(isNested: Bool) {
    prefix = isNested ? Self.nestedPrefix : "model."
  }

  /// The prefix that re-saved checkpoints use for text tensors.
  package static let nestedPrefix = "model.language_model."
  /// A tensor that only checkpoints with the nested prefix have.
  package static let nestedEmbedding = nestedPrefix + "embed_tokens.weight"
  /// The name suffix of the block scales of an E4M3 tensor; they multiply.
  package static let scaleSuffix = "_scale_inv"
  /// The name suffix of INT4's packed elements, as compressed-tensors has it; INT8 elements keep
  /// the plain name.
  package static let packedSuffix = "_packed"
  /// The name suffix of the factors of INT8 and INT4; they multiply.
  package static let factorSuffix = "_scale"
  /// The name suffix of INT4's zero points.
  package static let zeroPointSuffix = "_zero_point"
  /// The name suffix of the shape before packing.
  package static let shapeSuffix = "_shape"
  /// The name suffix of the order of columns that some tools store, which is not supported.
  static let columnOrderSuffix = "_g_idx"
  /// Name beginnings of tensors that belong to the vision tower and the projector.
  package static let visionPrefixes = [
    "vision_model.", "vit_downsampler", "vit_large_projector", "model.vision_model.",
    "model.vit_downsampler", "model.vit_large_projector",
  ]

  /// Whether a tensor is a projection of a text layer: one that may be stored with fewer bits.
  /// Embeddings, norms, routers, the output head and the vision tower are not.
  package static func isProjection(_ name: String) -> Bool {
    let projections = [
      "q_proj", "wq", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    ]
    return name.contains(".layers.") && !visionPrefixes.contains { name.hasPrefix($0) }
      && projections.contains { name.hasSuffix(".\($0).weight") }
  }

  var embedding: String { prefix + "embed_tokens.weight" }
  var finalNorm: String { prefix + "norm.weight" }
  var outputHead: String { "lm_head.weight" }

  func inputNorm(_ layer: Int) -> String { name(layer, "input_layernorm") }
  func postAttentionNorm(_ layer: Int) -> String { name(layer, "post_attention_layernorm") }

  func queryDown(_ layer: Int) -> String { name(layer, "self_attn.q_proj") }
  func queryNorm(_ layer: Int) -> String { name(layer, "self_attn.inter_norm") }
  func queryUp(_ layer: Int) -> String { name(layer, "self_attn.wq") }
  func key(_ layer: Int) -> String { name(layer, "self_attn.k_proj") }
  func value(_ layer: Int) -> String { name(layer, "self_attn.v_proj") }
  func output(_ layer: Int) -> String { name(layer, "self_attn.o_proj") }

  /// The router of a mixture layer; dense layers have none.
  package func router(_ layer: Int) -> String { name(layer, "moe.gate") }

  /// The gate, up and down projections of a dense layer, of the shared expert, or of all routed
  /// experts stacked.
  func projections(_ layer: Int, _ part: FeedForwardPart) -> (
    gate: String, up: String, down: String
  ) {
    let base = part.rawValue
    return (
      name(layer, base + ".gate_proj"), name(layer, base + ".up_proj"),
      name(layer, base + ".down_proj")
    )
  }

  private func name(_ layer: Int, _ part: String) -> String {
    "\(prefix)layers.\(layer).\(part).weight"
  }
}

/// The three places where a SwiGLU stands.
enum FeedForwardPart: String {
  case dense = "mlp"
  case sharedExpert = "share_expert"
  case routedExperts = "moe"
}
