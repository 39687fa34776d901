/// A JSON value as a tree; objects keep the order of their members.
package enum JSONValue: Sendable, Equatable {
  case null
  case boolean(Bool)
  /// A number written without fraction and exponent that fits `Int`.
  case integer(Int)
  /// Any other number.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)
}

/// What to do with an object that names a key twice.
package enum DuplicateKeyPolicy: Sendable {
  /// The text is refused.
  case refuse
  /// The last member wins and keeps the first one's place, as in Python's `json`.
  case keepLast
}

extension JSONValue {
  /// Parses one whole JSON text.
  package init(
    parsing bytes: Span<UInt8>, duplicateKeys: DuplicateKeyPolicy = .refuse, depthLimit: Int = 128
  ) throws(JSONError) {
    var scanner = JSONScanner(bytes, depthLimit: depthLimit)
    self = try scanner.readValue(duplicateKeys: duplicateKeys)
    try scanner.finish()
  }

  /// Parses one whole JSON text.
  package init(
    parsing bytes: [UInt8], duplicateKeys: DuplicateKeyPolicy = .refuse, depthLimit: Int = 128
  ) throws(JSONError) {
    try self.init(parsing: bytes.span, duplicateKeys: duplicateKeys, depthLimit: depthLimit)
  }

  /// Parses one whole JSON text.
  package init(
    parsing text: String, duplicateKeys: DuplicateKeyPolicy = .refuse, depthLimit: Int = 128
  ) throws(JSONError) {
    try self.init(parsing: Array(text.utf8), duplicateKeys: duplicateKeys, depthLimit: depthLimit)
  }

  /// The kind of this value.
  package var kind: JSONKind {
    switch self {
    case .null: return .null
    case .boolean: return .boolean
    case .integer, .number: return .number
    case .string: return .string
    case .array: return .array
    case .object: return .object
    }
  }

  /// Whether this is `null`.
  package var isNull: Bool { kind == .null }

  /// The truth value, when this is one.
  package var boolean: Bool? {
    if case .boolean(let value) = self { return value }
    return nil
  }

  /// The integer, when this is a number written as one.
  package var integer: Int? {
    if case .integer(let value) = self { return value }
    return nil
  }

  /// The number, integral or not, when this is one.
  package var number: Double? {
    switch self {
    case .integer(let value): return Double(value)
    case .number(let value): return value
    default: return nil
    }
  }

  /// The string, when this is one.
  package var string: String? {
    if case .string(let value) = self { return value }
    return nil
  }

  /// The elements, when this is an array.
  package var array: [JSONValue]? {
    if case .array(let value) = self { return value }
    return nil
  }

  /// The object, when this is one.
  package var object: JSONObject? {
    if case .object(let value) = self { return value }
    return nil
  }

  /// The member `key`, when this is an object that has it.
  package subscript(key: String) -> JSONValue? { object?[key] }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  /// A string.
  package init(stringLiteral value: String) { self = .string(value) }
  /// An integer.
  package init(integerLiteral value: Int) { self = .integer(value) }
  /// A floating-point number.
  package init(floatLiteral value: Double) { self = .number(value) }
  /// A truth value.
  package init(booleanLiteral value: Bool) { self = .boolean(value) }
  /// `null`.
  package init(nilLiteral: ()) { self = .null }
  /// An array.
  package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  /// An object with its members in the order written.
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    var object = JSONObject()
    for (key, value) in elements { object[key] = value }
    self = .object(object)
  }
}

extension JSONScanner {
  /// Reads any value as a tree.
  @_lifetime(self: copy self)
  package mutating func readValue(
    duplicateKeys: DuplicateKeyPolicy = .refuse
  ) throws(JSONError) -> JSONValue {
    switch try peekKind() {
    case .null:
      try readNull()
      return .null
    case .boolean: return .boolean(try readBoolean())
    case .number: return try readNumber()
    case .string: return .string(try readString())
    case .array:
      var elements: [JSONValue] = []
      try enterArray()
      while try nextElement() { elements.append(try readValue(duplicateKeys: duplicateKeys)) }
      return .array(elements)
    case .object:
      var object = JSONObject()
      try enterObject()
      while let key = try nextKey() {
        if duplicateKeys == .refuse, object[key] != nil {
          throw .duplicateKey(key, offset: offset)
        }
        object[key] = try readValue(duplicateKeys: duplicateKeys)
      }
      return .object(object)
    }
  }
}
