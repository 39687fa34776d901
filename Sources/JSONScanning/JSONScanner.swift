/// A pull reader of JSON text in UTF-8, for documents whose size makes a tree too dear.
///
/// The caller asks for what it expects and gets it or a `JSONError`:
/// ```swift
/// var scanner = JSONScanner(bytes.span)
/// try scanner.enterObject()
/// while let key = try scanner.nextKey() {
///   if key == "model" { ... } else { try scanner.skipValue() }
/// }
/// try scanner.finish()
/// ```
/// Strict as RFC 8259: no comments, no trailing commas, no NaN, no raw control characters in
/// strings, no invalid UTF-8. Half a surrogate pair is refused, since no UTF-8 text can hold it.
/// Every loop advances through the text once, so the cost is linear in its size.
package struct JSONScanner: ~Escapable {
  let bytes: Span<UInt8>
  let depthLimit: Int
  /// The byte offset of the next byte to read.
  package internal(set) var offset = 0
  private var depth = 0
  /// True between an opening bracket and the first element: no comma is due yet.
  private var isAtFirstElement = false

  /// Starts at the first byte of `bytes`; arrays and objects may nest to `depthLimit`.
  @_lifetime(copy bytes)
  package init(_ bytes: Span<UInt8>, depthLimit: Int = 128) {
    self.bytes = bytes
    self.depthLimit = depthLimit
  }

  /// The kind of the next value, which stays unread.
  @_lifetime(self: copy self)
  package mutating func peekKind() throws(JSONError) -> JSONKind {
    skipWhitespace()
    guard offset < bytes.count else {
      throw .unexpectedEnd(expected: .value, offset: offset)
    }
    switch bytes[offset] {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .boolean
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    case let other: throw .unexpectedByte(other, expected: .value, offset: offset)
    }
  }

  /// Enters an object; its members follow by `nextKey`.
  @_lifetime(self: copy self)
  package mutating func enterObject() throws(JSONError) {
    try require(.object, expected: .object)
    try descend()
  }

  /// Enters an array; its elements follow by `nextElement`.
  @_lifetime(self: copy self)
  package mutating func enterArray() throws(JSONError) {
    try require(.array, expected: .array)
    try descend()
  }

  /// The next member's key, or nil after the object's end; the value must be read next.
  @_lifetime(self: copy self)
  package mutating func nextKey() throws(JSONError) -> String? {
    guard try advanceToMember() else { return nil }
    let key = try readString()
    try readColon()
    return key
  }

  /// Appends the next member's key to `destination`; false after the object's end.
  @_lifetime(self: copy self)
  package mutating func nextKey(into destination: inout [UInt8]) throws(JSONError) -> Bool {
    guard try advanceToMember() else { return false }
    try readString(into: &destination)
    try readColon()
    return true
  }

  /// Whether the array has another element, which must be read next; false after its end.
  @_lifetime(self: copy self)
  package mutating func nextElement() throws(JSONError) -> Bool {
    let isFirst = isAtFirstElement
    isAtFirstElement = false
    skipWhitespace()
    guard offset < bytes.count else {
      throw .unexpectedEnd(expected: isFirst ? .value : .commaOrArrayEnd, offset: offset)
    }
    if bytes[offset] == UInt8(ascii: "]") {
      leave()
      return false
    }
    if isFirst { return true }
    guard bytes[offset] == UInt8(ascii: ",") else {
      throw .unexpectedByte(bytes[offset], expected: .commaOrArrayEnd, offset: offset)
    }
    offset += 1
    return true
  }

  /// Checks that nothing but white space is left.
  @_lifetime(self: copy self)
  package mutating func finish() throws(JSONError) {
    skipWhitespace()
    guard offset == bytes.count else { throw .trailingBytes(offset: offset) }
  }

  /// Reads and checks any value without keeping it.
  @_lifetime(self: copy self)
  package mutating func skipValue() throws(JSONError) {
    switch try peekKind() {
    case .null: try readNull()
    case .boolean: _ = try readBoolean()
    case .number: _ = try readNumberToken()
    case .string:
      var discarded: [UInt8] = []
      try readString(into: &discarded)
    case .array:
      try enterArray()
      while try nextElement() { try skipValue() }
    case .object:
      try enterObject()
      var discarded: [UInt8] = []
      while try nextKey(into: &discarded) {
        discarded.removeAll(keepingCapacity: true)
        try skipValue()
      }
    }
  }

  @inline(__always)
  @_lifetime(self: copy self)
  private mutating func skipWhitespace() {
    while offset < bytes.count {
      let byte = bytes[offset]
      guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
      offset &+= 1
    }
  }

  /// Moves to the next value and checks its kind.
  @_lifetime(self: copy self)
  mutating func require(_ kind: JSONKind, expected: JSONExpectation) throws(JSONError) {
    let found = try peekKind()
    guard found == kind else {
      throw .wrongKind(expected: expected, found: found, offset: offset)
    }
  }

  @_lifetime(self: copy self)
  private mutating func descend() throws(JSONError) {
    guard depth < depthLimit else { throw .tooDeep(limit: depthLimit, offset: offset) }
    depth += 1
    offset += 1
    isAtFirstElement = true
  }

  @_lifetime(self: copy self)
  private mutating func leave() {
    depth -= 1
    offset += 1
  }

  /// Moves to the opening quote of the next key; false when the object has ended.
  @_lifetime(self: copy self)
  private mutating func advanceToMember() throws(JSONError) -> Bool {
    let isFirst = isAtFirstElement
    isAtFirstElement = false
    skipWhitespace()
    guard offset < bytes.count else {
      throw .unexpectedEnd(expected: isFirst ? .key : .commaOrObjectEnd, offset: offset)
    }
    if bytes[offset] == UInt8(ascii: "}") {
      leave()
      return false
    }
    if !isFirst {
      guard bytes[offset] == UInt8(ascii: ",") else {
        throw .unexpectedByte(bytes[offset], expected: .commaOrObjectEnd, offset: offset)
      }
      offset += 1
      skipWhitespace()
    }
    guard offset < bytes.count else { throw .unexpectedEnd(expected: .key, offset: offset) }
    guard bytes[offset] == UInt8(ascii: "\"") else {
      throw .unexpectedByte(bytes[offset], expected: .key, offset: offset)
    }
    return true
  }

  @_lifetime(self: copy self)
  private mutating func readColon() throws(JSONError) {
    skipWhitespace()
    guard offset < bytes.count else { throw .unexpectedEnd(expected: .colon, offset: offset) }
    guard bytes[offset] == UInt8(ascii: ":") else {
      throw .unexpectedByte(bytes[offset], expected: .colon, offset: offset)
    }
    offset += 1
  }
}
