import Foundation
import JSONScanning
import TestSupport
import Testing
import Tokenization

/// The tokenizers that tests run on.
enum TokenizerFixtures {
  static let deepSeek = Fixtures.packageRoot.appendingPathComponent(
    ".cache/tokenizers/deepseek-v3"
  ).path
  static let smolLM2 = Fixtures.packageRoot.appendingPathComponent(
    ".cache/models/smollm2-135m-step3"
  ).path

  /// The tokenizer in a folder that `make test` prepares.
  static func tokenizer(_ folder: String) throws -> Tokenizer {
    try #require(
      FileManager.default.fileExists(atPath: folder + "/tokenizer.json"),
      "\(folder) is missing: run `make test`, or Tools/fetch_test_data.sh and `make model`")
    return try Tokenizer(directory: folder)
  }

  static func folder(_ name: String) -> String { name == "smollm2" ? smolLM2 : deepSeek }

  /// The tiny trained tokenizer.json of `small.json`, with some members replaced.
  static func small(_ overrides: JSONValue, base: JSONValue) -> JSONValue {
    var document = base.object ?? JSONObject()
    for member in overrides.object?.members ?? [] {
      guard member.key == "model", var model = document["model"]?.object else {
        document[member.key] = member.value
        continue
      }
      for setting in member.value.object?.members ?? [] { model[setting.key] = setting.value }
      document["model"] = .object(model)
    }
    return .object(document)
  }

  static func smallDocument() throws -> JSONValue {
    try JSONValue(parsing: Fixtures.bytes("tokenizer/small.json"))
  }

  static func ids(_ value: JSONValue?) -> [TokenID] {
    value?.array?.compactMap { $0.integer.map { TokenID($0) } } ?? []
  }
}
