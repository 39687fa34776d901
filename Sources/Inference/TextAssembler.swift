package import OutputParsing
import Tokenization

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
