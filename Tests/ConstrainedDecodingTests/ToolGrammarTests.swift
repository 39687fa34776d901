import ConstrainedDecoding
import JSONScanning
import OutputParsing
import Testing

@Suite("Tool calls")
struct ToolGrammarTests {
  private let grammar = Result {
    try Grammar.compile(
      .toolCalls([Sample.weather], allowsSeveral: true), vocabulary: SmallVocabulary.vocabulary)
  }

  /// Reads text in which special tokens are spelled by name.
  private func reads(_ text: String) throws -> Bool {
    var matcher = GrammarMatcher(try grammar.get())
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let special = SmallVocabulary.specials.firstIndex { rest.starts(with: $0.utf8) }
      if let special {
        guard matcher.accept(SmallVocabulary.firstSpecial + special) else { return false }
        rest = rest.dropFirst(SmallVocabulary.specials[special].utf8.count)
      } else {
        guard let byte = rest.popFirst(), matcher.accept(Int(byte)) else { return false }
      }
    }
    return matcher.canFinish
  }

  private func call(_ parameters: String, name: String = "get_weather") -> String {
    "<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"\(name)\">\(parameters)"
      + "</steptml:invoke><｜tool_call_end｜>"
  }

  private func block(_ calls: String...) -> String {
    "<｜tool_calls_begin｜>\n" + calls.joined(separator: "\n") + "\n<｜tool_calls_end｜>"
  }

  @Test("calls are written in the frame, values by their schema")
  func calls() throws {
    func p(_ name: String, _ value: String) -> String {
      "<steptml:parameter name=\"\(name)\">\(value)</steptml:parameter>\n"
    }
    let city = p("city", "a < b </steptml \"日本\" \n")
    #expect(try reads(block(call("\n" + city))))
    #expect(try reads(block(call(city + p("days", "14") + p("unit", "f")), call(city))))
    #expect(try reads(block(call(city + p("tags", #"["a", "b"]"#) + p("code", "null")))))
    #expect(try reads(block(call(city + p("code", "DE")))))
    for bad in [
      block(call("")), block(call(p("days", "3"))), block(call(city + p("days", "15"))),
      block(call(city + p("unit", "k"))), block(call(city + city)), block(call(city, name: "x")),
      block(call(city + p("code", "de"))), call(city), block(), block(call(city)) + "more",
      block(call(city + p("planet", "3"))),
    ] { #expect(try !reads(bad), "\(bad)") }
  }

  @Test("whatever is generated is read back as complete calls with arguments of the right types")
  func readBack() throws {
    let sample = try #require(Sample.all.first { $0.name == "tool calls after thinking" })
    let grammar = try sample.grammar()
    let schema = try #require(Sample.weather.parameters)
    let format = OutputFormat(tools: [ToolSignature(name: "get_weather", schema: schema)])
    var random = SplitMix(state: 21)
    var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
    var callCount = 0
    for _ in 0..<150 {
      var matcher = GrammarMatcher(grammar)
      var bytes: [UInt8] = []
      while !matcher.isFinished, bytes.count < 8000 {
        matcher.fill(&mask)
        // Markers and closing tags first, or random texts would go on for ever.
        let ids = mask.ids
        let closing = ids.filter { SmallVocabulary.tokenBytes[$0].first == UInt8(ascii: "<") }
        let choices = bytes.count % 4 == 3 && !closing.isEmpty ? closing : ids
        guard let token = choices.randomElement(using: &random) else { break }
        matcher.accept(token)
        if token != SmallVocabulary.end { bytes += SmallVocabulary.tokenBytes[token] }
      }
      guard matcher.isFinished else { continue }
      let output = ParsedOutput(parsing: String(decoding: bytes, as: UTF8.self), as: format)
      #expect(!output.toolCalls.isEmpty && output.content == nil)
      callCount += output.toolCalls.count
      for call in output.toolCalls {
        #expect(call.isComplete)
        let arguments = try #require(try JSONValue(parsing: call.arguments).object)
        guard call.name == "get_weather" else {
          #expect(call.name == "now" && arguments.isEmpty)
          continue
        }
        #expect(arguments["city"]?.string != nil)
        if let days = arguments["days"] { #expect((1...14).contains(days.integer ?? 0)) }
        if let unit = arguments["unit"] { #expect(unit == "c" || unit == "f") }
        if let tags = arguments["tags"] { #expect(tags.array != nil) }
        if let code = arguments["code"] { #expect(code.isNull || code.string?.count == 2) }
      }
    }
    #expect(callCount > 50)
  }
}
