import Foundation
import TestSupport
import Testing

/// What the commands answer to good input.
@Suite struct CommandTests {
  @Test("the help names every command, and every command has help with an example")
  func help() async throws {
    let result = try await Step3Process.run(["--help"])
    #expect(result.exitCode == 0)
    let lines = result.output.split(separator: "\n").drop { !$0.hasPrefix("Commands:") }.dropFirst()
    let commands = lines.prefix { $0.hasPrefix("  ") }
      .compactMap { $0.split(separator: " ").first.map(String.init) }
    #expect(!commands.isEmpty)
    for command in commands {
      let help = try await Step3Process.run([command, "--help"])
      #expect(help.exitCode == 0, "\(command): \(help.errors)")
      #expect(help.output.contains("step3 \(command)"), "\(command)")
    }
  }

  @Test("text becomes bytes and comes back")
  func tokenize() async throws {
    struct Document: Decodable {
      let ids: [Int]
      let tokens: [String]
      let count: Int
    }
    let model = Fixtures.path("tiny/dense-f32")
    let text = "Grüße, 世界 <think>"
    let result = try await Step3Process.run([
      "tokenize", "--model", model, "--text", text, "--format", "json",
    ])
    #expect(result.exitCode == 0, "\(result.errors)")
    let document = try result.json(Document.self)
    #expect(document.ids == "Grüße, 世界 ".utf8.map(Int.init) + [260])
    #expect(document.count == document.ids.count && document.tokens.count == document.count)
    let ids = document.ids.map(String.init).joined(separator: " ")
    let decoded = try await Step3Process.run(
      ["tokenize", "--model", model, "--decode"], input: ids)
    #expect(decoded.output.trimmingCharacters(in: .newlines) == text)
  }

  @Test(
    "score gives the log-probabilities of the reference's logits",
    arguments: ["dense-f32", "odd-f32"])
  func score(name: String) async throws {
    let checkpoint = try TinyCheckpoint(name)
    let ids = checkpoint.ids.map(String.init).joined(separator: ",")
    let result = try await Step3Process.run([
      "score", "--model", checkpoint.directory, "--ids", ids, "--top", "3", "--format", "json",
    ])
    #expect(result.exitCode == 0, "\(result.errors)")
    let score = try result.json(Score.self)
    #expect(score.tokens == checkpoint.ids.count)
    #expect(score.logprobs.count == checkpoint.ids.count && score.logprobs.first == .some(nil))
    for position in checkpoint.ids.indices.dropFirst() {
      let expected = logprobs(checkpoint.row(position - 1))[checkpoint.ids[position]]
      let found = try #require(score.logprobs[position])
      #expect(abs(found - expected) < 2e-3, "position \(position)")
    }
    let last = Array(checkpoint.row(checkpoint.ids.count - 1))
    #expect(score.greedy == last.indices.max { last[$0] < last[$1] })
    let alternatives = try #require(score.top?.last ?? nil)
    let before = Array(checkpoint.row(checkpoint.ids.count - 2))
    #expect(alternatives.count == 3)
    #expect(alternatives.first?.id == before.indices.max { before[$0] < before[$1] })
  }

  @Test(
    "greedy generation continues with the reference's top token",
    arguments: ["dense-f32", "moe-f32", "moe-fp8"])
  func run(name: String) async throws {
    struct Document: Decodable {
      let ids: [Int]
      let finish_reason: String
    }
    let checkpoint = try TinyCheckpoint(name)
    let ids = checkpoint.ids.map(String.init).joined(separator: ",")
    let result = try await Step3Process.run([
      "run", "--model", checkpoint.directory, "--ids", ids, "--temperature", "0",
      "--max-tokens", "5", "--format", "json",
    ])
    #expect(result.exitCode == 0, "\(result.errors)")
    let document = try result.json(Document.self)
    let last = Array(checkpoint.row(checkpoint.ids.count - 1))
    #expect(document.ids.first == last.indices.max { last[$0] < last[$1] })
    #expect(document.ids.count <= 5)
    #expect(document.finish_reason == (document.ids.count == 5 ? "length" : "stop"))
  }

  @Test(
    "the same seed gives the same text")
  func seed() async throws {
    let arguments = [
      "run", "--model", Fixtures.path("tiny/moe-bf16"), "--raw", "--temperature", "1",
      "--seed", "7", "--max-tokens", "12", "--format", "json", "hello",
    ]
    struct Document: Decodable { let ids: [Int] }
    let first = try await Step3Process.run(arguments)
    #expect(first.exitCode == 0, "\(first.errors)")
    let second = try await Step3Process.run(arguments + ["--threads", "1"])
    #expect(try first.json(Document.self).ids == second.json(Document.self).ids)
  }

  @Test(
    "perplexity is the exponential of score's mean")
  func perplexity() async throws {
    struct Document: Decodable {
      let tokens: Int
      let nll: Double
      let perplexity: Double
    }
    let model = Fixtures.path("tiny/moe-f32")
    let text = "It was a bright cold day in April."
    let folder = try TemporaryFolder()
    try Data(text.utf8).write(to: folder.file("text.txt"))
    let evaluated = try await Step3Process.run([
      "eval", "perplexity", "--model", model, "--text", folder.file("text.txt").path,
      "--format", "json",
    ])
    #expect(evaluated.exitCode == 0, "\(evaluated.errors)")
    let document = try evaluated.json(Document.self)
    let scored = try await Step3Process.run([
      "score", "--model", model, "--text", text, "--format", "json",
    ])
    let logprobs = try scored.json(Score.self).logprobs.compactMap { $0 }
    let mean = -logprobs.reduce(0, +) / Double(logprobs.count)
    #expect(abs(log(document.perplexity) - mean) < 1e-3)
  }

  @Test(
    "inspect describes every checkpoint", arguments: TinyCheckpoint.names)
  func inspect(name: String) async throws {
    let result = try await Step3Process.run([
      "inspect", "--model", Fixtures.path("tiny/\(name)"), "--format", "json",
    ])
    #expect(result.exitCode == 0, "\(result.errors)")
    let document = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
    #expect(document is [String: Any])
  }

  /// Natural logarithms of the softmax.
  private func logprobs(_ logits: ArraySlice<Float>) -> [Double] {
    let wide = logits.map(Double.init)
    let highest = wide.max() ?? 0
    let total = wide.reduce(0) { $0 + exp($1 - highest) }
    return wide.map { $0 - highest - log(total) }
  }
}
