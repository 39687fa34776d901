import OutputParsing
import Testing

/// Outputs that break the protocol, and the documented way each is read.
enum Irregular {
  static let now = "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"now\">"
  static let invokeEnd = "</steptml:invoke>"
  static let begin = "<｜tool_calls_begin｜>"

  static let transcripts: [Transcript] = [
    make(
      "no end of the block", begin + now + invokeEnd + "<｜tool_call_end｜>", calls: [("now", "{}")]),
    make(
      "no outer markers", "a " + now + invokeEnd + "<｜tool_call_end｜> b", content: "ab",
      calls: [("now", "{}")]),
    make(
      "no end of the call", begin + now + invokeEnd + now + invokeEnd + "<｜tool_calls_end｜>",
      calls: [("now", "{}"), ("now", "{}")]),
    make(
      "no end of the invoke element", begin + now + "<｜tool_call_end｜><｜tool_calls_end｜>c",
      content: "c", calls: [("now", "{}")]),
    make(
      "two elements in one call",
      begin + now + invokeEnd + "\n<steptml:invoke name=\"get_weather\">" + invokeEnd
        + "<｜tool_call_end｜><｜tool_calls_end｜>",
      calls: [("now", "{}"), ("get_weather", "{}")]),
    make(
      "text between parameters",
      begin + now + "oh <b> <steptml:parameter name=\"x\">1</steptml:parameter> well" + invokeEnd,
      calls: [("now", "{\"x\": \"1\"}")]),
    make(
      "text between calls ends the block",
      begin + now + invokeEnd + "<｜tool_call_end｜> so <b> <｜tool_calls_end｜>", content: "so <b>",
      calls: [("now", "{}")]),
    make(
      "no call after its marker", "<｜tool_call_begin｜>other<x>",
      content: "<｜tool_call_begin｜>other<x>"),
    make(
      "an unnamed call",
      begin + "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"\">",
      content: "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"\">"),
    make(
      "cut before the name",
      "well " + begin + "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:inv",
      content: "well"),
    make(
      "cut after the name", begin + now + "<steptml:para", calls: [("now", "{}")], complete: false),
    make(
      "cut within a value",
      begin + now + "<steptml:parameter name=\"x\">1</steptml:parameter>"
        + "<steptml:parameter name=\"y\">22</steptml:",
      calls: [("now", "{\"x\": \"1\"}")], complete: false),
    make(
      "cut within a character of a marker",
      begin + now + invokeEnd + "<｜tool_call_end｜><\u{FFFD}", calls: [("now", "{}")]),
    make(
      "cut within a character of an end", begin + now + invokeEnd + "<\u{FFFD}",
      calls: [("now", "{}")]),
    make("cut within a character of the text", "hello <\u{FFFD}", content: "hello <\u{FFFD}"),
    make("cut within a marker of the text", "hello <｜tool_ca", content: "hello <｜tool_ca"),
    make(
      "markers where none belong", "a<｜tool_calls_end｜></steptml:invoke><｜tool_sep｜>",
      content: "a<｜tool_calls_end｜></steptml:invoke><｜tool_sep｜>"),
    make(
      "a name that is too long",
      "<｜tool_call_begin｜>" + String(repeating: "f", count: 300),
      content: "<｜tool_call_begin｜>" + String(repeating: "f", count: 300)),
  ]

  private static func make(
    _ name: String, _ text: String, content: String? = nil, calls: [(String, String)] = [],
    complete: Bool = true
  ) -> Transcript {
    var output = ParsedOutput()
    if let content { output.append(.content(content)) }
    for (index, call) in calls.enumerated() {
      output.append(.toolCallStarted(index: index, name: call.0))
      output.append(.toolArguments(index: index, fragment: call.1))
      output.append(.toolCallFinished(index: index, isComplete: complete))
    }
    return Transcript(
      name: name, text: text,
      format: OutputFormat(startsInReasoning: false, tools: Transcript.tools), expected: output)
  }
}

@Suite("Outputs that break the protocol")
struct IrregularOutputTests {
  @Test("each is read in the documented way", arguments: Irregular.transcripts)
  func reading(_ transcript: Transcript) {
    #expect(ParsedOutput(parsing: transcript.text, as: transcript.format) == transcript.expected)
  }

  @Test("a long value is read in time proportional to its length")
  func longValue() {
    let value = String(repeating: "x < y; ", count: 20_000)
    let text =
      Irregular.begin + Irregular.now + "<steptml:parameter name=\"code\">" + value
      + "</steptml:parameter></steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>"
    let scalars = Array(text.unicodeScalars)
    var pieces: [String] = []
    for start in stride(from: 0, to: scalars.count, by: 5) {
      var piece = String.UnicodeScalarView()
      piece.append(contentsOf: scalars[start..<min(start + 5, scalars.count)])
      pieces.append(String(piece))
    }
    let output = parse(
      pieces, as: OutputFormat(startsInReasoning: false, parsesTools: true))
    #expect(output.toolCalls.first?.arguments.utf8.count == value.utf8.count + 11)
  }
}
