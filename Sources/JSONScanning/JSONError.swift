/// What is wrong with a JSON text, and at which byte.
package enum JSONError: Error, Equatable, Sendable {
  /// The text ends where something else is needed.
  case unexpectedEnd(expected: JSONExpectation, offset: Int)
  /// A byte stands where something else is needed.
  case unexpectedByte(UInt8, expected: JSONExpectation, offset: Int)
  /// A value is well formed but of another kind than the reader asked for.
  case wrongKind(expected: JSONExpectation, found: JSONKind, offset: Int)
  /// An object names the same key twice.
  case duplicateKey(String, offset: Int)
  /// Arrays and objects are nested deeper than the limit.
  case tooDeep(limit: Int, offset: Int)
  /// A `\u` escape gives one half of a surrogate pair without the other.
  case loneSurrogate(offset: Int)
  /// A string holds bytes that are no UTF-8.
  case invalidUTF8(offset: Int)
  /// A number is too large for the type that must hold it.
  case numberOutOfRange(offset: Int)
  /// Something follows the value that should end the text.
  case trailingBytes(offset: Int)

  /// The byte offset, from 0, at which the reader stopped.
  package var offset: Int {
    switch self {
    case .unexpectedEnd(_, let offset), .unexpectedByte(_, _, let offset),
      .wrongKind(_, _, let offset), .duplicateKey(_, let offset), .tooDeep(_, let offset),
      .loneSurrogate(let offset), .invalidUTF8(let offset), .numberOutOfRange(let offset),
      .trailingBytes(let offset):
      return offset
    }
  }
}

/// The kind of a JSON value, told by its first byte.
package enum JSONKind: String, Equatable, Sendable {
  case null
  case boolean
  case number
  case string
  case array
  case object
}

/// What a reader needs at the place of an error.
package enum JSONExpectation: String, Equatable, Sendable {
  case value = "a value"
  case null = "null"
  case boolean = "true or false"
  case number = "a number"
  case integer = "an integer"
  case digit = "a digit"
  case string = "a string"
  case key = "a key in double quotes"
  case colon = "':'"
  case array = "'['"
  case object = "'{'"
  case commaOrArrayEnd = "',' or ']'"
  case commaOrObjectEnd = "',' or '}'"
  case escape = "one of \" \\ / b f n r t u after '\\'"
  case hexadecimalDigit = "a hexadecimal digit"
  case stringEnd = "the closing '\"'"
}

extension JSONError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unexpectedEnd(let expected, let offset):
      return "JSON ends at byte \(offset) where \(expected.rawValue) is needed"
    case .unexpectedByte(let byte, let expected, let offset):
      let isPrintable = (0x21...0x7E).contains(byte)
      let found =
        isPrintable
        ? "'\(Unicode.Scalar(byte))'" : "0x" + String(byte, radix: 16, uppercase: true)
      return "JSON has \(found) at byte \(offset) where \(expected.rawValue) is needed"
    case .wrongKind(let expected, let found, let offset):
      return "JSON has a value of kind \(found.rawValue) at byte \(offset) "
        + "where \(expected.rawValue) is needed"
    case .duplicateKey(let key, let offset):
      return "JSON object repeats the key \"\(key)\" at byte \(offset)"
    case .tooDeep(let limit, let offset):
      return "JSON is nested deeper than \(limit) levels at byte \(offset)"
    case .loneSurrogate(let offset):
      return "JSON string has half of a surrogate pair at byte \(offset)"
    case .invalidUTF8(let offset):
      return "JSON string is not UTF-8 at byte \(offset)"
    case .numberOutOfRange(let offset):
      return "JSON number at byte \(offset) is out of range"
    case .trailingBytes(let offset):
      return "JSON ends before byte \(offset), but more text follows"
    }
  }
}
