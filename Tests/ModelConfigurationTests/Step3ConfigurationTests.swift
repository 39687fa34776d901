import JSONScanning
import ModelConfiguration
import Testing

private func read(_ json: String) throws -> Step3Configuration {
  try Step3Configuration(json: JSONValue(parsing: json), path: "config.json")
}

@Suite struct Step3ConfigurationTests {
  @Test("absent sections mean the real model")
  func classDefaults() throws {
    let configuration = try read(#"{"architectures":["Step3VLForConditionalGeneration"]}"#)
    #expect(configuration.text == TextConfiguration())
    #expect(configuration.text.isMixtureLayer.filter { $0 }.count == 56)
    #expect(!configuration.text.isMixtureLayer[60] && configuration.text.isMixtureLayer[59])
    #expect(configuration.vision == VisionConfiguration())
  }

  @Test(
    "moe_layers_enum is read as published and as it occurs",
    arguments: [
      (#""1,3""#, [1, 3]), (#"" 1, 3 ""#, [1, 3]), ("[1,3]", [1, 3]), ("null", [1, 2, 3]),
      (#""-1""#, []), (#""""#, []), ("[]", []), (#""2""#, [2]),
    ])
  func mixtureLayers(value: String, expected: [Int]) throws {
    let configuration = try read(
      #"{"model_type":"step3_text","num_hidden_layers":4,"moe_layers_enum":\#(value)}"#)
    let found = configuration.text.isMixtureLayer.indices.filter {
      configuration.text.isMixtureLayer[$0]
    }
    #expect(found == expected)
  }

  @Test("flat and nested text-only files mean the same")
  func flatAndNested() throws {
    let fields = #""hidden_size":64,"num_hidden_layers":2,"moe_layers_enum":"1""#
    let flat = try read(#"{"architectures":["Step3TextForCausalLM"],\#(fields)}"#)
    let nested = try read(
      #"{"architectures":["Step3TextForCausalLM"],"text_config":{\#(fields)}}"#)
    #expect(flat.text == nested.text && flat.text.hiddenSize == 64)
    #expect(flat.vision == nil)
  }

  @Test("a falsy share_q_dim means head_dim", arguments: ["0", "null"])
  func sharedQuery(value: String) throws {
    let configuration = try read(
      #"{"model_type":"step3_text","head_dim":32,"share_q_dim":\#(value)}"#)
    #expect(configuration.text.sharedQueryDimension == (value == "0" ? 32 : 2048))
  }

  @Test("the context length is singular, plural or max_seq_len")
  func contextLength() throws {
    for key in ["max_position_embedding", "max_position_embeddings", "max_seq_len"] {
      let configuration = try read(#"{"model_type":"step3_text","\#(key)":77}"#)
      #expect(configuration.text.contextLength == 77)
    }
  }

  @Test("rope_parameters may carry the base, su is longrope")
  func rotary() throws {
    let plain = try read(
      #"{"model_type":"step3_text","rope_parameters":{"rope_type":"default","rope_theta":7}}"#)
    #expect(plain.text.rotary.theta == 7 && plain.text.rotary.factors == nil)
    let su = try read(
      #"""
      {"model_type":"step3_text","head_dim":4,"max_position_embedding":64,"rope_theta":100,
       "rope_scaling":{"type":"su","original_max_position_embeddings":64,
         "short_factor":[1,2],"long_factor":[3,4]}}
      """#)
    #expect(su.text.rotary.frequencies(headDimension: 4) == [1, 0.1 / 2])
    #expect(su.text.rotary.magnitude == 1)
    let long = try read(
      #"""
      {"model_type":"step3_text","head_dim":4,"max_position_embedding":256,
       "rope_scaling":{"rope_type":"longrope","original_max_position_embeddings":16,
         "short_factor":[1,2],"long_factor":[3,4]}}
      """#)
    #expect(long.text.rotary.factors == [3, 4])
    #expect(abs(long.text.rotary.magnitude - 2.0.squareRoot()) < 1e-12)
  }

  @Test(
    "another architecture is refused by name",
    arguments: [
      #"{"architectures":["LlamaForCausalLM"],"model_type":"llama"}"#, #"{"model_type":"llama"}"#,
      "{}",
    ])
  func otherArchitecture(json: String) {
    #expect(throws: ConfigurationError.self) { try read(json) }
    do { _ = try read(json) } catch {
      #expect(json == "{}" || "\(error)".lowercased().contains("llama"))
    }
  }

  @Test(
    "values that no model can have are refused with field and reason",
    arguments: [
      (#""hidden_size":0"#, "hidden_size"), (#""hidden_size":"big""#, "hidden_size"),
      (#""hidden_size":1.5"#, "hidden_size"), (#""num_hidden_layers":-3"#, "num_hidden_layers"),
      (#""num_attention_groups":8"#, "num_attention_groups"), (#""head_dim":7"#, "head_dim"),
      (#""moe_layers_enum":"1,-3""#, "moe_layers_enum"),
      (#""moe_layers_enum":"1 2""#, "moe_layers_enum"),
      (#""moe_layers_enum":"one""#, "moe_layers_enum"),
      (#""moe_top_k":99"#, "moe_top_k"), (#""rms_norm_eps":0"#, "rms_norm_eps"),
      (#""rms_norm_eps":"x""#, "rms_norm_eps"), (#""norm_expert_weight":1"#, "norm_expert_weight"),
      (#""rope_scaling":{"rope_type":"yarn"}"#, "rope_type"),
      (#""rope_scaling":{"rope_type":"su","short_factor":[1]}"#, "short_factor"),
      (#""quantization_config":{"quant_method":"gptq"}"#, "quant_method"),
      (
        #""quantization_config":{"quant_method":"fp8","weight_block_size":[64,64]}"#,
        "weight_block_size"
      ),
    ])
  func refused(field: String, name: String) {
    do {
      _ = try read(#"{"model_type":"step3_text",\#(field)}"#)
      Issue.record("\(field) was accepted")
    } catch {
      #expect("\(error)".contains(name), "\(error)")
    }
  }

  @Test("every value is listed with its origin")
  func origins() throws {
    let configuration = try read(#"{"model_type":"step3_text","hidden_size":64}"#)
    let entries = configuration.entries
    #expect(entries.contains { $0.field.hasSuffix("hidden_size") && $0.origin == .file })
    #expect(entries.contains { $0.field.hasSuffix("head_dim") && $0.origin == .classDefault })
  }
}

@Suite struct AbsentMixtureLayersTests {
  @Test("where the file names no mixture layers, layers with a router are mixtures")
  func resolved() throws {
    var absent = try read(#"{"model_type":"step3_text","num_hidden_layers":4}"#)
    absent.resolveMixtureLayers { $0 == 2 }
    #expect(absent.text.isMixtureLayer == [false, false, true, false])
    #expect(absent.entries.contains { $0.field == "moe_layers_enum" && $0.value == "2" })
    var named = try read(
      #"{"model_type":"step3_text","num_hidden_layers":4,"moe_layers_enum":"1"}"#)
    named.resolveMixtureLayers { _ in true }
    #expect(named.text.isMixtureLayer == [false, true, false, false])
  }

  @Test("a shortened model may keep the full model's list, and is told about")
  func shortened() throws {
    let text = try read(
      #"{"model_type":"step3_text","num_hidden_layers":3,"moe_layers_enum":"1,4,5"}"#
    ).text
    #expect(text.isMixtureLayer == [false, true, false])
    #expect(text.absentMixtureLayers == [4, 5])
  }
}
