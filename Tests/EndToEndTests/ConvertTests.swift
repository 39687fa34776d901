import Foundation
import Tensors
import TestSupport
import Testing

/// Conversion from the outside: sources become checkpoints that the engine runs as the source.
@Suite
struct ConvertTests {
  private func source(_ name: String) -> String { Fixtures.path("conversion/\(name)") }

  @Test(
    "a converted model has its source's logits",
    arguments: [
      ("gqa", "gqa.gguf", ["--moe-layers", "1"]),
      ("mha-factors", "mha-factors.gguf", ["--moe", "exact-split", "--experts", "3"]),
      ("mqa", "mqa.gguf", ["--dense"]), ("yarn", "yarn.gguf", []),
      ("hf-llama3", "hf-llama3", ["--moe", "exact-split"]),
    ])
  func sameLogits(name: String, file: String, options: [String]) async throws {
    let folder = try TemporaryFolder()
    let model = folder.file("model").path
    let converted = try await Step3Process.run(
      ["convert", source(file), model, "--dtype", "f32"] + options)
    #expect(converted.exitCode == 0, "\(converted.errors)")

    let golden = try CheckpointFiles(directory: source("\(name)-step3/golden"))
    let ids = try golden.tensor("ids")
    let list = (0..<ids.elementCount).map { "\(ids.bytes.load(Int32.self, at: 4 * $0))" }
    try FileManager.default.createDirectory(
      at: folder.file("logits"), withIntermediateDirectories: false)
    let scored = try await Step3Process.run([
      "score", "--model", model, "--ids", list.joined(separator: ","), "--logits-out",
      folder.file("logits/model.safetensors").path,
    ])
    #expect(scored.exitCode == 0, "\(scored.errors)")
    let found =
      try CheckpointFiles(directory: folder.file("logits").path)
      .tensor("logits").floats() ?? []
    let expected = try golden.tensor("logits").floats() ?? []
    #expect(found.count == expected.count)
    let range = (expected.max() ?? 0) - (expected.min() ?? 0)
    let largest = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
    #expect(largest <= 5e-5 * range, "\(largest) of \(range)")
  }

  @Test("doing it again does nothing, and says so")
  func repeats() async throws {
    let folder = try TemporaryFolder()
    let arguments = ["convert", source("mqa.gguf"), folder.file("m").path, "--format", "json"]
    let first = try await Step3Process.run(arguments)
    let second = try await Step3Process.run(arguments)
    #expect(first.exitCode == 0 && first.output.contains("\"written\":true"), "\(first.errors)")
    #expect(second.exitCode == 0 && second.output.contains("\"written\":false"))
  }

  @Test("sources that cannot be converted, and places that cannot be written, are told apart")
  func refuses() async throws {
    let folder = try TemporaryFolder()
    let target = folder.file("m").path
    let blocks = try await Step3Process.run(["convert", source("blocks.gguf"), target])
    #expect(blocks.exitCode == 3 && blocks.errors.contains("blocks"))
    let absent = try await Step3Process.run(["convert", "absent.gguf", target])
    #expect(absent.exitCode == 3 && absent.errors.contains("absent.gguf"))
    let taken = try await Step3Process.run(["convert", source("mqa.gguf"), source("hf-llama3")])
    #expect(taken.exitCode == 2 && taken.errors.contains("hf-llama3"))
    let experts = try await Step3Process.run(
      ["convert", source("mqa.gguf"), target, "--moe", "exact-split", "--experts", "4000"])
    #expect(experts.exitCode == 2 && experts.errors.contains("--experts"))
    let layer = try await Step3Process.run(
      ["convert", source("mqa.gguf"), target, "--moe-layers", "9"])
    #expect(layer.exitCode == 2 && layer.errors.contains("9"))
    #expect(!FileManager.default.fileExists(atPath: target))
  }
}
