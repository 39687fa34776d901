// Foreign text inside a rendered prompt must not be able to speak as the template does: a user who
// writes out an end-of-turn marker would otherwise end the turn. The template joins its own markers
// and foreign text to one string, so the foreign text is marked before: a shield, a code point that
// no text is made of, breaks the spelling of every special token in it. Encoding with
// `.recognizeUnshielded` finds the template's markers alone and takes the shields out again, so
// that foreign text gets the tokens it has as plain text. (Encoding the pieces apart lost:
// templates trim, split and join what they are given.)

extension Tokenizer {
  /// U+FDD0, one of the code points that Unicode keeps free of characters for such use.
  package static let shield = String(decoding: shieldBytes, as: UTF8.self)
  private static let shieldBytes: [UInt8] = [0xEF, 0xB7, 0x90]

  /// Foreign text for a template: special tokens spelled out in it are no tokens any more for
  /// `encode` with `.recognizeUnshielded`, which gives back the very same text.
  package func shielded(_ text: String) -> String {
    let bytes = Array(text.utf8)
    let starts = specialMatcher.starts(in: bytes)
    let shield = Self.shieldBytes
    guard !starts.isEmpty || text.contains(Self.shield) else { return text }
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count + 3 * starts.count)
    var pending = starts[...]
    var index = 0
    while index < bytes.count {
      let end = Self.scalarEnd(bytes, index)
      let scalar = bytes[index..<end]
      result += scalar
      // A shield that the text holds itself is written twice.
      if scalar.elementsEqual(shield) { result += shield }
      if pending.first == index {
        pending.removeFirst()
        result += shield
      }
      index = end
    }
    return String(decoding: result, as: UTF8.self)
  }

  /// Takes the shields out of a stretch of text.
  static func removeShields(from text: inout [UInt8]) {
    let shield = shieldBytes
    guard text.contains(shield[0]) else { return }
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    var index = 0
    while index < text.count {
      if text[index] == shield[0], text[index...].starts(with: shield) {
        index += shield.count
        guard index < text.count, text[index...].starts(with: shield) else { continue }
        result += shield
        index += shield.count
      } else {
        result.append(text[index])
        index += 1
      }
    }
    text = result
  }

  private static func scalarEnd(_ bytes: [UInt8], _ start: Int) -> Int {
    var end = start + 1
    while end < bytes.count && bytes[end] & 0xC0 == 0x80 { end += 1 }
    return end
  }
}

extension AddedTokenMatcher {
  /// Where tokens begin in `text`, overlapping ones too. Tokens of one character are passed over:
  /// nothing can stand inside them.
  func starts(in text: [UInt8]) -> [Int] {
    guard !isEmpty else { return [] }
    return text.indices.filter { index in
      guard canBegin[Int(text[index])],
        let (_, end) = longestMatch(text, index, text.count)
      else { return false }
      return text[(index + 1)..<end].contains { $0 & 0xC0 != 0x80 }
    }
  }
}
