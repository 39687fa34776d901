/// GPT-2's mapping of the 256 bytes to printable characters, in which vocabularies are written.
///
/// Printable bytes of Latin-1 stand for themselves; the others, in order, for U+0100 onwards.
enum ByteAlphabet {
  /// The scalar of each byte.
  static let scalars: [Unicode.Scalar] = {
    var result: [Unicode.Scalar] = []
    var next: UInt32 = 0x100
    for byte in UInt8.min...UInt8.max {
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: result.append(Unicode.Scalar(byte))
      default:
        // U+0100 to U+0143 are all scalars.
        result.append(Unicode.Scalar(next) ?? "\u{FFFD}")
        next += 1
      }
    }
    return result
  }()

  /// Bytes by scalar value, -1 where a scalar stands for none.
  private static let bytes: [Int16] = {
    var result = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { result[Int(scalar.value)] = Int16(byte) }
    return result
  }()

  /// Appends the bytes that `token`, in UTF-8, stands for.
  ///
  /// A token with any character outside the alphabet stands for its own UTF-8: so does the
  /// ByteLevel decoder of `tokenizers` treat added tokens.
  static func appendBytes(of token: ArraySlice<UInt8>, to destination: inout [UInt8]) {
    let start = destination.count
    var index = token.startIndex
    while index < token.endIndex {
      let lead = token[index]
      var value = -1
      if lead < 0x80 {
        value = Int(lead)
        index += 1
      } else if lead < 0xC6, index + 1 < token.endIndex {
        // Two bytes up to U+017F hold the whole alphabet.
        value = Int(lead & 0x1F) << 6 | Int(token[index + 1] & 0x3F)
        index += 2
      }
      guard value >= 0, value < bytes.count, bytes[value] >= 0 else {
        destination.removeSubrange(start...)
        destination.append(contentsOf: token)
        return
      }
      destination.append(UInt8(bytes[value]))
    }
  }

  /// Appends the spelling of `bytes` in the alphabet, as UTF-8.
  static func appendSpelling(of bytes: some Sequence<UInt8>, to destination: inout [UInt8]) {
    for byte in bytes {
      let value = scalars[Int(byte)].value
      if value < 0x80 {
        destination.append(UInt8(value))
      } else {
        destination.append(UInt8(0xC0 | value >> 6))
        destination.append(UInt8(0x80 | value & 0x3F))
      }
    }
  }
}
