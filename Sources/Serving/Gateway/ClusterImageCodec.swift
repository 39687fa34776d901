import Foundation
import ImageFetching
import ImageProcessing
import Inference
import JSONScanning

/// The images of a request on their way from a gateway to an attention node: each as the file that
/// the client sent, and where in the prompt it stands. The node reads it again, by the same rules.
enum ClusterImageCodec {
  static func json(_ images: [PlacedImage]) -> JSONValue {
    .array(
      images.map { placed in
        let file = placed.image.file
        return [
          "file": .string(Data(file?.bytes ?? []).base64EncodedString()),
          "crops": .boolean(file?.isCropped ?? true),
          "start": .integer(placed.positions.lowerBound),
        ]
      })
  }

  /// Reads images; nil for what is no list of them. Throws where the node cannot take them.
  static func images(
    _ json: JSONValue, in prompt: [Int], _ reader: ImageReader?
  ) throws -> [PlacedImage]? {
    guard let list = json.array else { return nil }
    guard let reader else {
      throw GenerationFailure.refusedByNode(
        reason: "it takes no images; give every node a checkpoint with a vision tower")
    }
    var images: [PlacedImage] = []
    for entry in list {
      guard let text = entry["file"]?.string, let crops = entry["crops"]?.boolean,
        let start = entry["start"]?.integer
      else { return nil }
      let bytes = try DataURL.decodeBase64(text.utf8.span, byteLimit: text.utf8.count)
      let placed: PlacedImage?
      do throws(ImageError) {
        placed = try reader.place(
          ImageFile(bytes: bytes, isCropped: crops), in: prompt, at: start)
      } catch { throw GenerationFailure.refusedByNode(reason: "an image: \(error)") }
      guard let placed else {
        throw GenerationFailure.refusedByNode(
          reason: "it would give an image other tokens; start all nodes and gateways with the same "
            + "--image-… flags and preprocessor_config.json")
      }
      images.append(placed)
    }
    return images
  }
}
