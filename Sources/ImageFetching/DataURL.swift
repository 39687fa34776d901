/// `data:[type][;parameters];base64,payload`: the bytes of an image inside a request.
///
/// Works on the bytes of the request itself; the payload never becomes a String. The declared
/// type is ignored, since what counts is the content. Base64 may be of either alphabet, with or
/// without padding, and may hold white space; payloads that are percent-encoded text are decoded
/// too.
package enum DataURL {
  /// Whether the text begins as a data URL.
  package static func matches(_ url: Span<UInt8>) -> Bool {
    let scheme = Array("data:".utf8)
    guard url.count >= scheme.count else { return false }
    return scheme.indices.allSatisfy { lowercased(url[$0]) == scheme[$0] }
  }

  /// The bytes that the URL holds, at most `byteLimit` of them.
  package static func decode(
    _ url: Span<UInt8>, byteLimit: Int = FetchPolicy().byteLimit
  ) throws(FetchError) -> [UInt8] {
    guard matches(url) else { throw .badDataURL(reason: "it does not begin with data:") }
    // Media types are short; a comma further away is none.
    var comma = 5
    while comma < min(url.count, 1024), url[comma] != UInt8(ascii: ",") { comma += 1 }
    guard comma < min(url.count, 1024) else { throw .badDataURL(reason: "it has no comma") }
    let mark = Array(";base64".utf8)
    let isBase64 =
      comma >= 5 + mark.count
      && mark.indices.allSatisfy { lowercased(url[comma - mark.count + $0]) == mark[$0] }
    let payload = url.extracting((comma + 1)...)
    if isBase64 { return try decodeBase64(payload, byteLimit: byteLimit) }
    return try decodePercents(payload, byteLimit: byteLimit)
  }

  /// The bytes of base64 text.
  package static func decodeBase64(
    _ text: Span<UInt8>, byteLimit: Int = FetchPolicy().byteLimit
  ) throws(FetchError) -> [UInt8] {
    // Before memory is taken; white space may make the text longer than it needs to be.
    if text.count / 4 * 3 > byteLimit + byteLimit / 8 + 1024 { throw .tooLarge(limit: byteLimit) }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 4 * 3 + 3)
    var group: UInt32 = 0
    var digits = 0
    var padding = 0
    for index in text.indices {
      let value = Self.values[Int(text[index])]
      if value < 64 && padding == 0 {
        group = group << 6 | UInt32(value)
        digits += 1
        guard digits == 4 else { continue }
        bytes.append(UInt8(truncatingIfNeeded: group >> 16))
        bytes.append(UInt8(truncatingIfNeeded: group >> 8))
        bytes.append(UInt8(truncatingIfNeeded: group))
        group = 0
        digits = 0
      } else if value == Self.pad {
        padding += 1
      } else if value != Self.blank {
        throw .badDataURL(
          reason: padding > 0
            ? "data follow the padding at byte \(index) of the base64"
            : "byte \(index) of the base64 is no digit of it")
      }
    }
    guard digits != 1, padding <= 2, padding == 0 || (digits + padding) == 4 else {
      throw .badDataURL(reason: "the base64 ends in the middle of a byte")
    }
    if digits >= 2 { bytes.append(UInt8(truncatingIfNeeded: group >> (digits == 2 ? 4 : 10))) }
    if digits == 3 { bytes.append(UInt8(truncatingIfNeeded: group >> 2)) }
    if bytes.count > byteLimit { throw .tooLarge(limit: byteLimit) }
    return bytes
  }

  private static func decodePercents(
    _ text: Span<UInt8>, byteLimit: Int
  ) throws(FetchError) -> [UInt8] {
    var bytes: [UInt8] = []
    var index = 0
    while index < text.count {
      if text[index] == UInt8(ascii: "%") {
        guard index + 2 < text.count, let high = hexadecimal(text[index + 1]),
          let low = hexadecimal(text[index + 2])
        else { throw .badDataURL(reason: "a % without two hexadecimal digits") }
        bytes.append(high << 4 | low)
        index += 3
      } else {
        bytes.append(text[index])
        index += 1
      }
      if bytes.count > byteLimit { throw .tooLarge(limit: byteLimit) }
    }
    return bytes
  }

  private static let pad: UInt8 = 64
  private static let blank: UInt8 = 65

  /// Per byte: its value, or what else it may be.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: 0xFF, count: 256)
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    for (value, digit) in alphabet.utf8.enumerated() { values[Int(digit)] = UInt8(value) }
    values[Int(UInt8(ascii: "-"))] = 62
    values[Int(UInt8(ascii: "_"))] = 63
    values[Int(UInt8(ascii: "="))] = pad
    for character in " \t\r\n".utf8 { values[Int(character)] = blank }
    return values
  }()

  private static func lowercased(_ byte: UInt8) -> UInt8 {
    (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
  }

  private static func hexadecimal(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
