/// One metadata value of a GGUF file.
package enum GGUFValue: Equatable, Sendable {
  case unsigned(UInt64)
  case signed(Int64)
  case float(Double)
  case bool(Bool)
  case string(String)
  case strings([String])
  case array([GGUFValue])

  /// The value as a non-negative count, when it is one.
  package var count: Int? {
    switch self {
    case .unsigned(let value): Int(exactly: value)
    case .signed(let value): value >= 0 ? Int(exactly: value) : nil
    default: nil
    }
  }

  /// The value as a number, when it is one.
  package var number: Double? {
    switch self {
    case .unsigned(let value): Double(value)
    case .signed(let value): Double(value)
    case .float(let value): value
    default: nil
    }
  }

  /// A short text for messages.
  package var summary: String {
    switch self {
    case .unsigned(let value): "\(value)"
    case .signed(let value): "\(value)"
    case .float(let value): "\(value)"
    case .bool(let value): "\(value)"
    case .string(let value): "\"\(value.prefix(60))\""
    case .strings(let values): "an array of \(values.count) strings"
    case .array(let values): "an array of \(values.count) values"
    }
  }
}
