/// One JSON document as a value; members of objects keep their order.
///
/// The catalogues, plan files and traces are read and written through it, so that this module
/// needs no Foundation and errors can name the line.
package indirect enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([JSONMember])

  /// The value of the last member called `key`, or nil.
  package subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.last { $0.key == key }?.value
  }
}

/// One name and value of a JSON object.
package struct JSONMember: Equatable, Sendable {
  package let key: String
  package let value: JSONValue

  package init(_ key: String, _ value: JSONValue) {
    self.key = key
    self.value = value
  }
}

extension JSONValue {
  /// A number, or null where it is not finite (JSON has no other word for it).
  package static func finite(_ value: Double?) -> JSONValue {
    guard let value, value.isFinite else { return .null }
    return .number(value)
  }

  /// The document as text: two spaces of indentation, short arrays on one line.
  package func rendered(indentation: Int = 0) -> String {
    let pad = String(repeating: "  ", count: indentation + 1)
    let close = String(repeating: "  ", count: indentation)
    switch self {
    case .null: return "null"
    case .bool(let value): return value ? "true" : "false"
    case .number(let value): return Self.text(of: value)
    case .string(let value): return Self.quoted(value)
    case .array(let values):
      if values.isEmpty { return "[]" }
      if values.allSatisfy({ $0.isScalar }) {
        return "[" + values.map { $0.rendered() }.joined(separator: ", ") + "]"
      }
      let lines = values.map { pad + $0.rendered(indentation: indentation + 1) }
      return "[\n" + lines.joined(separator: ",\n") + "\n" + close + "]"
    case .object(let members):
      if members.isEmpty { return "{}" }
      let lines = members.map {
        pad + Self.quoted($0.key) + ": " + $0.value.rendered(indentation: indentation + 1)
      }
      return "{\n" + lines.joined(separator: ",\n") + "\n" + close + "}"
    }
  }

  private var isScalar: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }

  /// The shortest text that reads back as the same number; whole numbers without a fraction.
  package static func text(of value: Double) -> String {
    guard value.isFinite else { return "null" }
    if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
    return value.description
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      default:
        if scalar.value < 0x20 {
          let digits = String(scalar.value, radix: 16)
          out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          out.unicodeScalars.append(scalar)
        }
      }
    }
    return out + "\""
  }
}
