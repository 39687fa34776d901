import Conversion
import Foundation
import JSONScanning
import ModelConfiguration
import Tensors
import TestSupport
import Testing

/// A folder as training writes it, small: one tower tensor, rows of six tokens, one addition.
private struct VisionFolder {
  static let tokens = [
    "<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>",
  ]
  var tokens = VisionFolder.tokens
  var hiddenSize = 64
  var adapterRows = 32
  var adapter = "adapter.1.attn_v"

  static func values(_ count: Int, _ scale: Float) -> [Float] {
    (0..<count).map { Float($0 % 17 - 8) * scale }
  }

  func write(to path: String) throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let shapes: [(String, [Int])] = [
      ("vision_model.embeddings.class_embedding", [1, 4]),
      ("model.embed_tokens.weight", [tokens.count, hiddenSize]),
      ("lm_head.weight", [tokens.count, hiddenSize]),
      (adapter + ".down", [2, hiddenSize]), (adapter + ".up", [adapterRows, 2]),
    ]
    var writer = try SafetensorsWriter(
      directory: path,
      tensors: shapes.map { TensorDeclaration(name: $0, elementType: .float32, shape: $1) },
      maximumShardByteCount: 1 << 30)
    for (name, shape) in shapes {
      let bytes = Self.values(shape.reduce(1, *), 0.125).flatMap { value in
        [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value.bitPattern >> UInt32($0)) }
      }
      try writer.append(bytes, to: name)
    }
    _ = try writer.finish()
    let names = JSONValue.array(tokens.map { .string($0) }).text(.compact)
    let configuration = """
      {"vision_config": {"image_size": 28, "patch_size": 7, "hidden_size": 4,
        "num_attention_heads": 2, "enable_patch": false},
       "understand_projector_stride": 2, "projector_bias": false, "added_tokens": \(names)}
      """
    try Data(configuration.utf8).write(to: URL(fileURLWithPath: path + "/config.json"))
    try Data("{{ messages }}".utf8)
      .write(to: URL(fileURLWithPath: path + "/chat_template.jinja"))
  }
}

private func convert(
  _ source: String, to directory: String, vision: String?
) throws -> ConversionReport {
  var options = ConversionOptions()
  options.elementType = .float32
  options.mixture = .none
  options.visionFolder = vision
  let path = Fixtures.path("conversion/\(source)")
  return try Converter(path: path, options: options).run(to: directory) { _, _ in }
}

private func json(_ path: String) throws -> JSONValue {
  try JSONValue(parsing: [UInt8](Data(contentsOf: URL(fileURLWithPath: path))))
}

@Suite struct VisionAdditionTests {
  @Test("a tower and its tokens are added behind the text model, which changes only where asked")
  func adds() throws {
    let folder = try TemporaryFolder()
    try VisionFolder().write(to: folder.file("vision").path)
    let (plain, seeing) = (folder.file("plain").path, folder.file("seeing").path)
    _ = try convert("gqa.gguf", to: plain, vision: nil)
    let report = try convert("gqa.gguf", to: seeing, vision: folder.file("vision").path)
    #expect(report.groups.contains { $0.name == "vision tower" && $0.tensorCount == 1 })

    let a = try CheckpointFiles(directory: plain)
    let b = try CheckpointFiles(directory: seeing)
    let tower = "vision_model.embeddings.class_embedding"
    #expect(Set(b.names).subtracting(a.names) == [tower])
    #expect(try b.tensor(tower, shape: [1, 4]).floats() == VisionFolder.values(4, 0.125))
    let (tables, changed) = (["model.embed_tokens.weight", "lm_head.weight"], "v_proj.weight")
    for name in a.names where !tables.contains(name) {
      let same = try a.tensor(name).floats() == b.tensor(name).floats()
      #expect(same != (name == "model.layers.1.self_attn.\(changed)"), "\(name)")
    }
    for name in tables {
      let (text, both) = (try a.tensor(name), try b.tensor(name))
      #expect(both.shape == [text.shape[0] + 6, 64])
      let expected = try #require(text.floats()) + VisionFolder.values(6 * 64, 0.125)
      #expect(both.floats() == expected)
    }
  }

  @Test("a low-rank addition is up times down on the source's matrix")
  func adapts() throws {
    let folder = try TemporaryFolder()
    try VisionFolder().write(to: folder.file("vision").path)
    _ = try convert("gqa.gguf", to: folder.file("plain").path, vision: nil)
    _ = try convert(
      "gqa.gguf", to: folder.file("seeing").path, vision: folder.file("vision").path)
    let name = "model.layers.1.self_attn.v_proj.weight"
    let plain = try CheckpointFiles(directory: folder.file("plain").path).tensor(name)
    let seeing = try CheckpointFiles(directory: folder.file("seeing").path).tensor(name)
    let (x, y) = (try #require(plain.floats()), try #require(seeing.floats()))
    let (down, up) = (VisionFolder.values(2 * 64, 0.125), VisionFolder.values(32 * 2, 0.125))
    for row in 0..<32 {
      for column in 0..<64 {
        let change = up[2 * row] * down[column] + up[2 * row + 1] * down[64 + column]
        #expect(abs(y[64 * row + column] - x[64 * row + column] - change) < 1e-5)
      }
    }
  }

  @Test("config.json, tokenizer and template name the image tokens")
  func describes() throws {
    let folder = try TemporaryFolder()
    try VisionFolder().write(to: folder.file("vision").path)
    let directory = folder.file("out").path
    _ = try convert("gqa.gguf", to: directory, vision: folder.file("vision").path)
    let configuration = try Step3Configuration(
      json: json(directory + "/config.json"), path: "config.json")
    #expect(configuration.architecture == "Step3VLForConditionalGeneration")
    #expect(configuration.text.vocabularySize == 306 && configuration.imageTokenID == 300)
    #expect(configuration.vision?.imageSize == 28 && configuration.vision?.cropsPatches == false)
    #expect(configuration.projectorStride == 2 && !configuration.projectorHasBias)
    let added = try json(directory + "/tokenizer.json")["added_tokens"]?.array ?? []
    for (index, token) in VisionFolder.tokens.enumerated() {
      #expect(
        added.contains {
          $0["content"]?.string == token && $0["id"]?.integer == 300 + index
            && $0["special"]?.boolean == true
        }, "\(token)")
    }
    let template = try String(contentsOfFile: directory + "/chat_template.jinja", encoding: .utf8)
    #expect(template == "{{ messages }}")
    #expect(
      !(try convert("gqa.gguf", to: directory, vision: folder.file("vision").path)).wasWritten)
    #expect(try convert("gqa.gguf", to: directory, vision: nil).wasWritten)
  }

  @Test("a folder that does not fit the model is refused")
  func refuses() throws {
    let folder = try TemporaryFolder()
    let vision = folder.file("vision").path
    let out = folder.file("out").path
    var broken = VisionFolder()
    broken.tokens.removeLast()
    try broken.write(to: vision)
    #expect(
      throws: ConversionError.missingField(
        path: vision + "/config.json", field: "added_tokens: <patch_newline>")
    ) { try convert("gqa.gguf", to: out, vision: vision) }

    try FileManager.default.removeItem(atPath: vision)
    broken = VisionFolder()
    broken.hiddenSize = 60
    try broken.write(to: vision)
    #expect(throws: ConversionError.self) { try convert("gqa.gguf", to: out, vision: vision) }

    try FileManager.default.removeItem(atPath: vision)
    broken = VisionFolder()
    broken.adapterRows = 30
    try broken.write(to: vision)
    #expect(
      throws: ConversionError.wrongShape(
        path: vision + "/model.safetensors", tensor: "adapter.1.attn_v.up", expected: [32, 2],
        found: [30, 2])
    ) { try convert("gqa.gguf", to: out, vision: vision) }

    try FileManager.default.removeItem(atPath: vision)
    broken = VisionFolder()
    broken.adapter = "adapter.7.attn_v"
    try broken.write(to: vision)
    #expect(
      throws: ConversionError.unexpectedTensor(
        path: vision + "/model.safetensors", tensor: "adapter.7.attn_v.down")
    ) { try convert("gqa.gguf", to: out, vision: vision) }

    try FileManager.default.removeItem(atPath: vision)
    try VisionFolder().write(to: vision)
    #expect(throws: ConversionError.self) { try convert("hf-llama3", to: out, vision: vision) }
  }
}
