import Foundation
import JSONScanning
import Tensors

/// A vision tower to go with a converted model: its tensors, the tokens that stand for images,
/// and what config.json says of them.
///
/// A folder with `model.safetensors` (the tower and the projector under Step3's names, and the
/// new tokens' rows of the embedding and the head under the names of those tables), `config.json`
/// (`vision_config`, `understand_projector_stride`, `projector_bias`, `added_tokens`), and, where
/// there are, `chat_template.jinja` and `README.md`. Where reading image tokens took training of
/// the text model, `adapter.LAYER.PART.down` [rank, columns] and `.up` [rows, rank] are added to
/// the source's attention matrices (PART is a GGUF name, rows in a GGUF file's order).
struct VisionAddition {
  let files: CheckpointFiles
  /// Texts of the new tokens; they get the ids behind the source's vocabulary, in this order.
  let tokens: [String]
  /// The chat template that writes image placeholders; nil leaves the source's own.
  let chatTemplate: String?
  /// What the tower can and cannot do, for the model card.
  let card: String?
  private let configuration: JSONValue
  private let directory: String

  /// Tokens that the request path looks up by text, the image placeholder first.
  private static let requiredTokens = [
    "<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>",
  ]

  /// Opens `directory` for a model of this `hiddenSize`.
  init(directory: String, hiddenSize: Int) throws(ConversionError) {
    do throws(SafetensorsError) {
      files = try CheckpointFiles(directory: directory)
    } catch {
      throw .checkpoint(error)
    }
    self.directory = directory
    let path = directory + "/config.json"
    let text = try Self.contents(path)
    do throws(JSONError) { configuration = try JSONValue(parsing: [UInt8](text.utf8)) } catch {
      throw .malformedJSON(path: path, reason: "\(error)")
    }
    guard configuration["vision_config"]?.object != nil else {
      throw .missingField(path: path, field: "vision_config")
    }
    let tokens = (configuration["added_tokens"]?.array ?? []).compactMap(\.string)
    if let missing = Self.requiredTokens.first(where: { !tokens.contains($0) }) {
      throw .missingField(path: path, field: "added_tokens: \(missing)")
    }
    self.tokens = tokens
    chatTemplate = try Self.optionalContents(directory + "/chat_template.jinja")
    card = try Self.optionalContents(directory + "/README.md")
    for table in [Step3Names.embedding, Step3Names.output] {
      do throws(SafetensorsError) {
        _ = try files.tensor(table, shape: [tokens.count, hiddenSize])
      } catch {
        throw .checkpoint(error)
      }
    }
  }

  /// Every file that the result depends on.
  var paths: [String] {
    files.files.map(\.path) + [directory + "/config.json"]
      + (chatTemplate == nil ? [] : [directory + "/chat_template.jinja"])
      + (card == nil ? [] : [directory + "/README.md"])
  }

  /// The names of the tower's own tensors.
  var towerNames: [String] {
    files.names.filter {
      $0 != Step3Names.embedding && $0 != Step3Names.output
        && !$0.hasPrefix(AdapterNames.prefix)
    }
  }

  /// Whether the text model is changed.
  var hasAdapter: Bool { files.names.contains { $0.hasPrefix(AdapterNames.prefix) } }

  /// Adds the trained changes of the attention matrices to the source's.
  func adapt(_ source: inout LlamaSource) throws(ConversionError) {
    var left = Set(files.names.filter { $0.hasPrefix(AdapterNames.prefix) })
    for layer in source.layers.indices {
      try adapt(&source.layers[layer].query, AdapterNames.part(layer, .query), &left)
      try adapt(&source.layers[layer].key, AdapterNames.part(layer, .key), &left)
      try adapt(&source.layers[layer].value, AdapterNames.part(layer, .value), &left)
      try adapt(&source.layers[layer].output, AdapterNames.part(layer, .output), &left)
    }
    if let name = left.sorted().first {
      throw .unexpectedTensor(path: files.path(of: name), tensor: name)
    }
  }

  private func adapt(
    _ tensor: inout SourceTensor, _ name: String, _ left: inout Set<String>
  ) throws(ConversionError) {
    let (downName, upName) = (AdapterNames.down(name), AdapterNames.up(name))
    guard left.remove(downName) != nil else { return }
    left.remove(upName)
    let (down, up) = (try values(downName), try values(upName))
    let rank = down.shape.first ?? 0
    let expected = [[rank, tensor.columnCount], [tensor.rowCount, rank]]
    for (name, pair) in zip([downName, upName], zip([down, up], expected))
    where pair.0.shape != pair.1 || rank < 1 {
      throw .wrongShape(
        path: files.path(of: name), tensor: name, expected: pair.1, found: pair.0.shape)
    }
    tensor.addition = LowRankAddition(down: down.values, up: up.values, rank: rank)
  }

  /// The values of a tensor of the folder.
  func values(_ name: String) throws(ConversionError) -> (shape: [Int], values: [Float]) {
    let tensor: Tensor
    do throws(SafetensorsError) { tensor = try files.tensor(name) } catch {
      throw .checkpoint(error)
    }
    guard let values = tensor.floats() else {
      throw .unsupportedElementType(
        path: files.path(of: name), tensor: name, type: tensor.elementType.rawValue)
    }
    return (tensor.shape, values)
  }

  /// The nested config.json around the flat one of the text model.
  func configuration(around text: JSONObject, firstTokenID: Int) -> JSONObject {
    var text = text
    let moved = ["bos_token_id", "eos_token_id", "pad_token_id"].map { ($0, text[$0]) }
    text["architectures"] = nil
    var object = JSONObject()
    object["architectures"] = ["Step3VLForConditionalGeneration"]
    object["model_type"] = "step3_vl"
    object["understand_projector_stride"] = configuration["understand_projector_stride"] ?? 1
    object["projector_bias"] = configuration["projector_bias"] ?? true
    for (index, token) in tokens.enumerated() where token == "<im_patch>" {
      object["image_token_id"] = .integer(firstTokenID + index)
    }
    object["hidden_size"] = text["hidden_size"]
    object["torch_dtype"] = text["torch_dtype"]
    object["tie_word_embeddings"] = false
    for (key, value) in moved { object[key] = value }
    object["vision_config"] = configuration["vision_config"]
    object["text_config"] = .object(text)
    return object
  }

  private static func optionalContents(_ path: String) throws(ConversionError) -> String? {
    FileManager.default.fileExists(atPath: path) ? try contents(path) : nil
  }

  private static func contents(_ path: String) throws(ConversionError) -> String {
    let file: MappedFile
    do throws(FileError) { file = try MappedFile(path: path) } catch { throw .file(error) }
    return String(decoding: file.contents.bytes(), as: UTF8.self)
  }
}
