import ImageProcessing
import ModelConfiguration
import TestSupport
import Testing

@Suite("Preparing images")
struct ImagePreprocessorTests {
  struct Case: Decodable, Sendable {
    let size: [Int]
    let whole: UInt32
    let canvas: UInt32?
    let pixels: [Float]
    let crop: Int?
    let cropPixels: [Float]?

    enum CodingKeys: String, CodingKey {
      case size, whole, canvas, pixels, crop
      case cropPixels = "crop_pixels"
    }
  }

  /// The picture of the generator.
  static func picture(_ width: Int, _ height: Int) -> RGBImage {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(3 * width * height)
    for y in 0..<height {
      for x in 0..<width {
        let base = (x / 16 ^ y / 16) * 59 + ((x * y) >> 3)
        for c in 0..<3 {
          bytes.append(UInt8(truncatingIfNeeded: x * (7 + 4 * c) + y * (13 - 3 * c) + base))
        }
      }
    }
    return RGBImage(size: ImageSize(width: width, height: height), bytes: bytes)
  }

  static func difference(_ values: [Float], _ expected: [Float]) -> Float {
    expected.indices.reduce(0) { worst, index in
      max(worst, abs(values[index * 7919 * 97 % values.count] - expected[index]))
    }
  }

  @Test("gives the sizes, crops and tokens of the published rules for hundreds of sizes")
  func equalsPlans() throws {
    let rows = try Fixtures.json([[Int]].self, "images/plans.json")
    #expect(rows.count > 350)
    let planner = PatchPlanner(configuration: ImagePreprocessorConfiguration())
    for row in rows {
      let plan = try planner.plan(ImageSize(width: row[0], height: row[1]))
      let canvas = plan.canvas ?? ImageSize(width: 0, height: 0)
      #expect(
        row == [
          row[0], row[1], plan.padded.width, plan.padded.height, plan.capped.width,
          plan.capped.height, plan.window, canvas.width, canvas.height, plan.columnCount,
          plan.rowCount, plan.tokenCount,
        ])
    }
  }

  @Test("gives the bytes of Pillow's resizes and the values of torchvision's")
  func equalsReference() throws {
    let preprocessor = ImagePreprocessor(
      configuration: ImagePreprocessorConfiguration(), threadCount: 2)
    for item in try Fixtures.json([Case].self, "images/pixels.json") {
      let image = Self.picture(item.size[0], item.size[1])
      let plan = try preprocessor.plan(image.size)
      let (whole, canvas) = preprocessor.resized(image, by: plan)
      #expect(Checksum.crc32(whole.bytes) == item.whole, "\(item.size)")
      #expect(canvas.map { Checksum.crc32($0.bytes) } == item.canvas, "\(item.size)")
      let prepared = try preprocessor.prepare(image)
      #expect(prepared.pixels.count == 3 * 728 * 728)
      #expect(Self.difference(prepared.pixels, item.pixels) < 1e-5, "\(item.size)")
      if let crop = item.crop, let expected = item.cropPixels {
        #expect(prepared.cropCount == crop + 1)
        #expect(Self.difference(prepared.cropPixels(crop), expected) < 1e-5, "\(item.size)")
      }
    }
  }

  /// One axis of an 8-bit resize, as plainly as it can be written.
  static func slowly(_ line: [UInt8], to count: Int) -> [UInt8] {
    let scale = Double(line.count) / Double(count)
    let reach = max(scale, 1)
    return (0..<count).map { output in
      let center = (Double(output) + 0.5) * scale
      let from = max(0, Int(center - reach + 0.5))
      let to = min(line.count, Int(center + reach + 0.5))
      let weights = (from..<to).map { max(0, 1 - abs(Double($0) - center + 0.5) / reach) }
      let sum = weights.reduce(0, +)
      var total = 1 << 21
      for (index, weight) in weights.enumerated() {
        total += Int(line[from + index]) * Int(weight / sum * Double(1 << 22) + 0.5)
      }
      return UInt8(max(0, min(255, total >> 22)))
    }
  }

  @Test("resizes like a plain implementation, whatever the order of passes and the threads")
  func equalsSlowReference() throws {
    // The last two are padded to squares first.
    for (width, height) in [(37, 53), (90, 41), (64, 64), (120, 33), (120, 9), (7, 77)] {
      for order in ResizePassOrder.allCases {
        var configuration = ImagePreprocessorConfiguration()
        configuration.maximumSide = 48
        configuration.windowSize = 20
        configuration.wholeImageSide = 30
        configuration.passOrder = order
        let image = Self.picture(width, height)
        let plan = try PatchPlanner(configuration: configuration).plan(image.size)
        let results = [1, 3].map {
          ImagePreprocessor(configuration: configuration, threadCount: $0)
            .resized(image, by: plan)
        }
        #expect(results[0].whole == results[1].whole)
        #expect(results[0].canvas == results[1].canvas)
        let square = Self.squarePadded(image, plan.padded)
        #expect(results[0].whole == Self.slowly(square, to: plan.capped, order))
        let canvas = try #require(plan.canvas)
        #expect(results[0].canvas == Self.slowly(results[0].whole, to: canvas, order))
      }
    }
  }

  static func squarePadded(_ image: RGBImage, _ size: ImageSize) -> RGBImage {
    var bytes: [UInt8] = []
    for y in 0..<size.height {
      for x in 0..<size.width {
        let isInside = x < image.size.width && y < image.size.height
        let at = 3 * (y * image.size.width + x)
        bytes += isInside ? Array(image.bytes[at..<at + 3]) : [0, 0, 0]
      }
    }
    return RGBImage(size: size, bytes: bytes)
  }

  static func slowly(
    _ image: RGBImage, to size: ImageSize, _ order: ResizePassOrder
  ) -> RGBImage {
    let (old, new) = (image.size, size)
    let isVerticalFirst =
      order == .cheaperFirst && new.height < old.height
      && old.height - new.height > 2 * (old.width - new.width)
    func across(_ image: RGBImage) -> RGBImage {
      let result = ImageSize(width: new.width, height: image.size.height)
      var bytes = [UInt8](repeating: 0, count: 3 * result.pixelCount)
      for y in 0..<result.height {
        for c in 0..<3 {
          let line = (0..<image.size.width).map { image.bytes[3 * (y * image.size.width + $0) + c] }
          for (x, value) in slowly(line, to: new.width).enumerated() {
            bytes[3 * (y * result.width + x) + c] = value
          }
        }
      }
      return RGBImage(size: result, bytes: bytes)
    }
    func down(_ image: RGBImage) -> RGBImage {
      let result = ImageSize(width: image.size.width, height: new.height)
      var bytes = [UInt8](repeating: 0, count: 3 * result.pixelCount)
      for x in 0..<result.width {
        for c in 0..<3 {
          let line = (0..<image.size.height).map { image.bytes[3 * ($0 * result.width + x) + c] }
          for (y, value) in slowly(line, to: new.height).enumerated() {
            bytes[3 * (y * result.width + x) + c] = value
          }
        }
      }
      return RGBImage(size: result, bytes: bytes)
    }
    return isVerticalFirst ? across(down(image)) : down(across(image))
  }

  @Test("gives the same bits with any number of threads, crops one by one or all at once")
  func ignoresThreads() throws {
    let image = Self.picture(900, 610)
    let configuration = ImagePreprocessorConfiguration()
    let one = try ImagePreprocessor(configuration: configuration).prepare(image)
    let five = try ImagePreprocessor(configuration: configuration, threadCount: 5).prepare(image)
    #expect(one.pixels == five.pixels)
    #expect(one.cropPixels(1) == five.cropPixels(1))
    #expect(one.allCropPixels == (0..<one.cropCount).flatMap { five.cropPixels($0) })
  }

  @Test("fills with black where a crop hangs over the edge")
  func fillsWithBlack() throws {
    let configuration = ImagePreprocessorConfiguration()
    let white = RGBImage(
      size: ImageSize(width: 1000, height: 300), bytes: [UInt8](repeating: 255, count: 900_000))
    let crop = try ImagePreprocessor(configuration: configuration).prepare(white).cropPixels(0)
    let bright = (1 - configuration.mean[0]) / configuration.deviation[0]
    let dark = -configuration.mean[0] / configuration.deviation[0]
    #expect(crop[299 * 504] == bright && crop[300 * 504] == dark)
  }

  @Test("takes towers of any size")
  func followsSizes() throws {
    var tower = VisionConfiguration()
    tower.imageSize = 56
    let configuration = try ImagePreprocessorConfiguration(vision: tower, projectorStride: 2)
    let prepared = try ImagePreprocessor(configuration: configuration).prepare(
      Self.picture(1024, 768))
    #expect(prepared.pixels.count == 3 * 56 * 56)
    #expect(prepared.cropPixels(0).count == 3 * 42 * 42)
  }
}
