package import OutputParsing

/// Turns the tokens of one choice into text events: whole characters, stop strings found and cut,
/// reasoning, answer and tool calls told apart.
///
/// A pure value. Any way of splitting the same tokens into calls gives the same events, joined.
package struct TextAssembler: Sendable {
  private var characters = CharacterAssembler()
  private var stops: StopStringMatcher
  private var parser: OutputParser
  /// The stop string that ended the text; the choice's sequence is to be cancelled then.
  package private(set) var stopFound: String?
  /// Tokens that fell within the think block.
  package private(set) var reasoningTokenCount = 0

  /// An assembler for one choice.
  package init(format: OutputFormat, stops: [String] = [], includesStop: Bool = false) {
    self.stops = StopStringMatcher(stops, includesStop: includesStop)
    parser = OutputParser(format)
  }

  /// Adds one token by its bytes; tokens that are not to be seen have none.
  package mutating func append(_ bytes: [UInt8]) -> [OutputEvent] {
    guard stopFound == nil else { return [] }
    if parser.isReasoning { reasoningTokenCount += 1 }
    return pass(characters.append(bytes))
  }

  /// Ends the text and gives what was held back.
  package mutating func finish() -> [OutputEvent] {
    var events: [OutputEvent] = []
    if stopFound == nil {
      events = pass(characters.finish())
      if stopFound == nil {
        let rest = stops.finish()
        if !rest.isEmpty { events += parser.feed(rest) }
      }
    }
    return events + parser.finish()
  }

  private mutating func pass(_ text: String) -> [OutputEvent] {
    guard !text.isEmpty else { return [] }
    let result = stops.feed(text)
    stopFound = result.stop
    return result.text.isEmpty ? [] : parser.feed(result.text)
  }
}

/// Holds back the bytes of a character that has not arrived whole.
package struct CharacterAssembler: Sendable {
  private var held: [UInt8] = []

  package init() {}

  /// Adds bytes and returns the characters that are complete; broken ones become U+FFFD.
  package mutating func append(_ bytes: [UInt8]) -> String {
    if held.isEmpty && bytes.allSatisfy({ $0 < 0x80 }) {
      return String(decoding: bytes, as: UTF8.self)
    }
    held += bytes
    let whole = held.count - incompleteCount
    defer { held.removeFirst(whole) }
    return String(decoding: held[..<whole], as: UTF8.self)
  }

  /// Ends the text; an incomplete character becomes U+FFFD.
  package mutating func finish() -> String {
    defer { held = [] }
    return String(decoding: held, as: UTF8.self)
  }

  /// How many bytes at the end begin a character that may still be completed.
  private var incompleteCount: Int {
    for count in 1...3 where count <= held.count {
      let byte = held[held.count - count]
      if byte & 0xC0 == 0x80 { continue }
      let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1
      return length > count && byte < 0xF5 ? count : 0
    }
    return 0
  }
}
