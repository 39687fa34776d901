import Conversion
import Foundation
import JSONScanning
import Tensors
import TestSupport
import Testing

@Suite struct SourceRefusalTests {
  /// The tiny HF model with a changed config.json.
  private func folder(_ change: (inout JSONObject) -> Void) throws -> TemporaryFolder {
    let folder = try TemporaryFolder(copying: "conversion/hf-llama3")
    let url = folder.file("config.json")
    var object = try #require(JSONValue(parsing: [UInt8](Data(contentsOf: url))).object)
    change(&object)
    try Data(JSONValue.object(object).text().utf8).write(to: url)
    return folder
  }

  private func refusal(_ change: (inout JSONObject) -> Void) throws -> ConversionError? {
    let folder = try folder(change)
    do throws(ConversionError) {
      _ = try LlamaSource(path: folder.url.path)
      return nil
    } catch {
      return error
    }
  }

  @Test("other architectures are refused by name")
  func refusesArchitectures() throws {
    for name in ["qwen2", "gemma", "gpt2", "mixtral"] {
      let error = try refusal { $0["model_type"] = .string(name) }
      guard case .unsupportedArchitecture(_, name)? = error else {
        Issue.record("\(name): \(String(describing: error))")
        continue
      }
      #expect(error?.description.contains("\"\(name)\"") == true)
    }
    #expect(try refusal { $0["model_type"] = "mistral" } == nil)
  }

  @Test("features without an exact counterpart are refused by name")
  func refusesFeatures() throws {
    let features: [(String, JSONValue)] = [
      ("attention_bias", true), ("mlp_bias", true), ("hidden_act", "gelu"),
      ("partial_rotary_factor", 0.5), ("quantization_config", ["quant_method": "gptq"]),
      ("num_local_experts", 8), ("sliding_window", 64), ("logits_scaling", 8.0),
      ("layer_types", ["sliding_attention", "full_attention"]),
    ]
    for (key, value) in features {
      let error = try refusal { $0[key] = value }
      guard case .unsupportedFeature(_, key, _)? = error else {
        Issue.record("\(key): \(String(describing: error))")
        continue
      }
    }
    let harmless = try refusal {
      $0["sliding_window"] = 4096
      $0["partial_rotary_factor"] = 1.0
      $0["layer_types"] = ["full_attention", "full_attention"]
    }
    #expect(harmless == nil)
    let dynamic = try refusal { $0["rope_scaling"] = ["rope_type": "dynamic", "factor": 2.0] }
    guard case .unsupportedFeature(_, "rope_scaling.rope_type", "\"dynamic\"")? = dynamic else {
      Issue.record("\(String(describing: dynamic))")
      return
    }
  }

  @Test("missing, odd and contradictory facts are refused by name")
  func refusesFacts() throws {
    guard case .missingField(_, "hidden_size")? = try refusal({ $0["hidden_size"] = nil }) else {
      Issue.record("a missing hidden_size was accepted")
      return
    }
    guard
      case .invalidConfiguration(_, "the head count", _, _)? = try refusal({
        $0["num_key_value_heads"] = 4
      })
    else {
      Issue.record("six heads over four key heads were accepted")
      return
    }
    guard
      case .wrongShape(_, "model.embed_tokens.weight", _, _)? = try refusal({
        $0["vocab_size"] = 279
      })
    else {
      Issue.record("a wrong vocab_size was accepted")
      return
    }
    guard case .unexpectedTensor(_, let name)? = try refusal({ $0["num_hidden_layers"] = 1 })
    else {
      Issue.record("a layer too many was accepted")
      return
    }
    #expect(name.hasPrefix("model.layers.1."))
    guard
      case .missingTensor(_, "lm_head.weight")? = try refusal({
        $0["tie_word_embeddings"] = false
      })
    else {
      Issue.record("a missing head was accepted")
      return
    }
  }

  @Test("GGUF files of other architectures and unknown hyperparameters are refused by name")
  func refusesGGUF() throws {
    let bytes = try Fixtures.bytes("conversion/gqa.gguf")
    func opened(_ old: String, _ new: String) throws -> ConversionError? {
      let place = try #require(Data(bytes).firstRange(of: Data(old.utf8)))
      var changed = bytes
      changed.replaceSubrange(place, with: Array(new.utf8))
      let folder = try TemporaryFolder()
      try Data(changed).write(to: folder.file("m.gguf"))
      do throws(ConversionError) {
        _ = try LlamaSource(path: folder.file("m.gguf").path)
        return nil
      } catch {
        return error
      }
    }
    guard case .unsupportedArchitecture(_, "qwen3")? = try opened("llama", "qwen3") else {
      Issue.record("another architecture was accepted")
      return
    }
    guard
      case .unsupportedFeature(_, "llama.embedding_lengtx", _)? = try opened(
        "llama.embedding_length", "llama.embedding_lengtx")
    else {
      Issue.record("an unknown hyperparameter was accepted")
      return
    }
    guard
      case .missingTensor(_, "blk.0.attn_q.weight")? = try opened(
        "blk.0.attn_q.weight", "blk.0.attn_x.weight")
    else {
      Issue.record("a missing tensor was accepted")
      return
    }
  }

  @Test("what is no model at all is named")
  func refusesOthers() throws {
    let folder = try TemporaryFolder()
    #expect(throws: ConversionError.notASource(path: folder.url.path)) {
      try LlamaSource(path: folder.url.path)
    }
    #expect(throws: ConversionError.file(.notFound(path: "nowhere"))) {
      try LlamaSource(path: "nowhere")
    }
  }
}
