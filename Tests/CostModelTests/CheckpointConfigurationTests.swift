import CostModel
import JSONScanning
import Testing

/// Configurations as public model cards write them, cut to the keys that cost anything.
private let configurations: [(model: String, text: String)] = [
  (
    "dsv3",
    """
    {"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61,
     "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
     "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128,
     "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
     "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
     "moe_layer_freq": 1, "vocab_size": 129280, "max_position_embeddings": 163840}
    """
  ),
  (
    "qwen3-235b",
    """
    {"model_type": "qwen3_moe", "hidden_size": 4096, "num_hidden_layers": 94,
     "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128,
     "intermediate_size": 12288, "moe_intermediate_size": 1536, "num_experts": 128,
     "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
     "vocab_size": 151936, "max_position_embeddings": 40960, "sliding_window": null,
     "use_sliding_window": false, "tie_word_embeddings": false}
    """
  ),
  (
    "llama4-maverick",
    """
    {"model_type": "llama4", "text_config": {"model_type": "llama4_text", "hidden_size": 5120,
     "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8,
     "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
     "num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2,
     "attention_chunk_size": 8192, "vocab_size": 202048, "max_position_embeddings": 1048576}}
    """
  ),
  (
    "minimax-m1",
    """
    {"model_type": "minimax_m1", "hidden_size": 6144, "num_hidden_layers": 80,
     "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
     "intermediate_size": 9216, "num_local_experts": 32, "num_experts_per_tok": 2,
     "attn_type_list": [\((1...80).map { $0 % 8 == 0 ? "1" : "0" }.joined(separator: ","))],
     "vocab_size": 200064, "max_position_embeddings": 10240000}
    """
  ),
  (
    "step3",
    """
    {"architectures": ["Step3VLForConditionalGeneration"], "model_type": "step3_vl",
     "text_config": {"model_type": "step3_text", "hidden_size": 7168, "num_hidden_layers": 61}}
    """
  ),
]

@Suite("Architectures from config.json")
struct CheckpointConfigurationTests {
  @Test("a published configuration costs what the catalogue's entry costs")
  func matchesCatalogue() throws {
    let catalogue = try ModelCatalogue.builtIn()
    for (name, text) in configurations {
      let known = try catalogue.model(named: name)
      let read = try architecture(text, name: name)
      for context in [4096.0, 16384, 32768] {
        #expect(
          read.kvByteCount(context: context) == known.kvByteCount(context: context), "\(name)")
        #expect(read.attentionFlops(context: context) == known.attentionFlops(context: context))
      }
      #expect(read.parameterCount == known.parameterCount, "\(name)")
      #expect(read.activeParameterCount == known.activeParameterCount)
      #expect(read.layerClasses.count == known.layerClasses.count)
    }
  }

  @Test("sliding windows are told by layer types")
  func slidingWindow() throws {
    let model = try architecture(
      """
      {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 4,
       "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 128,
       "sliding_window": 512, "vocab_size": 1000, "max_position_embeddings": 8192,
       "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention",
       "full_attention"]}
      """, name: "small")
    #expect(model.attention.map(\.layerCount) == [1, 3])
    #expect(model.attention.map(\.window) == [nil, 512])
  }

  @Test("state-space models and broken files are refused by name and place")
  func refusals() throws {
    #expect(
      throws: CostModelError.unsupportedModelType(file: "config.json", modelType: "mamba2")
    ) { try architecture(#"{"model_type": "mamba2", "hidden_size": 64}"#, name: "m") }
    #expect(
      throws: CostModelError.malformedDocument(
        file: "config.json", place: "configuration", fact: "\"num_hidden_layers\" is missing")
    ) { try architecture(#"{"model_type": "llama", "num_attention_heads": 2}"#, name: "m") }
  }

  private func architecture(_ text: String, name: String) throws -> ModelArchitecture {
    try ModelArchitecture(
      configuration: JSONValue(document: Array(text.utf8), file: "config.json"), name: name,
      file: "config.json")
  }
}
