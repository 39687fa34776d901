package import ModelConfiguration

/// A rectangle of the crop canvas; it may hang over the right or lower edge, where it is black.
package struct CropBox: Sendable, Equatable {
  /// Left and upper edge, width and height in pixels.
  package var x, y, width, height: Int
}

/// One token of an image's place in the prompt.
package enum PlaceholderToken: String, Sendable, CaseIterable {
  case imageStart = "<im_start>"
  case imagePatch = "<im_patch>"
  case imageEnd = "<im_end>"
  case patchStart = "<patch_start>"
  case patchEnd = "<patch_end>"
  case patchNewline = "<patch_newline>"

  /// The token as tokenizer.json spells it.
  package var spelling: String { rawValue }
}

/// What becomes of an image of a given size: sizes after each step, crops, tokens.
///
/// The one place that decides: pixels and token counts both follow it.
package struct PatchPlan: Sendable, Equatable {
  /// The upright image.
  package let original: ImageSize
  /// After padding very thin images to a square: black to the right or below.
  package let padded: ImageSize
  /// After shrinking to the longest side that is kept.
  package let capped: ImageSize
  /// Side of the sliding window; 0 when the image is not cut.
  package let window: Int
  /// Size to which the image is resized for cutting; nil when it is not cut.
  package let canvas: ImageSize?
  /// Crops in a row, and rows.
  package let columnCount: Int
  package let rowCount: Int
  /// Placeholders of the whole image, and of one crop.
  package let imageTokenCount: Int
  package let cropTokenCount: Int

  /// Number of crops.
  package var cropCount: Int { columnCount * rowCount }

  /// The crops, row by row.
  package var boxes: [CropBox] {
    (0..<cropCount).map { index in
      CropBox(
        x: index % columnCount * window, y: index / columnCount * window, width: window,
        height: window)
    }
  }

  /// Whether a newline token follows each crop: behind every row but the last.
  package var newlines: [Bool] {
    (0..<cropCount).map { ($0 + 1).isMultiple(of: columnCount) && $0 + 1 < cropCount }
  }

  /// Tokens of the expanded placeholder.
  package var tokenCount: Int {
    cropCount * (cropTokenCount + 2) + max(0, rowCount - 1) + imageTokenCount + 2
  }

  /// Feature vectors that the placeholders among them take: the crops' in order, then the whole
  /// image's.
  package var featureCount: Int { cropCount * cropTokenCount + imageTokenCount }

  /// The tokens that take the place of one `<im_patch>` of the prompt.
  package var expansion: [PlaceholderToken] {
    var tokens: [PlaceholderToken] = []
    tokens.reserveCapacity(tokenCount)
    for isLast in newlines {
      tokens.append(.patchStart)
      tokens += repeatElement(.imagePatch, count: cropTokenCount)
      tokens.append(.patchEnd)
      if isLast { tokens.append(.patchNewline) }
    }
    tokens.append(.imageStart)
    tokens += repeatElement(.imagePatch, count: imageTokenCount)
    tokens.append(.imageEnd)
    return tokens
  }
}

/// Decides how images are shrunk and cut.
package struct PatchPlanner: Sendable {
  /// Sizes and rules.
  package let configuration: ImagePreprocessorConfiguration

  /// A planner for a checkpoint.
  package init(configuration: ImagePreprocessorConfiguration) {
    self.configuration = configuration
  }

  /// The plan for an upright image of `size`.
  ///
  /// - Source: `ImagePatcher` of the published engines, in doubles as there.
  package func plan(_ size: ImageSize) throws(ImageError) -> PatchPlan {
    precondition(size.width > 0 && size.height > 0, "an image of \(size)")
    let padded = self.padded(size)
    let capped = self.capped(padded)
    if capped.shortSide == 0 { throw .tooThin(size: size) }
    let window = configuration.cropsPatches ? self.window(capped) : 0
    guard window > 0 else {
      return PatchPlan(
        original: size, padded: padded, capped: capped, window: 0, canvas: nil, columnCount: 0,
        rowCount: 0, imageTokenCount: configuration.imageTokenCount,
        cropTokenCount: configuration.cropTokenCount)
    }
    let canvas = ImageSize(
      width: Self.canvasSide(capped.width, window), height: Self.canvasSide(capped.height, window))
    return PatchPlan(
      original: size, padded: padded, capped: capped, window: window, canvas: canvas,
      columnCount: max(1, canvas.width / window), rowCount: max(1, canvas.height / window),
      imageTokenCount: configuration.imageTokenCount,
      cropTokenCount: configuration.cropTokenCount)
  }

  private func padded(_ size: ImageSize) -> ImageSize {
    let ratio = Double(size.width) / Double(size.height)
    guard size.shortSide < 32, ratio > 4 || ratio < 1 / 4 else { return size }
    return ImageSize(width: size.longSide, height: size.longSide)
  }

  private func capped(_ size: ImageSize) -> ImageSize {
    guard size.longSide > configuration.maximumSide else { return size }
    let factor = Double(configuration.maximumSide) / Double(size.longSide)
    return ImageSize(
      width: Int(Double(size.width) * factor), height: Int(Double(size.height) * factor))
  }

  private func window(_ size: ImageSize) -> Int {
    let ratio = Double(size.longSide) / Double(size.shortSide)
    let isSmall =
      switch configuration.wholeImageRule {
      case .upTo: size.longSide <= configuration.wholeImageSide
      case .below: size.longSide < configuration.wholeImageSide
      }
    if isSmall { return ratio > 1.5 ? size.shortSide : 0 }
    return ratio > 4 ? min(size.shortSide, configuration.windowSize) : configuration.windowSize
  }

  /// A side rounded to whole windows: up when more than a fifth of one is left, in doubles, where
  /// 2.2 - 2 is above 0.2 and 1.2 - 1 is not. Sides below one window stay.
  private static func canvasSide(_ side: Int, _ window: Int) -> Int {
    let ratio = Double(side) / Double(window)
    if ratio < 1 { return side }
    let whole = side / window
    return window * (ratio - Double(whole) > 0.2 ? Int(ratio) + 1 : Int(ratio))
  }
}
