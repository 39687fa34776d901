extension JSONScanner {
  /// Reads `null`.
  @_lifetime(self: copy self)
  package mutating func readNull() throws(JSONError) {
    try require(.null, expected: .null)
    try readWord("null", expected: .null)
  }

  /// Reads `true` or `false`.
  @_lifetime(self: copy self)
  package mutating func readBoolean() throws(JSONError) -> Bool {
    try require(.boolean, expected: .boolean)
    let value = bytes[offset] == UInt8(ascii: "t")
    try readWord(value ? "true" : "false", expected: .boolean)
    return value
  }

  /// Reads a number written without fraction and exponent that fits `Int`.
  @_lifetime(self: copy self)
  package mutating func readInteger() throws(JSONError) -> Int {
    try require(.number, expected: .integer)
    let start = offset
    let token = try readNumberToken()
    guard token.isIntegral else {
      throw .wrongKind(expected: .integer, found: .number, offset: start)
    }
    guard let value = token.integer else { throw .numberOutOfRange(offset: start) }
    return value
  }

  /// Reads a number: `.integer` when it is written as one and fits, otherwise `.number`.
  @_lifetime(self: copy self)
  package mutating func readNumber() throws(JSONError) -> JSONValue {
    try require(.number, expected: .number)
    let start = offset
    let token = try readNumberToken()
    // "-0" is the negative zero of floating point, which no integer can hold.
    if let integer = token.integer, integer != 0 || bytes[start] != UInt8(ascii: "-") {
      return .integer(integer)
    }
    var text = ""
    for index in start..<offset { text.unicodeScalars.append(Unicode.Scalar(bytes[index])) }
    guard let value = Double(text), value.isFinite else {
      throw .numberOutOfRange(offset: start)
    }
    return .number(value)
  }

  @_lifetime(self: copy self)
  private mutating func readWord(
    _ word: String, expected: JSONExpectation
  ) throws(JSONError) {
    for letter in word.utf8 {
      guard offset < bytes.count else {
        throw .unexpectedEnd(expected: expected, offset: offset)
      }
      guard bytes[offset] == letter else {
        throw .unexpectedByte(bytes[offset], expected: expected, offset: offset)
      }
      offset += 1
    }
  }

  /// Reads a number's bytes; `integer` is nil when it does not fit or is not integral.
  @_lifetime(self: copy self)
  mutating func readNumberToken() throws(JSONError) -> (isIntegral: Bool, integer: Int?) {
    let isNegative = bytes[offset] == UInt8(ascii: "-")
    if isNegative { offset += 1 }
    var integer: Int? = 0
    if offset < bytes.count, bytes[offset] == UInt8(ascii: "0") {
      offset += 1
    } else {
      integer = try readIntegerDigits(isNegative: isNegative)
    }
    var isIntegral = true
    if offset < bytes.count, bytes[offset] == UInt8(ascii: ".") {
      isIntegral = false
      offset += 1
      _ = try readIntegerDigits(isNegative: false)
    }
    if offset < bytes.count, bytes[offset] | 0x20 == UInt8(ascii: "e") {
      isIntegral = false
      offset += 1
      if offset < bytes.count,
        bytes[offset] == UInt8(ascii: "+") || bytes[offset] == UInt8(ascii: "-")
      {
        offset += 1
      }
      _ = try readIntegerDigits(isNegative: false)
    }
    return (isIntegral, isIntegral ? integer : nil)
  }

  /// Reads one or more digits; nil when their value does not fit.
  @_lifetime(self: copy self)
  private mutating func readIntegerDigits(isNegative: Bool) throws(JSONError) -> Int? {
    let start = offset
    var value = 0
    var hasOverflowed = false
    while offset < bytes.count {
      let digit = bytes[offset] &- UInt8(ascii: "0")
      guard digit < 10 else { break }
      // Counting downwards for negative numbers keeps Int.min readable.
      let (tens, first) = value.multipliedReportingOverflow(by: 10)
      let (sum, second) =
        isNegative
        ? tens.subtractingReportingOverflow(Int(digit))
        : tens.addingReportingOverflow(Int(digit))
      hasOverflowed = hasOverflowed || first || second
      value = sum
      offset += 1
    }
    if offset > start { return hasOverflowed ? nil : value }
    guard offset < bytes.count else { throw .unexpectedEnd(expected: .digit, offset: offset) }
    throw .unexpectedByte(bytes[offset], expected: .digit, offset: offset)
  }
}
