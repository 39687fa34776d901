import CommandLineInterface
import ImageProcessing
import Inference
import Kernels
import ModelConfiguration
import Tensors

/// Flags of every command that takes images.
enum ImageFlags {
  static let windowRule = Flag.choice(
    "image-window-rule", WholeImageRule.allCases.map(\.rawValue), default: "up-to",
    help: "keep images whole whose long side is up to, or below, the threshold of 728 pixels")
  static let passOrder = Flag.choice(
    "image-pass-order", ResizePassOrder.allCases.map(\.rawValue), default: "cheaper-first",
    help: "resize as Pillow 13, or horizontally first as Pillow up to 12 (one unit apart)")
  static let crops = Flag.toggle(
    "image-crops", default: true, help: "cut large images into crops, as the model expects")
  static let transparency = Flag.choice(
    "image-transparency", TransparencyRule.allCases.map(\.rawValue), default: "over-white",
    help: "blend transparent images over white, or drop their transparency")
  static let pixelLimit = Flag.integer(
    "image-max-pixels", in: 1...2_000_000_000, default: ImageLimits().pixelCount,
    help: "the most pixels of one image")
  static let all = [windowRule, passOrder, crops, transparency, pixelLimit]

  /// The limits that the flags ask for.
  static func limits(_ arguments: ParsedArguments) -> ImageLimits {
    var limits = ImageLimits()
    limits.pixelCount = arguments.integer(pixelLimit.name)
    return limits
  }

  /// A decoder as the flags ask for it.
  static func decoder(_ arguments: ParsedArguments) -> ImageDecoder {
    ImageDecoder(
      limits: limits(arguments), transparency: arguments.choice(transparency.name))
  }

  /// The preprocessor of the checkpoint, changed as the flags ask for.
  static func preprocessor(_ arguments: ParsedArguments) throws -> ImagePreprocessor {
    guard var configuration = try ModelFolder.imagePreprocessing(directory: arguments.model) else {
      throw CommandFailure(
        .modelFiles, code: "no_vision",
        "\(arguments.model): this checkpoint reads text only; images need one with a "
          + "vision_config (Step3VLForConditionalGeneration)")
    }
    if arguments.isGiven(windowRule.name) {
      configuration.wholeImageRule = arguments.choice(windowRule.name)
    }
    if arguments.isGiven(passOrder.name) {
      configuration.passOrder = arguments.choice(passOrder.name)
    }
    if !arguments.isOn(crops.name) { configuration.cropsPatches = false }
    return ImagePreprocessor(
      configuration: configuration, limits: limits(arguments),
      threadCount: arguments.threads ?? usableCores().count)
  }

  static let files = Flag.string(
    "image", "FILE", repeated: true, help: "an image to look at; repeatable, in order")

  /// What reads images for the checkpoint as the flags ask for it; nil for one that takes text
  /// only.
  static func reader(
    _ arguments: ParsedArguments, _ folder: ModelFolder, identify: (String) -> Int?
  ) throws -> ImageReader? {
    guard folder.hasVision else { return nil }
    return try ImageReader(
      folder, preprocessor: try preprocessor(arguments), decoder: decoder(arguments),
      identify: identify)
  }

  /// What reads images for a gateway, which sends them on; nil for a checkpoint that takes text
  /// only.
  static func forwarder(
    _ arguments: ParsedArguments, identify: (String) -> Int?
  ) throws -> ImageReader? {
    guard try ModelFolder.imagePreprocessing(directory: arguments.model) != nil else { return nil }
    return try ImageReader(
      forwardingFrom: arguments.model, preprocessor: try preprocessor(arguments),
      decoder: decoder(arguments), identify: identify)
  }

  /// The image in a file.
  static func read(
    _ path: String, _ reader: ImageReader?, _ arguments: ParsedArguments
  ) throws -> PromptImage {
    guard let reader else {
      throw CommandFailure(
        .usage, code: "no_vision", "\(arguments.model): \(ImagePromptError.noVision)")
    }
    let bytes = try bytes(path, limits: limits(arguments))
    do throws(ImageError) { return try reader.read(bytes) } catch {
      throw ImageFileError(path: path, error: error)
    }
  }

  /// The bytes of an image file, not more than the limit.
  static func bytes(_ path: String, limits: ImageLimits) throws -> [UInt8] {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch {
      throw CommandFailure(.usage, code: error.code, "\(error)")
    }
    guard file.byteCount <= limits.byteCount else {
      throw ImageFileError(
        path: path, error: .tooManyBytes(count: file.byteCount, limit: limits.byteCount))
    }
    return file.contents.bytes()
  }
}

/// What was wrong with which image.
struct ImageFileError: CommandError, Equatable {
  let path: String
  let error: ImageError

  var exitCode: ExitCode { .failed }
  var code: String { error.code }
  var description: String { "\(path): \(error)" }
}

extension ImageError {
  /// The `code` of the error's JSON form.
  var code: String {
    switch self {
    case .empty, .unknownFormat: "not_an_image"
    case .unsupported: "unsupported_image"
    case .truncated: "truncated_image"
    case .damaged: "damaged_image"
    case .tooManyBytes, .tooManyPixels, .sideTooLong, .tooSlow, .outOfMemory: "image_too_large"
    case .tooThin, .tooManyCrops: "image_too_thin"
    }
  }
}
