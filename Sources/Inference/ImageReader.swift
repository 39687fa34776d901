package import ImageProcessing
import ModelConfiguration
package import Step3Model
import Tensors

/// The ids of the tokens that an image's place in a prompt is made of.
package struct ImageTokens: Sendable, Equatable {
  /// The placeholder that stands for an image, and for each of its features.
  package let placeholder: Int
  private let ids: [PlaceholderToken: Int]

  /// Looks every token up; throws for one that the tokenizer lacks.
  ///
  /// - Parameter identify: the id of a token by its spelling, nil where it is no single token.
  package init(
    imageTokenID: Int, identify: (String) -> Int?
  ) throws(ImagePromptError) {
    var ids: [PlaceholderToken: Int] = [:]
    for token in PlaceholderToken.allCases {
      guard let id = identify(token.spelling) else {
        throw .missingToken(spelling: token.spelling)
      }
      ids[token] = id
    }
    guard ids[.imagePatch] == imageTokenID else {
      throw .otherPlaceholder(
        spelling: PlaceholderToken.imagePatch.spelling, tokenizer: ids[.imagePatch] ?? -1,
        configuration: imageTokenID)
    }
    placeholder = imageTokenID
    self.ids = ids
  }

  subscript(token: PlaceholderToken) -> Int { ids[token] ?? placeholder }
}

/// Why a prompt's images cannot be put in their places.
package enum ImagePromptError: Error, Equatable, Sendable {
  /// The tokenizer lacks one of the tokens around images.
  case missingToken(spelling: String)
  /// Tokenizer and configuration disagree about the placeholder.
  case otherPlaceholder(spelling: String, tokenizer: Int, configuration: Int)
  /// There are more or fewer placeholders than images.
  case placeholderCount(found: Int, images: Int)
  /// The checkpoint has no vision tower.
  case noVision
}

extension ImagePromptError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .missingToken(let spelling):
      "the checkpoint has a vision tower, but its tokenizer has no single token \(spelling); "
        + "add it to tokenizer.json's added_tokens"
    case .otherPlaceholder(let spelling, let tokenizer, let configuration):
      "\(spelling) is token \(tokenizer) in the tokenizer and image_token_id is "
        + "\(configuration) in config.json; make them equal"
    case .placeholderCount(let found, let images):
      "the prompt holds \(found) image placeholders (<im_patch>) for \(images) images; text must "
        + "not contain the placeholder itself"
    case .noVision:
      "this checkpoint takes text only: it has no vision tower; use one with vision weights, or "
        + "leave the images out"
    }
  }
}

/// An image as a client sent it.
package struct ImageFile: Sendable, Equatable {
  /// The bytes of the file.
  package let bytes: [UInt8]
  /// Whether a large image is cut into crops.
  package let isCropped: Bool

  package init(bytes: [UInt8], isCropped: Bool) {
    self.bytes = bytes
    self.isCropped = isCropped
  }
}

/// An image that was read: pixels, tokens, and a name for its content.
package struct PromptImage: Sendable {
  /// Plan and pixels.
  package let prepared: PreparedImage
  /// 256 bits that differ between different files, by a key of this process.
  package let digest: [UInt64]
  /// The file it was read from, where somebody else is to read it again.
  package let file: ImageFile?
  private let cropSide: Int
  private let imageSide: Int

  fileprivate init(
    _ prepared: PreparedImage, digest: [UInt64], file: ImageFile?, imageSide: Int, cropSide: Int
  ) {
    self.prepared = prepared
    self.digest = digest
    self.file = file
    self.imageSide = imageSide
    self.cropSide = cropSide
  }

  /// Views that the tower encodes: the crops in order, then the whole image.
  package var viewCount: Int { prepared.cropCount + 1 }

  /// Pixels on a side of view `index`.
  func side(_ index: Int) -> Int { index < prepared.cropCount ? cropSide : imageSide }

  /// View `index` as the tower takes it.
  package func view(_ index: Int) -> PixelView {
    index < prepared.cropCount
      ? PixelView(side: cropSide, pixels: prepared.cropPixels(index))
      : PixelView(side: imageSide, pixels: prepared.pixels)
  }
}

/// An image and where its expanded placeholder stands in the prompt.
package struct PlacedImage: Sendable {
  /// The image.
  package let image: PromptImage
  /// All tokens of the expansion.
  package let positions: Range<Int>

  /// The position of each view's first feature.
  var viewPositions: [Int] {
    let plan = image.prepared.plan
    var position = positions.lowerBound
    var result: [Int] = []
    for hasNewline in plan.newlines {
      result.append(position + 1)
      position += plan.cropTokenCount + (hasNewline ? 3 : 2)
    }
    return result + [position + 1]
  }
}

/// Reads image files into what a checkpoint's prompts and tower need. Works on any thread.
package struct ImageReader: Sendable {
  /// The tokens around images.
  package let tokens: ImageTokens
  /// Sizes and rules of the pixels.
  package let preprocessor: ImagePreprocessor
  private let wholePreprocessor: ImagePreprocessor
  private let decoder: ImageDecoder
  /// Whether images keep their files: for who sends them on.
  private let keepsFiles: Bool

  /// A reader for a checkpoint; nil for one without a vision tower.
  ///
  /// - Parameters:
  ///   - preprocessor: The rules; those of the checkpoint unless given.
  ///   - identify: The id of a token by its spelling, nil where it is no single token.
  package init?(
    _ folder: borrowing ModelFolder, preprocessor given: ImagePreprocessor? = nil,
    decoder: ImageDecoder = ImageDecoder(), identify: (String) -> Int?
  ) throws(InferenceError) {
    guard folder.hasVision else { return nil }
    try self.init(
      directory: folder.path, preprocessor: given, decoder: decoder, keepsFiles: false,
      identify: identify)
  }

  /// A reader for the front of a cluster, which has no weights and sends files on; nil for a
  /// checkpoint whose configuration names no vision tower.
  package init?(
    forwardingFrom directory: String, preprocessor given: ImagePreprocessor? = nil,
    decoder: ImageDecoder = ImageDecoder(), identify: (String) -> Int?
  ) throws(InferenceError) {
    try self.init(
      directory: directory, preprocessor: given, decoder: decoder, keepsFiles: true,
      identify: identify)
  }

  private init?(
    directory: String, preprocessor given: ImagePreprocessor?, decoder: ImageDecoder,
    keepsFiles: Bool, identify: (String) -> Int?
  ) throws(InferenceError) {
    guard let rules = try ModelFolder.imagePreprocessing(directory: directory) else { return nil }
    preprocessor = given ?? ImagePreprocessor(configuration: rules, limits: decoder.limits)
    var whole = preprocessor.configuration
    whole.cropsPatches = false
    wholePreprocessor = ImagePreprocessor(
      configuration: whole, limits: preprocessor.limits, threadCount: preprocessor.threadCount)
    self.decoder = decoder
    self.keepsFiles = keepsFiles
    let placeholder = try ModelFolder.imageTokenID(directory: directory)
    do throws(ImagePromptError) {
      tokens = try ImageTokens(imageTokenID: placeholder, identify: identify)
    } catch { throw .images(error) }
  }

  /// Decodes and prepares one file; without crops only the view of the whole is shown.
  package func read(
    _ bytes: [UInt8], isCropped: Bool = true
  ) throws(ImageError) -> PromptImage {
    let rules = isCropped ? preprocessor : wholePreprocessor
    let prepared = try rules.prepare(try decoder.decode(bytes))
    return PromptImage(
      prepared, digest: contentDigest(of: bytes, variant: prepared.cropCount),
      file: keepsFiles ? ImageFile(bytes: bytes, isCropped: isCropped) : nil,
      imageSide: preprocessor.configuration.imageSize,
      cropSide: preprocessor.configuration.cropSize)
  }

  /// Reads an image whose place in a prompt another reader has expanded; nil where its tokens do
  /// not stand there, because that reader goes by other rules.
  package func place(
    _ file: ImageFile, in prompt: [Int], at start: Int
  ) throws(ImageError) -> PlacedImage? {
    let image = try read(file.bytes, isCropped: file.isCropped)
    let expansion = image.prepared.plan.expansion.map { tokens[$0] }
    guard start >= 0, expansion.count <= prompt.count - start,
      prompt[start..<start + expansion.count].elementsEqual(expansion)
    else { return nil }
    return PlacedImage(image: image, positions: start..<start + expansion.count)
  }

  /// Puts the expansion of each image in the place of its placeholder, in order.
  package func expand(
    _ prompt: [Int], _ images: [PromptImage]
  ) throws(ImagePromptError) -> (prompt: [Int], images: [PlacedImage]) {
    let found = prompt.count { $0 == tokens.placeholder }
    guard found == images.count else {
      throw .placeholderCount(found: found, images: images.count)
    }
    if images.isEmpty { return (prompt, []) }
    var expanded: [Int] = []
    var placed: [PlacedImage] = []
    for id in prompt {
      guard id == tokens.placeholder else {
        expanded.append(id)
        continue
      }
      let image = images[placed.count]
      let start = expanded.count
      expanded += image.prepared.plan.expansion.map { tokens[$0] }
      placed.append(PlacedImage(image: image, positions: start..<expanded.count))
    }
    return (expanded, placed)
  }
}
