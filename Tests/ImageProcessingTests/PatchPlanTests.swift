import ImageProcessing
import JSONScanning
import ModelConfiguration
import Testing

@Suite("The plan for an image")
struct PatchPlanTests {
  /// One row of the published rules' table.
  struct Row: Sendable, CustomStringConvertible {
    let size: (Int, Int), capped: (Int, Int), window: Int, canvas: (Int, Int)?
    let newlines: Int, tokens: Int
    var description: String { "\(size.0)x\(size.1)" }
  }

  static let table = [
    Row(size: (224, 224), capped: (224, 224), window: 0, canvas: nil, newlines: 0, tokens: 171),
    Row(size: (640, 480), capped: (640, 480), window: 0, canvas: nil, newlines: 0, tokens: 171),
    Row(
      size: (728, 484), capped: (728, 484), window: 484, canvas: (968, 484), newlines: 0,
      tokens: 337),
    Row(
      size: (640, 400), capped: (640, 400), window: 400, canvas: (800, 400), newlines: 0,
      tokens: 337),
    Row(
      size: (700, 280), capped: (700, 280), window: 280, canvas: (840, 280), newlines: 0,
      tokens: 420),
    Row(size: (728, 728), capped: (728, 728), window: 0, canvas: nil, newlines: 0, tokens: 171),
    Row(
      size: (729, 729), capped: (729, 729), window: 504, canvas: (1008, 1008), newlines: 1,
      tokens: 504),
    Row(
      size: (800, 600), capped: (800, 600), window: 504, canvas: (1008, 504), newlines: 0,
      tokens: 337),
    Row(
      size: (1000, 300), capped: (1000, 300), window: 504, canvas: (1008, 300), newlines: 0,
      tokens: 337),
    Row(
      size: (1024, 768), capped: (1024, 768), window: 504, canvas: (1008, 1008), newlines: 1,
      tokens: 504),
    Row(
      size: (1280, 720), capped: (1280, 720), window: 504, canvas: (1512, 1008), newlines: 1,
      tokens: 670),
    Row(
      size: (1920, 1080), capped: (1920, 1080), window: 504, canvas: (2016, 1008), newlines: 1,
      tokens: 836),
    Row(
      size: (1080, 1920), capped: (1080, 1920), window: 504, canvas: (1008, 2016), newlines: 3,
      tokens: 838),
    Row(
      size: (2000, 450), capped: (2000, 450), window: 450, canvas: (2250, 450), newlines: 0,
      tokens: 586),
    Row(
      size: (2048, 2048), capped: (2048, 2048), window: 504, canvas: (2016, 2016), newlines: 3,
      tokens: 1502),
    Row(
      size: (3024, 3024), capped: (3024, 3024), window: 504, canvas: (3024, 3024), newlines: 5,
      tokens: 3164),
    Row(
      size: (4032, 3024), capped: (3024, 2268), window: 504, canvas: (3024, 2520), newlines: 4,
      tokens: 2665),
    Row(
      size: (3000, 700), capped: (3000, 700), window: 504, canvas: (3024, 1008), newlines: 1,
      tokens: 1168),
    Row(size: (400, 30), capped: (400, 400), window: 0, canvas: nil, newlines: 0, tokens: 171),
    Row(
      size: (3500, 20), capped: (3024, 3024), window: 504, canvas: (3024, 3024), newlines: 5,
      tokens: 3164),
    Row(
      size: (3016, 32), capped: (3016, 32), window: 32, canvas: (3040, 32), newlines: 0,
      tokens: 8056),
    Row(
      size: (4000, 32), capped: (3024, 24), window: 24, canvas: (3024, 24), newlines: 0,
      tokens: 10_629),
    Row(
      size: (8000, 33), capped: (3024, 12), window: 12, canvas: (3024, 12), newlines: 0,
      tokens: 21_087),
  ]

  static let planner = PatchPlanner(configuration: ImagePreprocessorConfiguration())

  @Test("follows the published rules", arguments: table)
  func followsTable(row: Row) throws {
    let plan = try Self.planner.plan(ImageSize(width: row.size.0, height: row.size.1))
    #expect(plan.capped == ImageSize(width: row.capped.0, height: row.capped.1))
    #expect(plan.window == row.window)
    #expect(plan.canvas == row.canvas.map { ImageSize(width: $0.0, height: $0.1) })
    #expect(plan.newlines.count { $0 } == row.newlines)
    #expect(plan.tokenCount == row.tokens)
    #expect(plan.boxes.count == plan.cropCount && plan.newlines.count == plan.cropCount)
    #expect(plan.expansion.count == row.tokens)
    #expect(plan.expansion.count { $0 == .imagePatch } == plan.featureCount)
    #expect(plan.expansion.count { $0 == .patchNewline } == row.newlines)
  }

  @Test("puts newlines behind rows, and the whole image last")
  func ordersTokens() throws {
    var small = ImagePreprocessorConfiguration()
    small.imageTokenCount = 2
    small.cropTokenCount = 1
    let plan = try PatchPlanner(configuration: small).plan(ImageSize(width: 729, height: 729))
    let crop = ["<patch_start>", "<im_patch>", "<patch_end>"]
    #expect(
      plan.expansion.map(\.spelling) == crop + crop + ["<patch_newline>"] + crop + crop + [
        "<im_start>", "<im_patch>", "<im_patch>", "<im_end>",
      ])
  }

  @Test("cuts a long side of exactly the threshold only when asked to")
  func honoursBoundaryRule() throws {
    var configuration = ImagePreprocessorConfiguration()
    let square = ImageSize(width: 728, height: 728)
    #expect(try PatchPlanner(configuration: configuration).plan(square).tokenCount == 171)
    configuration.wholeImageRule = .below
    #expect(try PatchPlanner(configuration: configuration).plan(square).tokenCount == 504)
    #expect(
      try PatchPlanner(configuration: configuration).plan(ImageSize(width: 727, height: 727))
        .tokenCount == 171)
  }

  @Test("cuts nothing where the configuration switches crops off")
  func honoursSwitch() throws {
    var configuration = ImagePreprocessorConfiguration()
    configuration.cropsPatches = false
    let plan = try PatchPlanner(configuration: configuration).plan(
      ImageSize(width: 1920, height: 1080))
    #expect(plan.tokenCount == 171 && plan.window == 0 && plan.canvas == nil)
  }

  @Test("refuses what would shrink to nothing, and more crops than the limit")
  func refusesThinImages() throws {
    let line = ImageSize(width: 100_000, height: 32)
    #expect(throws: ImageError.tooThin(size: line)) { try Self.planner.plan(line) }
    let thin = ImageSize(width: 65_000, height: 32)
    #expect(throws: ImageError.tooManyCrops(size: thin, count: 3024, limit: 780)) {
      try ImagePreprocessor(configuration: ImagePreprocessorConfiguration()).plan(thin)
    }
  }

  @Test("takes its sizes from the tower and from the preprocessor's file")
  func readsConfiguration() throws {
    let published = try ImagePreprocessorConfiguration(
      vision: VisionConfiguration(), projectorStride: 2)
    #expect(published == ImagePreprocessorConfiguration())
    var tower = VisionConfiguration()
    tower.imageSize = 182
    let small = try ImagePreprocessorConfiguration(vision: tower, projectorStride: 1)
    #expect(small.cropSize == 126 && small.imageTokenCount == 36 && small.cropTokenCount == 16)
    let named = try ImagePreprocessorConfiguration(
      vision: tower, projectorStride: 1,
      preprocessor: [
        "image_size": ["height": 112, "width": 112], "patch_size": 56, "enable_patch": false,
        "whole_image_rule": "below", "image_mean": [0.5, 0.5, 0.5],
      ])
    #expect(named.imageSize == 112 && named.cropSize == 56 && !named.cropsPatches)
    #expect(named.wholeImageRule == .below && named.mean == [0.5, 0.5, 0.5])
    #expect(throws: ConfigurationError.self) {
      try ImagePreprocessorConfiguration(
        vision: tower, projectorStride: 1, preprocessor: ["patch_size": 57])
    }
  }
}
