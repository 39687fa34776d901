extension JSONScanner {
  /// Reads a string.
  @_lifetime(self: copy self)
  package mutating func readString() throws(JSONError) -> String {
    var content: [UInt8] = []
    try readString(into: &content)
    return String(decoding: content, as: UTF8.self)
  }

  /// Reads a string and appends its UTF-8 bytes, escapes resolved, to `destination`.
  @_lifetime(self: copy self)
  package mutating func readString(into destination: inout [UInt8]) throws(JSONError) {
    try require(.string, expected: .string)
    offset += 1
    while true {
      guard offset < bytes.count else {
        throw .unexpectedEnd(expected: .stringEnd, offset: offset)
      }
      let byte = bytes[offset]
      switch byte {
      case UInt8(ascii: "\""):
        offset += 1
        return
      case UInt8(ascii: "\\"):
        try readEscape(into: &destination)
      case 0..<0x20:
        throw .unexpectedByte(byte, expected: .stringEnd, offset: offset)
      case 0x20..<0x80:
        destination.append(byte)
        offset += 1
      default:
        try readMultibyteScalar(into: &destination)
      }
    }
  }

  @_lifetime(self: copy self)
  private mutating func readEscape(into destination: inout [UInt8]) throws(JSONError) {
    let start = offset
    offset += 1
    guard offset < bytes.count else { throw .unexpectedEnd(expected: .escape, offset: offset) }
    let letter = bytes[offset]
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): destination.append(letter)
    case UInt8(ascii: "b"): destination.append(0x08)
    case UInt8(ascii: "f"): destination.append(0x0C)
    case UInt8(ascii: "n"): destination.append(0x0A)
    case UInt8(ascii: "r"): destination.append(0x0D)
    case UInt8(ascii: "t"): destination.append(0x09)
    case UInt8(ascii: "u"):
      offset += 1
      return try readUnicodeEscape(from: start, into: &destination)
    default: throw .unexpectedByte(letter, expected: .escape, offset: offset)
    }
    offset += 1
  }

  /// Reads the four digits after `\u`, and the second escape of a surrogate pair.
  @_lifetime(self: copy self)
  private mutating func readUnicodeEscape(
    from start: Int, into destination: inout [UInt8]
  ) throws(JSONError) {
    var code = try readHexadecimalDigits()
    if (0xD800..<0xDC00).contains(code) {
      guard offset + 1 < bytes.count, bytes[offset] == UInt8(ascii: "\\"),
        bytes[offset + 1] == UInt8(ascii: "u")
      else { throw .loneSurrogate(offset: start) }
      offset += 2
      let low = try readHexadecimalDigits()
      guard (0xDC00..<0xE000).contains(low) else { throw .loneSurrogate(offset: start) }
      code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
    }
    // Only a lone low surrogate is no scalar here.
    guard let scalar = Unicode.Scalar(code) else { throw .loneSurrogate(offset: start) }
    destination.append(contentsOf: Array(String(Character(scalar)).utf8))
  }

  @_lifetime(self: copy self)
  private mutating func readHexadecimalDigits() throws(JSONError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard offset < bytes.count else {
        throw .unexpectedEnd(expected: .hexadecimalDigit, offset: offset)
      }
      let byte = bytes[offset]
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
      default: throw .unexpectedByte(byte, expected: .hexadecimalDigit, offset: offset)
      }
      code = code << 4 | UInt32(digit)
      offset += 1
    }
    return code
  }

  /// Copies one scalar of two to four bytes, checking every constraint of RFC 3629.
  @inline(__always)
  @_lifetime(self: copy self)
  private mutating func readMultibyteScalar(
    into destination: inout [UInt8]
  ) throws(JSONError) {
    let lead = bytes[offset]
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xBF
    switch lead {
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, second) = (3, 0xA0...0xBF)
    case 0xED: (length, second) = (3, 0x80...0x9F)
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, second) = (4, 0x90...0xBF)
    case 0xF4: (length, second) = (4, 0x80...0x8F)
    case 0xF1...0xF3: length = 4
    default: throw .invalidUTF8(offset: offset)
    }
    guard offset + length <= bytes.count, second.contains(bytes[offset + 1]) else {
      throw .invalidUTF8(offset: offset)
    }
    destination.append(lead)
    destination.append(bytes[offset + 1])
    for index in offset + 2..<offset + length {
      guard bytes[index] & 0xC0 == 0x80 else { throw .invalidUTF8(offset: offset) }
      destination.append(bytes[index])
    }
    offset += length
  }
}
