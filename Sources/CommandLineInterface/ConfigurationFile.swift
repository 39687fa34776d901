#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// A `--config` file: one JSON object whose keys are flag names.
struct ConfigurationFile {
  let path: String
  let entries: [(key: String, values: [String])]

  /// Reads the file at `path`; a scalar becomes one value, an array several.
  init(path: String) throws(UsageError) {
    let object: [String: Entry]
    do {
      object = try JSONDecoder().decode(
        [String: Entry].self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    } catch let error as DecodingError {
      throw .badConfigurationFile(path, reason: Self.reason(error))
    } catch {
      throw .badConfigurationFile(path, reason: "cannot be read; check the path")
    }
    self.path = path
    entries = object.sorted { $0.key < $1.key }.map { ($0.key, $0.value.values) }
  }

  private static func reason(_ error: DecodingError) -> String {
    switch error {
    case .typeMismatch(_, let context), .valueNotFound(_, let context),
      .keyNotFound(_, let context):
      let key = context.codingPath.map(\.stringValue).joined(separator: ".")
      return key.isEmpty
        ? "is not a JSON object"
        : "key '\(key)' is neither text, number, boolean nor a list of them"
    case .dataCorrupted:
      return "is not valid JSON"
    @unknown default:
      return "is not valid JSON"
    }
  }

  /// The value of one key, as the texts a command line would carry.
  private struct Entry: Decodable {
    let values: [String]

    init(from decoder: any Decoder) throws {
      if var list = try? decoder.unkeyedContainer() {
        var values: [String] = []
        while !list.isAtEnd { values.append(try list.decode(Scalar.self).text) }
        self.values = values
      } else {
        values = [try decoder.singleValueContainer().decode(Scalar.self).text]
      }
    }
  }

  private struct Scalar: Decodable {
    let text: String

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let flag = try? container.decode(Bool.self) {
        text = flag ? "true" : "false"
      } else if let whole = try? container.decode(Int.self) {
        text = String(whole)
      } else if let number = try? container.decode(Double.self) {
        text = "\(number)"
      } else {
        text = try container.decode(String.self)
      }
    }
  }
}
