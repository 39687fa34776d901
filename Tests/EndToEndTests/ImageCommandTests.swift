import Foundation
import Tensors
import TestSupport
import Testing

/// What `step3 image` answers.
@Suite struct ImageCommandTests {
  struct Document: Decodable {
    struct Image: Decodable {
      struct Size: Decodable, Equatable {
        let width: Int
        let height: Int
      }
      let format: String
      let original: Size
      let canvas: Size?
      let newlines: [Bool]
      let tokens: Int
      let placeholder: [String]
    }
    let images: [Image]
  }

  struct Failure: Decodable {
    struct Content: Decodable { let code: String }
    let error: Content
  }

  let model = Fixtures.path("tiny/vision-f32")
  let picture = Fixtures.path("tiny/vision-f32/golden/vision/image.png")

  struct Inspection: Decodable {
    struct Tower: Decodable {
      struct View: Decodable, Equatable {
        let name: String
        let side, rows, tokens: Int
      }
      let parameters, bytes, scratch: Int
      let views: [View]
    }
    struct Memory: Decodable {
      let weights, vision_weights, kv_cache, total: Int
    }
    let vision: Tower?
    let memory: Memory
  }

  @Test("inspect tells of the tower, and counts it") func inspectsTower() async throws {
    let result = try await Step3Process.run(["inspect", "--model", model, "--format", "json"])
    let found = try result.json(Inspection.self)
    let tower = try #require(found.vision)
    #expect(
      tower.views == [
        Inspection.Tower.View(name: "whole image", side: 52, rows: 173, tokens: 9),
        Inspection.Tower.View(name: "crop", side: 36, rows: 85, tokens: 4),
      ])
    #expect(tower.bytes == 4 * tower.parameters && tower.scratch > 0)
    #expect(found.memory.vision_weights == tower.bytes)
    let parts = found.memory.weights + tower.bytes + found.memory.kv_cache
    #expect(found.memory.total == parts)
    let text = try await Step3Process.run([
      "inspect", "--model", Fixtures.path("tiny/moe-f32"), "--format", "json",
    ])
    #expect(try text.json(Inspection.self).vision == nil)
  }

  @Test("the pixels of an image of the tower's size are the reference's, and its tokens add up")
  func writesPixels() async throws {
    let folder = try TemporaryFolder()
    let result = try await Step3Process.run([
      "image", "--model", model, picture, picture, "--format", "json", "--pixels-out",
      folder.file("model.safetensors").path,
    ])
    #expect(result.exitCode == 0, "\(result.errors)")
    let images = try result.json(Document.self).images
    #expect(images.count == 2)
    #expect(images[0].original == Document.Image.Size(width: 52, height: 52))
    #expect(images[0].format == "PNG" && images[0].canvas == nil && images[0].newlines.isEmpty)
    #expect(images[0].placeholder.count == images[0].tokens)
    #expect(images[0].placeholder.first == "<im_start>")
    let written = try CheckpointFiles(directory: folder.url.path)
    let pixels = try written.tensor("pixel_values", shape: [2, 3, 52, 52])
    #expect(try written.tensor("patch_pixel_values").shape == [0, 3, 36, 36])
    let golden = try CheckpointFiles(
      directory: Fixtures.path("tiny/vision-f32/golden/vision")
    ).tensor("pixels.images")
    let expected = try #require(golden.slice(1).floats())
    for index in 0..<2 {
      let found = try #require(pixels.slice(index).floats())
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-6 })
    }
  }

  @Test("what is wrong with an image, a file or a model has an exit code and a name of its own")
  func reportsErrors() async throws {
    let folder = try TemporaryFolder()
    let text = folder.file("photo.jpg")
    try Data("no image".utf8).write(to: text)
    let half = folder.file("half.png")
    try Data(Data(contentsOf: URL(fileURLWithPath: picture)).prefix(1500)).write(to: half)
    let textOnly = Fixtures.path("tiny/dense-f32")
    for (arguments, exitCode, code) in [
      ([model, text.path], Int32(1), "not_an_image"), ([model, half.path], 1, "truncated_image"),
      ([model, folder.file("none.png").path], 2, "file_not_found"),
      ([textOnly, picture], 3, "no_vision"),
      ([model, picture, "--image-max-pixels", "2000"], 1, "image_too_large"),
    ] {
      let result = try await Step3Process.run(
        ["image", "--format", "json", "--model"] + arguments)
      #expect(result.exitCode == exitCode, "\(arguments): \(result.errors)")
      let failure = try JSONDecoder().decode(Failure.self, from: Data(result.errors.utf8))
      #expect(failure.error.code == code)
    }
  }
}
