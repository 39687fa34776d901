import ConstrainedDecoding

/// A vocabulary of every byte, some longer tokens of the kinds that real ones have, and specials.
enum SmallVocabulary {
  static let longer: [String] = [
    "{\"", "\":", "\": ", "\": \"", "\",", "\", \"", "\"}", "\"]", "],", "]}", "}}", "},", "[{",
    "{}",
    "[]", ", ", ": ", "\n ", "\n  ", "  ", " \"", "{\n", "true", "false", "null", "tr", "ue", "12",
    "123", "0.", "-1", ".5", "1e", "e-", "\\n", "\\\"", "\\u", "00", "name", "\"name\"", "age",
    "ab",
    "abc", "a\"", "é", "ü\"", "日本", "🤔", " the", "</", "</think>\n", "think>", "<step", "tml:",
    "</steptml:", "parameter>", "parameter name=\"", "invoke", "=\"", "\">", ">\n<", "SF", "red",
    "green", "@", ".com", "2024-", "-01", "T10:", "Z",
  ]
  static let specials = [
    "<｜end▁of▁sentence｜>", "</think>", "<｜tool_calls_begin｜>", "<｜tool_calls_end｜>",
    "<｜tool_call_begin｜>", "<｜tool_call_end｜>", "<｜tool_sep｜>", "<|EOT|>",
  ]

  static let tokenBytes: [[UInt8]] =
    (UInt8.min...UInt8.max).map { [$0] } + longer.map { Array($0.utf8) }
    + [Array("🤔".utf8.prefix(2)), Array("🤔".utf8.suffix(2)), [], Array("abc".utf8)]
    + specials.map { Array($0.utf8) }

  static let firstSpecial = tokenBytes.count - specials.count
  static let end = firstSpecial

  static let vocabulary = TokenVocabulary(
    tokenBytes: tokenBytes, specialIDs: Set(firstSpecial..<tokenBytes.count), endIDs: [end])
}

/// Repeatable random numbers for the tests.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
