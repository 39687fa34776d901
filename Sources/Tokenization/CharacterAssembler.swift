/// Makes text of bytes that come in pieces, holding back a character that has not arrived whole.
///
/// At most three bytes are held back: the beginning of a character whose end may follow.
package struct CharacterAssembler: Sendable {
  private var pending: [UInt8] = []

  /// Starts an empty text.
  package init() {}

  /// Adds bytes and returns the characters that are certain; broken ones become U+FFFD.
  package mutating func append(_ bytes: some Collection<UInt8>) -> String {
    if pending.isEmpty && bytes.allSatisfy({ $0 < 0x80 }) {
      return String(decoding: bytes, as: UTF8.self)
    }
    pending.append(contentsOf: bytes)
    let certain = pending.count - Self.unfinishedCount(pending)
    let text = String(decoding: pending[..<certain], as: UTF8.self)
    pending.removeFirst(certain)
    return text
  }

  /// Ends the text; an incomplete character becomes U+FFFD.
  package mutating func finish() -> String {
    defer { pending.removeAll() }
    return String(decoding: pending, as: UTF8.self)
  }

  /// The number of bytes at the end that begin a character without ending it.
  private static func unfinishedCount(_ bytes: [UInt8]) -> Int {
    for count in 1...3 where count <= bytes.count {
      let lead = bytes[bytes.count - count]
      if lead & 0xC0 == 0x80 { continue }
      return isUnfinished(bytes[(bytes.count - count)...]) ? count : 0
    }
    return 0
  }

  /// Whether some continuation would make these bytes a character (RFC 3629).
  private static func isUnfinished(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard let lead = bytes.first else { return false }
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
    default: return false
    }
    guard bytes.count < length else { return false }
    return bytes.count == 1 || second.contains(bytes[bytes.startIndex + 1])
  }
}
