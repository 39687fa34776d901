// The names that tensors and hyperparameters of Llama-family sources have.

/// Tensor names of a GGUF file.
enum GGUFNames {
  static let embedding = "token_embd.weight"
  static let finalNorm = "output_norm.weight"
  static let output = "output.weight"
  static let rotaryDivisors = "rope_freqs.weight"

  static func layer(_ layer: Int, _ part: LayerPart) -> String {
    "blk.\(layer).\(part.gguf).weight"
  }
}

/// Tensor names of an HF checkpoint of a Llama-family model.
enum HuggingFaceNames {
  static let embedding = "model.embed_tokens.weight"
  static let finalNorm = "model.norm.weight"
  static let output = "lm_head.weight"
  /// Tables that older files store and that follow from the configuration.
  static let rotaryTableSuffix = ".rotary_emb.inv_freq"

  static func layer(_ layer: Int, _ part: LayerPart) -> String {
    "model.layers.\(layer).\(part.huggingFace).weight"
  }
}

/// Tensor names of low-rank changes to a GGUF file's matrices.
enum AdapterNames {
  static let prefix = "adapter."

  static func part(_ layer: Int, _ part: LayerPart) -> String {
    "\(prefix)\(layer).\(part.gguf)"
  }

  static func down(_ part: String) -> String { part + ".down" }
  static func up(_ part: String) -> String { part + ".up" }
}

/// The weights of one Llama layer.
enum LayerPart: CaseIterable {
  case attentionNorm, query, key, value, output, feedForwardNorm, gate, up, down

  var gguf: String {
    switch self {
    case .attentionNorm: "attn_norm"
    case .query: "attn_q"
    case .key: "attn_k"
    case .value: "attn_v"
    case .output: "attn_output"
    case .feedForwardNorm: "ffn_norm"
    case .gate: "ffn_gate"
    case .up: "ffn_up"
    case .down: "ffn_down"
    }
  }

  var huggingFace: String {
    switch self {
    case .attentionNorm: "input_layernorm"
    case .query: "self_attn.q_proj"
    case .key: "self_attn.k_proj"
    case .value: "self_attn.v_proj"
    case .output: "self_attn.o_proj"
    case .feedForwardNorm: "post_attention_layernorm"
    case .gate: "mlp.gate_proj"
    case .up: "mlp.up_proj"
    case .down: "mlp.down_proj"
    }
  }

  func shape(_ c: LlamaConfiguration) -> [Int] {
    let queries = c.headCount * c.headDimension
    return switch self {
    case .attentionNorm, .feedForwardNorm: [c.hiddenSize]
    case .query: [queries, c.hiddenSize]
    case .key, .value: [c.wideHeadDimension, c.hiddenSize]
    case .output: [c.hiddenSize, queries]
    case .gate, .up: [c.feedForwardSize, c.hiddenSize]
    case .down: [c.hiddenSize, c.feedForwardSize]
    }
  }
}

extension TensorInventory {
  /// Takes every weight of the model; `output` may be absent (tied).
  mutating func takeModel(
    _ c: LlamaConfiguration, embedding: String, finalNorm: String, output: String,
    layerName: (Int, LayerPart) -> String
  ) throws(ConversionError) -> (
    embedding: SourceTensor, layers: [LlamaLayer], finalNorm: SourceTensor, output: SourceTensor?
  ) {
    let table = [c.vocabularySize, c.hiddenSize]
    let embeddingTensor = try take(embedding, table)
    var layers: [LlamaLayer] = []
    for layer in 0..<c.layerCount {
      var parts: [SourceTensor] = []
      for part in LayerPart.allCases {
        parts.append(try take(layerName(layer, part), part.shape(c)))
      }
      layers.append(
        LlamaLayer(
          attentionNorm: parts[0], query: parts[1], key: parts[2], value: parts[3],
          output: parts[4], feedForwardNorm: parts[5], gate: parts[6], up: parts[7],
          down: parts[8]))
    }
    let norm = try take(finalNorm, [c.hiddenSize])
    let head = contains(output) ? try take(output, table) : nil
    return (embeddingTensor, layers, norm, head)
  }
}
