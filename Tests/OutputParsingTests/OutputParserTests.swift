import Foundation
import JSONScanning
import OutputParsing
import TestSupport
import Testing

/// A recorded output and what an independent one-shot reader finds in it.
struct Transcript: Sendable, CustomTestStringConvertible {
  let name: String
  let text: String
  let format: OutputFormat
  let expected: ParsedOutput
  var testDescription: String { name }

  static let tools: [ToolSignature] =
    document["tools"]?.array?.compactMap { tool in
      guard let name = tool["name"]?.string, let schema = tool["parameters"] else { return nil }
      return ToolSignature(name: name, schema: schema)
    } ?? []

  static let recorded: [Transcript] =
    document["cases"]?.array?.compactMap { entry in
      guard let name = entry["name"]?.string, let text = entry["text"]?.string,
        let starts = entry["startsInReasoning"]?.boolean, let expected = entry["expected"]
      else { return nil }
      return Transcript(
        name: name, text: text, format: OutputFormat(startsInReasoning: starts, tools: tools),
        expected: output(expected))
    } ?? []

  private static let document: JSONValue =
    (try? JSONValue(parsing: Fixtures.bytes("output-parsing/transcripts.json"))) ?? nil

  private static func output(_ value: JSONValue) -> ParsedOutput {
    var output = ParsedOutput()
    if let text = value["reasoning"]?.string { output.append(.reasoning(text)) }
    if let text = value["content"]?.string { output.append(.content(text)) }
    for (index, call) in (value["toolCalls"]?.array ?? []).enumerated() {
      output.append(.toolCallStarted(index: index, name: call["name"]?.string ?? ""))
      output.append(.toolArguments(index: index, fragment: call["arguments"]?.string ?? ""))
      output.append(.toolCallFinished(index: index, isComplete: true))
    }
    return output
  }
}

/// What the parser gives for `pieces`, with the order and shape of its events checked.
func parse(_ pieces: [String], as format: OutputFormat) -> ParsedOutput {
  var parser = OutputParser(format)
  var output = ParsedOutput()
  var events: [OutputEvent] = []
  for piece in pieces { events += parser.feed(piece) }
  events += parser.finish()
  for event in events {
    switch event {
    case .reasoning(let text), .content(let text): #expect(!text.isEmpty)
    case .toolCallStarted(let index, _): #expect(index == output.toolCalls.count)
    case .toolArguments(let index, let fragment):
      #expect(index == output.toolCalls.count - 1 && !fragment.isEmpty)
    case .toolCallFinished(let index, _): #expect(index == output.toolCalls.count - 1)
    }
    output.append(event)
  }
  return output
}

/// The text cut at the given places, which count Unicode scalars.
func cut(_ text: String, at places: [Int]) -> [String] {
  let scalars = Array(text.unicodeScalars)
  var pieces: [String] = []
  var start = 0
  for place in places + [scalars.count] {
    var piece = String.UnicodeScalarView()
    piece.append(contentsOf: scalars[start..<place])
    pieces.append(String(piece))
    start = place
  }
  return pieces
}

@Suite("Output is told apart as it streams")
struct OutputParserTests {
  @Test(
    "every recorded output is read as the independent reader reads it",
    arguments: Transcript.recorded)
  func golden(_ transcript: Transcript) {
    #expect(ParsedOutput(parsing: transcript.text, as: transcript.format) == transcript.expected)
  }

  @Test("no recorded output is lost on the way")
  func fixturesArePresent() {
    #expect(Transcript.recorded.count == 24 && Transcript.tools.count == 3)
  }

  @Test(
    "every split of an output into two gives the same result",
    arguments: Transcript.recorded + Irregular.transcripts)
  func twoWaySplits(_ transcript: Transcript) {
    for place in 0...transcript.text.unicodeScalars.count {
      let pieces = cut(transcript.text, at: [place])
      #expect(parse(pieces, as: transcript.format) == transcript.expected, "cut at \(place)")
    }
  }

  @Test(
    "scalar by scalar and random splits give the same result",
    arguments: Transcript.recorded + Irregular.transcripts)
  func manySplits(_ transcript: Transcript) {
    let count = transcript.text.unicodeScalars.count
    #expect(
      parse(cut(transcript.text, at: Array(0..<count)), as: transcript.format)
        == transcript.expected)
    var random = SplitMix(state: 7)
    for _ in 0..<50 {
      let places = (0..<Int.random(in: 1...12, using: &random))
        .map { _ in Int.random(in: 0...count, using: &random) }.sorted()
      #expect(
        parse(cut(transcript.text, at: places), as: transcript.format) == transcript.expected,
        "cut at \(places)")
    }
  }

  @Test(
    "every prefix of an output ends with calls whose arguments are JSON objects",
    arguments: Transcript.recorded)
  func truncation(_ transcript: Transcript) throws {
    let count = transcript.text.unicodeScalars.count
    for length in 0..<count {
      let output = ParsedOutput(
        parsing: cut(transcript.text, at: [length])[0], as: transcript.format)
      for call in output.toolCalls {
        let arguments = try JSONValue(parsing: call.arguments)
        #expect(arguments.object != nil)
      }
      #expect(!output.toolCalls.dropLast().contains { !$0.isComplete })
      #expect(!(output.content ?? "").contains("<steptml:"))
    }
  }

  @Test("text is given out as soon as it can be no marker")
  func promptness() {
    var parser = OutputParser(OutputFormat(tools: Transcript.tools))
    #expect(parser.isReasoning)
    #expect(parser.feed("so ") == [.reasoning("so")])
    #expect(parser.feed("it <") == [.reasoning(" it")])
    #expect(parser.feed("is</thi") == [.reasoning(" <is")])
    #expect(parser.feed("nk>\n") == [])
    #expect(!parser.isReasoning)
    #expect(parser.feed("\nYes < no <｜tool_calls") == [.content("Yes < no")])
    #expect(parser.feed("!") == [.content(" <｜tool_calls!")])
    #expect(parser.finish() == [])
  }

  @Test("arguments stream parameter by parameter")
  func argumentStreaming() {
    var parser = OutputParser(OutputFormat(startsInReasoning: false, tools: Transcript.tools))
    let header = "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"get_weather\""
    #expect(parser.feed("<｜tool_calls_begin｜>" + header) == [])
    #expect(parser.feed(">") == [.toolCallStarted(index: 0, name: "get_weather")])
    #expect(parser.feed("<steptml:parameter name=\"city\">SF") == [])
    #expect(
      parser.feed("</steptml:parameter><steptml:parameter name=\"days\">2</steptml:parameter>")
        == [
          .toolArguments(index: 0, fragment: "{\"city\": \"SF\""),
          .toolArguments(index: 0, fragment: ", \"days\": 2"),
        ])
    #expect(
      parser.feed("</steptml:invoke>")
        == [.toolArguments(index: 0, fragment: "}"), .toolCallFinished(index: 0, isComplete: true)])
  }

  @Test("only the first call is kept when calls may not be parallel")
  func firstCallOnly() throws {
    let two = try #require(Transcript.recorded.first { $0.name.hasPrefix("two calls") })
    var format = two.format
    format.keepsOnlyFirstCall = true
    let output = ParsedOutput(parsing: two.text, as: format)
    #expect(output.toolCalls == Array(two.expected.toolCalls.prefix(1)))
    #expect(output.content == two.expected.content)
  }

  @Test("without parsers the text is content, markers included")
  func noParsers() {
    let text = "\n<think>a</think> <｜tool_calls_begin｜> \n"
    let format = OutputFormat(parsesReasoning: false, parsesTools: false)
    let output = ParsedOutput(parsing: text, as: format)
    #expect(output.content == text && output.reasoning == nil && output.toolCalls.isEmpty)
  }
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
