internal import Foundation
internal import JSONScanning

/// What happens to text before it is cut into pieces.
enum Normalizer: Sendable, Equatable {
  case none
  /// Unicode's composed canonical form.
  case composed

  /// Reads tokenizer.json's `normalizer`.
  init(parsing value: JSONValue?) throws(TokenizerError) {
    guard let value, !value.isNull else {
      self = .none
      return
    }
    switch value["type"]?.string {
    case "NFC": self = .composed
    case "Sequence":
      guard let members = value["normalizers"]?.array else {
        throw .malformed(member: "normalizer.normalizers", expected: "an array")
      }
      var result = Normalizer.none
      // NFC twice is NFC.
      for member in members where try Normalizer(parsing: member) == .composed {
        result = .composed
      }
      self = result
    case let other: throw .unsupported(component: "normalizer", value: other ?? "null")
    }
  }

  /// The normal form of a text.
  func apply(to text: String) -> String {
    switch self {
    case .none: return text
    case .composed: return text.precomposedStringWithCanonicalMapping
    }
  }
}
