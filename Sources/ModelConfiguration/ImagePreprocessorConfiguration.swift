package import JSONScanning

/// Which images are not cut into crops for their size alone.
///
/// The published engines disagree about a long side of exactly the threshold: vLLM 0.10 and SGLang
/// keep such an image whole, newer vLLM cuts it.
package enum WholeImageRule: String, Sendable, CaseIterable {
  /// A long side up to and including the threshold; the model's guide says the same.
  case upTo = "up-to"
  /// A long side below the threshold.
  case below
}

/// Which of the two passes of a resize in eight bits comes first; each rounds, so results differ by
/// one unit.
package enum ResizePassOrder: String, Sendable, CaseIterable {
  /// The vertical one where the height shrinks by more than twice what the width does, otherwise
  /// the horizontal one: Pillow 13.
  case cheaperFirst = "cheaper-first"
  /// The horizontal one always: Pillow up to 12.
  case horizontalFirst = "horizontal-first"
}

/// How images become pixels and tokens: what the checkpoint and its preprocessor's file say.
package struct ImagePreprocessorConfiguration: Sendable, Equatable {
  /// Side of the whole image as the tower takes it, in pixels.
  package var imageSize = 728
  /// Side of a crop as the tower takes it, in pixels.
  package var cropSize = 504
  /// Placeholders that stand for the whole image, and for one crop.
  package var imageTokenCount = 169
  package var cropTokenCount = 81
  /// The longest side that is kept; larger images are shrunk first.
  package var maximumSide = 3024
  /// Side of the window that slides over large images, in pixels of the shrunk image.
  package var windowSize = 504
  /// The long side up to which an image may be taken whole.
  package var wholeImageSide = 728
  /// What holds for a long side of exactly `wholeImageSide`.
  package var wholeImageRule = WholeImageRule.upTo
  /// The order of passes in both resizes in eight bits.
  package var passOrder = ResizePassOrder.cheaperFirst
  /// Whether large images are cut into crops at all.
  package var cropsPatches = true
  /// Mean and standard deviation of red, green and blue in the unit interval.
  package var mean: [Float] = [0.48145466, 0.4578275, 0.40821073]
  package var deviation: [Float] = [0.26862954, 0.26130258, 0.27577711]

  /// The published model's values.
  package init() {}
}

extension ImagePreprocessorConfiguration {
  /// The values for a tower, with those that its preprocessor_config.json names.
  ///
  /// Sizes of the tower follow its configuration: without a file, crops keep the published ratio
  /// to the whole image (504 to 728), rounded to whole patches. The windows and the cap are rules
  /// about the picture and not about the tower: they stay as published unless the file says
  /// otherwise. `path` is only for messages.
  package init(
    vision: VisionConfiguration, projectorStride: Int, preprocessor json: JSONValue? = nil,
    path: String = "preprocessor_config.json"
  ) throws(ConfigurationError) {
    self.init()
    var reader = ConfigurationReader(path: path, prefix: "", object: json ?? .object(JSONObject()))
    if let json, json.object == nil {
      throw .notJSON(path: path, reason: "the top level is not an object")
    }
    imageSize = try reader.side("image_size") ?? vision.imageSize
    let patches = Double(imageSize) * 504 / 728 / Double(vision.patchSize)
    cropSize = max(1, Int(patches.rounded())) * vision.patchSize
    // A file that repeats the tower's own patch size there says nothing about crops.
    if let side = try reader.side("patch_size"), side != vision.patchSize { cropSize = side }
    maximumSide = try reader.integer("max_image_size", classDefault: maximumSide)
    windowSize = try reader.integer("window_size", classDefault: windowSize)
    wholeImageSide = try reader.integer("whole_image_size", classDefault: wholeImageSide)
    cropsPatches = try reader.bool("enable_patch", classDefault: vision.cropsPatches)
    mean = try reader.triple("image_mean") ?? mean
    deviation = try reader.triple("image_std") ?? deviation
    wholeImageRule = try reader.choice("whole_image_rule") ?? wholeImageRule
    passOrder = try reader.choice("resize_pass_order") ?? passOrder
    if deviation.contains(where: { $0 <= 0 }) {
      throw reader.unsupported("image_std", "\(deviation)", "each must be above zero")
    }
    imageTokenCount = try Self.tokens(
      of: imageSize, "image_size", vision, projectorStride, reader)
    cropTokenCount = try Self.tokens(of: cropSize, "patch_size", vision, projectorStride, reader)
  }

  /// Tokens of a square: patches, a 2 x 2 convolution with the projector's stride, then a 3 x 3
  /// one with stride 2 and one row of padding.
  private static func tokens(
    of side: Int, _ field: String, _ vision: VisionConfiguration, _ stride: Int,
    _ reader: ConfigurationReader
  ) throws(ConfigurationError) -> Int {
    let grid = side / vision.patchSize
    guard grid >= 2, side.isMultiple(of: vision.patchSize) else {
      throw reader.unsupported(
        field, "\(side)",
        "it must be a multiple of the tower's patch_size \(vision.patchSize), at least twice that")
    }
    let once = (grid - 2) / stride + 1
    let twice = (once + 2 - 3) / 2 + 1
    return twice * twice
  }
}

extension ConfigurationReader {
  /// A side in pixels: a number, or an object with equal height and width.
  fileprivate func side(_ key: String) throws(ConfigurationError) -> Int? {
    guard let json = value(key) else { return nil }
    let found = json.integer ?? (json["height"] == json["width"] ? json["height"]?.integer : nil)
    guard let found else { throw wrongType(key, "an integer, or equal height and width", json) }
    guard (1...16_384).contains(found) else {
      throw unsupported(key, "\(found)", "it must lie between 1 and 16384")
    }
    return found
  }

  fileprivate func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ key: String
  ) throws(ConfigurationError) -> Choice? {
    guard let text = try string(key) else { return nil }
    guard let choice = Choice(rawValue: text) else {
      let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw unsupported(key, text, "known are \(known)")
    }
    return choice
  }

  fileprivate func triple(_ key: String) throws(ConfigurationError) -> [Float]? {
    guard let found = try numbers(key) else { return nil }
    guard found.count == 3 else {
      throw unsupported(key, "\(found)", "it must name three colours")
    }
    return found.map { Float($0) }
  }
}
