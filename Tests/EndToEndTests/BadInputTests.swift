import Foundation
import TestSupport
import Testing

/// What a person gets who calls the program wrongly: the exit code, and a message that helps.
@Suite struct BadInputTests {
  let dense = Fixtures.path("tiny/dense-f32")

  @Test("an unknown flag is named with the nearest spelling")
  func unknownFlag() async throws {
    let result = try await Step3Process.run(["score", "--modle", dense, "--ids", "1"])
    #expect(result.exitCode == 2)
    #expect(result.errors.contains("--modle") && result.errors.contains("--model"))
    #expect(result.output.isEmpty)
  }

  @Test("an unknown command is named with the nearest spelling")
  func unknownCommand() async throws {
    let result = try await Step3Process.run(["scroe"])
    #expect(result.exitCode == 2)
    #expect(result.errors.contains("scroe") && result.errors.contains("score"))
  }

  @Test("token ids that are none are refused", arguments: ["1,x", "-1", "288", "1,,2", ""])
  func badIDs(ids: String) async throws {
    let result = try await Step3Process.run(["score", "--model", dense, "--ids=\(ids)"])
    #expect(result.exitCode == 2, "\(result.errors)")
    #expect(!result.errors.isEmpty)
  }

  @Test("an empty prompt is wrong usage")
  func emptyPrompt() async throws {
    let result = try await Step3Process.run(["run", "--model", dense, "--raw", ""])
    #expect(result.exitCode == 2, "\(result.errors)")
    #expect(result.errors.lowercased().contains("prompt"))
  }

  @Test("a system message without a template to put it in is refused")
  func systemWithoutTemplate() async throws {
    for rest in [["--raw", "a"], ["--ids", "1"]] {
      let result = try await Step3Process.run(["run", "--model", dense, "--system", "s"] + rest)
      #expect(result.exitCode == 2, "\(result.errors)")
      #expect(result.errors.contains("--system"))
    }
  }

  @Test(
    "a prompt longer than the context states both lengths")
  func longPrompt() async throws {
    let model = Fixtures.path("tiny/longrope-f32")
    let prompt = String(repeating: "x", count: 300)
    let result = try await Step3Process.run(["run", "--model", model, "--raw", prompt])
    #expect(result.exitCode == 2, "\(result.errors)")
    #expect(result.errors.contains("300") && result.errors.contains("256"))
  }

  @Test("a folder that is no checkpoint is named")
  func noCheckpoint() async throws {
    let folder = try TemporaryFolder()
    for path in [folder.url.path, folder.file("absent").path] {
      let result = try await Step3Process.run(["score", "--model", path, "--ids", "1"])
      #expect(result.exitCode == 3)
      #expect(result.errors.contains(path), "\(result.errors)")
    }
  }

  @Test("a checkpoint of another architecture is refused by its name")
  func otherArchitecture() async throws {
    let folder = try TemporaryFolder(copying: "tiny/dense-f32")
    try edit(folder, "config.json") {
      $0["architectures"] = ["LlamaForCausalLM"]
      $0["model_type"] = "llama"
    }
    let result = try await Step3Process.run(["score", "--model", folder.url.path, "--ids", "1"])
    #expect(result.exitCode == 3)
    #expect(result.errors.contains("LlamaForCausalLM"), "\(result.errors)")
  }

  @Test(
    "a tokenizer without a token that the prompt needs is refused by the token's name")
  func missingToken() async throws {
    let folder = try TemporaryFolder(copying: "tiny/dense-f32")
    try edit(folder, "tokenizer.json") { document in
      let tokens = document["added_tokens"] as? [[String: Any]] ?? []
      document["added_tokens"] = tokens.filter { $0["content"] as? String != "<|BOT|>" }
    }
    let result = try await Step3Process.run(["run", "--model", folder.url.path, "hello"])
    #expect(result.exitCode == 3)
    #expect(result.errors.contains("<|BOT|>"), "\(result.errors)")
  }

  @Test(
    "a truncated shard is named", arguments: ["moe-bf16", "dense-f32"], [1, 5000])
  func truncatedShard(name: String, missing: Int) async throws {
    let folder = try TemporaryFolder(copying: "tiny/\(name)")
    let shards = try FileManager.default.contentsOfDirectory(atPath: folder.url.path)
      .filter { $0.hasSuffix(".safetensors") }.sorted()
    let shard = try #require(shards.last)
    let data = try Data(contentsOf: folder.file(shard))
    try data.dropLast(missing).write(to: folder.file(shard))
    let result = try await Step3Process.run(["score", "--model", folder.url.path, "--ids", "1"])
    #expect(result.exitCode == 3)
    #expect(result.errors.contains(shard), "\(result.errors)")
  }

  @Test("with --format json an error is one JSON document on standard error")
  func jsonError() async throws {
    struct Document: Decodable {
      struct Fact: Decodable {
        let code: String
        let message: String
      }
      let error: Fact
    }
    let result = try await Step3Process.run([
      "score", "--model", Fixtures.path("tiny"), "--ids", "1", "--format", "json",
    ])
    #expect(result.exitCode == 3)
    #expect(result.output.isEmpty)
    let document = try JSONDecoder().decode(Document.self, from: Data(result.errors.utf8))
    #expect(!document.error.code.isEmpty && document.error.message.contains("tiny"))
  }

  @Test("an interrupt ends a generation with 130")
  func interrupt() async throws {
    // The slowest kernels: the answer must outlast the moment in which it is interrupted.
    let process = try Step3Process([
      "run", "--model", dense, "--raw", "--temperature", "0", "--max-tokens", "60000",
      "--kernels", "reference", "--threads", "1", "aaaa",
    ])
    try await process.wait { !$0.output.isEmpty }
    #expect(process.isRunning, "it ended by itself: \(process.errors)")
    process.send(signal: SIGINT)
    let result = try await process.result()
    #expect(result.exitCode == 130)
  }

  @Test("a model larger than the memory is refused with the numbers, before anything is read")
  func notEnoughMemory() async throws {
    let folder = try TemporaryFolder(copying: "tiny/dense-f32")
    // 2.4 TB of weights that take no disk: a sparse file behind a complete header.
    let (hidden, width) = (4096, 50_000_000)
    try edit(folder, "config.json") {
      $0["hidden_size"] = hidden
      $0["intermediate_size"] = width
      $0["num_hidden_layers"] = 1
    }
    let attention = "model.layers.0.self_attn."
    let shapes: [(String, [Int])] = [
      ("model.embed_tokens", [288, hidden]), ("lm_head", [288, hidden]),
      ("model.norm", [hidden]), ("model.layers.0.input_layernorm", [hidden]),
      ("model.layers.0.post_attention_layernorm", [hidden]),
      (attention + "q_proj", [24, hidden]), (attention + "k_proj", [16, hidden]),
      (attention + "v_proj", [16, hidden]), (attention + "inter_norm", [24]),
      (attention + "wq", [64, 24]), (attention + "o_proj", [hidden, 64]),
      ("model.layers.0.mlp.gate_proj", [width, hidden]),
      ("model.layers.0.mlp.up_proj", [width, hidden]),
      ("model.layers.0.mlp.down_proj", [hidden, width]),
    ]
    var header: [String: Any] = [:]
    var end = 0
    for (name, shape) in shapes {
      let start = end
      end += shape.reduce(4, *)
      header[name + ".weight"] = ["dtype": "F32", "shape": shape, "data_offsets": [start, end]]
    }
    let json = try JSONSerialization.data(withJSONObject: header)
    let length = Data((0..<8).map { UInt8(truncatingIfNeeded: json.count >> (8 * $0)) })
    try (length + json).write(to: folder.file("model.safetensors"))
    let file = try FileHandle(forWritingTo: folder.file("model.safetensors"))
    try file.truncate(atOffset: UInt64(8 + json.count + end))
    try file.close()
    let result = try await Step3Process.run(["score", "--model", folder.url.path, "--ids", "1"])
    #expect(result.exitCode == 4, "\(result.errors)")
    #expect(result.errors.contains("GB") || result.errors.contains("GiB"), "\(result.errors)")
  }

  /// Changes one JSON document of a folder.
  private func edit(
    _ folder: TemporaryFolder, _ name: String, _ change: (inout [String: Any]) -> Void
  ) throws {
    let parsed = try JSONSerialization.jsonObject(with: Data(contentsOf: folder.file(name)))
    var document = parsed as? [String: Any] ?? [:]
    change(&document)
    try JSONSerialization.data(withJSONObject: document).write(to: folder.file(name))
  }
}
