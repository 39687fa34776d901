internal import Foundation
internal import JSONScanning

extension Tokenizer {
  /// Loads the tokenizer of the checkpoint in `directory`.
  ///
  /// Needs tokenizer.json. The tokens that begin and end a sequence come from
  /// generation_config.json and tokenizer_config.json where these exist.
  package convenience init(directory: String) throws(TokenizerError) {
    let file = CheckpointFile(directory: directory)
    guard let bytes = try file.bytes("tokenizer.json") else {
      throw .fileMissing(path: directory + "/tokenizer.json")
    }
    var names = SequenceTokenNames()
    if let configuration = try file.json("tokenizer_config.json") {
      names.begin = SequenceTokenNames.content(of: configuration["bos_token"])
      names.end = SequenceTokenNames.content(of: configuration["eos_token"])
    }
    if let configuration = try file.json("generation_config.json") {
      names.endIDs = SequenceTokenNames.ids(configuration["eos_token_id"])
    }
    try self.init(json: bytes, names: names)
  }
}

/// How a checkpoint's files name the tokens that begin and end a sequence.
struct SequenceTokenNames: Sendable {
  var begin: String?
  var end: String?
  var endIDs: [Int] = []

  /// A token is given by its content or as an object with `content`.
  static func content(of value: JSONValue?) -> String? {
    value?.string ?? value?["content"]?.string
  }

  /// One id or an array of them.
  static func ids(_ value: JSONValue?) -> [Int] {
    if let id = value?.integer { return [id] }
    return value?.array?.compactMap(\.integer) ?? []
  }

  /// The same tokens by id; each must exist.
  func ids(in vocabulary: Vocabulary) throws(TokenizerError) -> (TokenID?, [TokenID]) {
    var ends: [TokenID] = []
    for number in endIDs {
      guard let id = TokenID(exactly: number), vocabulary.contains(id) else {
        throw .invalidID(number, token: "generation_config.json eos_token_id")
      }
      if !ends.contains(id) { ends.append(id) }
    }
    if let end {
      guard let id = vocabulary.id(ofSpelling: end) else { throw .tokenMissing(end) }
      if !ends.contains(id) { ends.append(id) }
    }
    guard let begin else { return (nil, ends) }
    guard let id = vocabulary.id(ofSpelling: begin) else { throw .tokenMissing(begin) }
    return (id, ends)
  }
}

/// The small files beside a checkpoint's weights.
struct CheckpointFile {
  let directory: String

  /// The whole content of a file, nil when it does not exist.
  func bytes(_ name: String) throws(TokenizerError) -> [UInt8]? {
    let path = directory + "/" + name
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    do {
      return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw .fileUnreadable(path: path, code: Int32((error as NSError).code))
    }
  }

  /// A file as JSON, nil when it does not exist.
  func json(_ name: String) throws(TokenizerError) -> JSONValue? {
    guard let bytes = try bytes(name) else { return nil }
    do {
      return try JSONValue(parsing: bytes, duplicateKeys: .keepLast)
    } catch {
      throw .json(file: name, error)
    }
  }
}
