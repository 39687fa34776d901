package import ModelConfiguration

/// An image ready for the vision tower: its plan, the whole image's pixels, and its crops.
///
/// Crops are kept in eight bits and normalised when they are asked for: a thin image may have
/// hundreds of them, three megabytes each.
package struct PreparedImage: Sendable {
  /// Sizes, crops, newlines and tokens.
  package let plan: PatchPlan
  /// The whole image, [3, S, S] with S the configuration's image size.
  package let pixels: [Float]
  private let canvas: RGBImage?
  private let preprocessor: ImagePreprocessor

  fileprivate init(
    plan: PatchPlan, pixels: [Float], canvas: RGBImage?, preprocessor: ImagePreprocessor
  ) {
    self.plan = plan
    self.pixels = pixels
    self.canvas = canvas
    self.preprocessor = preprocessor
  }

  /// Number of crops.
  package var cropCount: Int { plan.cropCount }

  /// Tokens of the expanded placeholder.
  package var tokenCount: Int { plan.tokenCount }

  /// The pixels of crop `index`, [3, s, s] with s the configuration's crop size.
  package func cropPixels(_ index: Int) -> [Float] {
    guard let canvas else { preconditionFailure("an image without crops") }
    let window = PixelKernels.window(canvas, plan.boxes[index])
    return PixelKernels.normalized(
      window, side: preprocessor.configuration.cropSize, table: preprocessor.table, threads: 1)
  }

  /// The pixels of all crops in order, [n, 3, s, s].
  package var allCropPixels: [Float] { (0..<cropCount).flatMap { cropPixels($0) } }
}

/// Pixels of an image to what the vision tower takes, exactly as the published processor:
/// pad, shrink and resize in eight bits, then normalise, then resize in single precision.
package struct ImagePreprocessor: Sendable {
  /// Sizes and rules.
  package let configuration: ImagePreprocessorConfiguration
  /// What an image may cost.
  package let limits: ImageLimits
  /// Threads that share one image; results do not depend on it.
  package let threadCount: Int
  let table: [Float]

  /// A preprocessor for a checkpoint.
  package init(
    configuration: ImagePreprocessorConfiguration, limits: ImageLimits = ImageLimits(),
    threadCount: Int = 1
  ) {
    self.configuration = configuration
    self.limits = limits
    self.threadCount = max(1, threadCount)
    table = PixelKernels.normalization(
      mean: configuration.mean, deviation: configuration.deviation)
  }

  /// The plan for an image of `size`, with the limit on crops applied.
  package func plan(_ size: ImageSize) throws(ImageError) -> PatchPlan {
    let plan = try PatchPlanner(configuration: configuration).plan(size)
    guard plan.cropCount <= limits.cropCount else {
      throw .tooManyCrops(size: size, count: plan.cropCount, limit: limits.cropCount)
    }
    return plan
  }

  /// The image in eight bits: padded and shrunk, and resized for cutting; nil when it is not cut.
  package func resized(
    _ image: RGBImage, by plan: PatchPlan
  ) -> (whole: RGBImage, canvas: RGBImage?) {
    precondition(plan.original == image.size, "a plan for \(plan.original), not \(image.size)")
    let order = configuration.passOrder
    let whole = PixelKernels.resized(
      image, on: plan.padded, to: plan.capped, order: order, threads: threadCount)
    let canvas = plan.canvas.map {
      PixelKernels.resized(whole, on: whole.size, to: $0, order: order, threads: threadCount)
    }
    return (whole, canvas)
  }

  /// The pixels that the tower takes.
  package func prepare(_ image: RGBImage) throws(ImageError) -> PreparedImage {
    let plan = try plan(image.size)
    let (whole, canvas) = resized(image, by: plan)
    let pixels = PixelKernels.normalized(
      whole, side: configuration.imageSize, table: table, threads: threadCount)
    return PreparedImage(plan: plan, pixels: pixels, canvas: canvas, preprocessor: self)
  }
}
