import ImageFetching
import ImageProcessing
import Inference
import JSONScanning

/// Content of a message that may hold images.
///
/// Within the server an image is a part `{"type": "image", "url" or "base64": …, "path": …}`, which
/// stays in stored conversations; templates see `{"type": "image"}`.
struct MessageContent {
  private var parts: [JSONValue] = []
  private var hasImages = false

  /// Adds a text.
  mutating func append(_ text: String) {
    parts.append(["type": "text", "text": .string(text)])
  }

  /// Adds an image of OpenAI's form: `image_url` holds a URL, or an object with one.
  mutating func appendImageURL(_ part: FieldReader) throws(APIError) {
    let value = try part.required("image_url")
    if let url = value.string {
      append(key: "url", url, detail: try part.string("detail"), path: part.path("image_url"))
      return
    }
    let fields = try FieldReader(value, path: part.path("image_url"))
    let detail = try fields.choice("detail", of: ["low", "high", "auto", "original"])
    append(
      key: "url", try fields.requiredString("url"), detail: detail, path: fields.path("url"))
  }

  /// Adds an image of Anthropic's form: `source` is of type base64 or url.
  mutating func appendImageSource(_ block: FieldReader) throws(APIError) {
    let source = try block.requiredFields("source")
    switch try source.requiredString("type") {
    case "base64":
      append(
        key: "base64", try source.requiredString("data"), detail: nil, path: source.path("data"))
    case "url":
      append(key: "url", try source.requiredString("url"), detail: nil, path: source.path("url"))
    default: throw .badField(path: source.path("type"), reason: "must be base64 or url.")
    }
  }

  private mutating func append(key: String, _ value: String, detail: String?, path: String) {
    hasImages = true
    parts.append(
      .object(
        JSONObject([
          ("type", "image"), (key, .string(value)), ("path", .string(path)),
          ("detail", detail.map { .string($0) }),
        ])))
  }

  /// One string where there are no images, texts joined by line breaks; else the parts.
  var json: JSONValue {
    if hasImages { return .array(parts) }
    return .string(parts.compactMap { $0["text"]?.string }.joined(separator: "\n"))
  }
}

/// An image that a request shows, not read yet.
struct ImageReference: Sendable {
  private let value: String
  private let isBase64: Bool
  private let isCropped: Bool
  /// Where in the request it stands.
  let path: String

  private init?(_ part: JSONValue) {
    guard part["type"]?.string == "image", let path = part["path"]?.string else { return nil }
    self.path = path
    // The view of the whole alone, at a fraction of the cost.
    isCropped = part["detail"]?.string != "low"
    if let data = part["base64"]?.string {
      (value, isBase64) = (data, true)
    } else {
      (value, isBase64) = (part["url"]?.string ?? "", false)
    }
  }

  /// Takes the images out of messages, in order; what templates see is left.
  static func extract(from messages: inout [JSONValue]) -> [ImageReference] {
    var references: [ImageReference] = []
    for index in messages.indices {
      guard let parts = messages[index]["content"]?.array,
        case .object(var fields) = messages[index]
      else { continue }
      fields["content"] = .array(
        parts.map { part in
          guard let reference = ImageReference(part) else { return part }
          references.append(reference)
          return ["type": "image"]
        })
      messages[index] = .object(fields)
    }
    return references
  }

  /// Fetches, decodes and prepares the image.
  func read(_ reader: ImageReader, _ fetcher: ImageFetcher) async throws(APIError) -> PromptImage {
    let bytes: [UInt8]
    do throws(FetchError) {
      bytes =
        isBase64
        ? try DataURL.decodeBase64(value.utf8.span, byteLimit: fetcher.policy.byteLimit)
        : try await fetcher.bytes(of: value)
    } catch { throw .badField(path: path, reason: "holds no image that can be used: \(error).") }
    do throws(ImageError) { return try reader.read(bytes, isCropped: isCropped) } catch {
      throw .badField(path: path, reason: "holds no image that can be used: \(error).")
    }
  }
}

/// A rendered prompt, its images in their places.
struct ImagePrompt: Sendable {
  /// Token ids.
  var tokens: [Int]
  /// The images among them.
  var images: [PlacedImage]
  /// The prompt as text.
  var text: String
}

extension ChatTemplateInput {
  /// Renders and tokenises the conversation; images are fetched, read and given their places.
  func prompt(
    model: ServedModel, context: APIContext, addsSpecialTokens: Bool
  ) async throws(APIError) -> ImagePrompt {
    var input = self
    let references = ImageReference.extract(from: &input.messages)
    let images = try await Self.read(references, model, context)
    let text = try model.text.render(input)
    let tokens = try model.text.encode(rendered: text, addsSpecialTokens: addsSpecialTokens)
    guard let reader = model.images else {
      return ImagePrompt(tokens: tokens, images: [], text: text)
    }
    do throws(ImagePromptError) {
      let (prompt, placed) = try reader.expand(tokens, images)
      return ImagePrompt(tokens: prompt, images: placed, text: text)
    } catch { throw .badField(path: "messages", reason: "cannot be put together: \(error).") }
  }

  private static func read(
    _ references: [ImageReference], _ model: ServedModel, _ context: APIContext
  ) async throws(APIError) -> [PromptImage] {
    guard let first = references.first else { return [] }
    guard let reader = model.images else {
      throw .badField(
        path: first.path,
        reason: "is an image, and this model takes no images; leave it out, or ask a model with a "
          + "vision tower.")
    }
    let limit = context.settings.imageLimit
    if references.count > limit {
      throw .badField(
        path: references[limit].path,
        reason: "is one image too many: this server takes \(limit) per request; send fewer, or "
          + "start it with a larger --limit-images.")
    }
    let fetcher = ImageFetcher(
      policy: FetchPolicy(allowedDomains: context.settings.allowedMediaDomains))
    var images: [PromptImage] = []
    for reference in references { images.append(try await reference.read(reader, fetcher)) }
    return images
  }
}
