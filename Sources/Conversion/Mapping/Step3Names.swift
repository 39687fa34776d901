// The names that the tensors of a Step3 text checkpoint have on disk.

/// Tensor names of a Step3 checkpoint.
enum Step3Names {
  static let embedding = "model.embed_tokens.weight"
  static let finalNorm = "model.norm.weight"
  static let output = "lm_head.weight"

  static let attentionNorm = "input_layernorm"
  static let queryDown = "self_attn.q_proj"
  static let key = "self_attn.k_proj"
  static let value = "self_attn.v_proj"
  static let queryNorm = "self_attn.inter_norm"
  static let queryUp = "self_attn.wq"
  static let attentionOutput = "self_attn.o_proj"
  static let feedForwardNorm = "post_attention_layernorm"
  static let router = "moe.gate"

  /// Gate, up and down projection of a dense layer.
  static let dense = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
  /// Gate, up and down projection of the shared expert.
  static let shared = (
    "share_expert.gate_proj", "share_expert.up_proj", "share_expert.down_proj"
  )
  /// Gate, up and down projections of all routed experts, stacked.
  static let experts = ("moe.gate_proj", "moe.up_proj", "moe.down_proj")

  static func layer(_ layer: Int, _ part: String) -> String {
    "model.layers.\(layer).\(part).weight"
  }

  /// The part of the model that a tensor belongs to, and how it relates to the source.
  static func group(of name: String) -> (name: String, remark: String) {
    switch name {
    case embedding: return ("embedding", "as in the source")
    case output: return ("output head", "the source's, or a copy of the embedding")
    case finalNorm: return ("norms", "as in the source")
    default: break
    }
    let part = name.split(separator: ".").dropFirst(3).dropLast().joined(separator: ".")
    switch part {
    case attentionNorm, feedForwardNorm: return ("norms", "as in the source")
    case queryDown, queryNorm: return ("query down and norm", "multiples of the identity and of 1")
    case queryUp: return ("query up", "source queries in their slice, zeros elsewhere")
    case key, value: return ("key and value", "source heads side by side")
    case attentionOutput: return ("attention output", "source columns in their slice")
    case router: return ("router", "decides among equal experts, or zero")
    case dense.0, dense.1, dense.2: return ("dense feed-forward", "as in the source")
    case shared.0, shared.1, shared.2: return ("shared experts", "the first neurons")
    default: return ("routed experts", "the other neurons")
    }
  }
}
