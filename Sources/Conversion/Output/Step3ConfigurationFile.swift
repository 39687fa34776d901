import JSONScanning
import Tensors

/// The config.json of a converted model: the flat text-only form that Step3 engines register as
/// `Step3TextForCausalLM`, or, with a vision tower, the nested form around it.
struct Step3ConfigurationFile {
  let source: LlamaSource
  let mixture: MixtureLayout?
  let elementType: ElementType
  let vision: VisionAddition?

  var json: JSONValue {
    let model = source.configuration
    let attention = AttentionMapping(configuration: model, rowOrder: source.rowOrder)
    var object = JSONObject()
    object["architectures"] = ["Step3TextForCausalLM"]
    object["model_type"] = "step3_text"
    object["hidden_size"] = .integer(model.hiddenSize)
    object["num_hidden_layers"] = .integer(model.layerCount)
    object["num_attention_heads"] = .integer(model.headCount)
    object["num_attention_groups"] = 1
    object["head_dim"] = .integer(model.wideHeadDimension)
    object["share_q_dim"] = .integer(model.hiddenSize)
    object["intermediate_size"] = .integer(model.feedForwardSize)
    addMixture(to: &object)
    object["vocab_size"] = .integer(model.vocabularySize + (vision?.tokens.count ?? 0))
    object["rms_norm_eps"] = .number(shortest(model.normEpsilon))
    object["rope_theta"] = .number(model.rotary.theta)
    if let factors = attention.rotaryFactors {
      // "su" is LongRoPE's older name, the one that every known reader of step3_text accepts.
      let list = JSONValue.array(factors.map { .number($0) })
      var scaling = JSONObject()
      scaling["rope_type"] = "su"
      scaling["type"] = "su"
      scaling["short_factor"] = list
      scaling["long_factor"] = list
      scaling["original_max_position_embeddings"] = .integer(model.contextLength)
      object["rope_scaling"] = .object(scaling)
      scaling["rope_theta"] = .number(model.rotary.theta)
      object["rope_parameters"] = .object(scaling)
    } else {
      object["rope_scaling"] = .null
    }
    // The published name is the singular; vLLM's rotary code asks for the plural.
    object["max_position_embedding"] = .integer(model.contextLength)
    object["max_position_embeddings"] = .integer(model.contextLength)
    object["max_seq_len"] = .integer(model.contextLength)
    object["tie_word_embeddings"] = false
    object["torch_dtype"] = elementType == .float32 ? "float32" : "bfloat16"
    let ids = source.tokenizer.specialIDs
    object["bos_token_id"] = ids.begin.map { .integer($0) } ?? .null
    object["eos_token_id"] = ids.end.first.map { .integer($0) } ?? .null
    object["pad_token_id"] = ids.padding.map { .integer($0) } ?? .null
    guard let vision else { return .object(object) }
    return .object(vision.configuration(around: object, firstTokenID: model.vocabularySize))
  }

  private func addMixture(to object: inout JSONObject) {
    let size = source.configuration.feedForwardSize
    object["moe_num_experts"] = .integer(mixture?.expertCount ?? 1)
    object["moe_top_k"] = .integer(mixture?.expertsPerToken ?? 1)
    object["moe_intermediate_size"] = .integer(mixture?.expertWidth ?? size)
    object["share_expert_dim"] = .integer(mixture?.sharedWidth ?? size)
    object["norm_expert_weight"] = true
    // "-1" rather than "": some readers parse every part as a number.
    let layers = mixture.map { $0.layers.map(String.init).joined(separator: ",") } ?? "-1"
    object["moe_layers_enum"] = .string(layers)
  }

  /// The decimal number nearest in few digits, so that 1e-5 stored as Float32 reads 1e-05.
  private func shortest(_ value: Float) -> Double { Double(value.description) ?? Double(value) }
}
