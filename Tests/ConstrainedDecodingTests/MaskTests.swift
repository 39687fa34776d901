import ConstrainedDecoding
import JSONScanning
import Testing

/// Constraints of every kind, for tests that hold for all of them.
struct Sample: Sendable, CustomTestStringConvertible {
  let name: String
  let source: GrammarSource
  var afterThinking = false
  var testDescription: String { name }

  func grammar() throws -> Grammar {
    try Grammar.compile(
      source, vocabulary: SmallVocabulary.vocabulary, afterThinking: afterThinking)
  }

  static func schema(_ name: String, _ text: String, afterThinking: Bool = false) -> Sample {
    let value = (try? JSONValue(parsing: text)) ?? .boolean(false)
    return Sample(name: name, source: .jsonSchema(value), afterThinking: afterThinking)
  }

  static let weather = ConstrainedTool(
    name: "get_weather",
    parameters: try? JSONValue(
      parsing: """
        {"type":"object","properties":{"city":{"type":"string"},
        "days":{"type":"integer","minimum":1,"maximum":14},"unit":{"enum":["c","f"]},
        "tags":{"type":"array","items":{"type":"string"}},
        "code":{"type":["string","null"],"pattern":"^[A-Z]{2}$"}},"required":["city"]}
        """))

  static let all: [Sample] = [
    schema(
      "a person",
      """
      {"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},
      "ok":{"type":"boolean"}},"required":["name","age"],"additionalProperties":false}
      """),
    schema("anything", "true"),
    Sample(name: "any object", source: .jsonObject, afterThinking: true),
    schema(
      "a recursive tree",
      """
      {"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"number"},
      "kids":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["v","kids"]}}}
      """),
    schema(
      "a union",
      """
      {"anyOf":[{"type":"string","maxLength":3},{"type":"array","items":{"type":"integer"},
      "minItems":1,"maxItems":3},{"type":"object","properties":{"a":{"const":"é\\"x"}},
      "additionalProperties":{"type":"null"}},{"enum":[null,1.5,"red","green"]}]}
      """),
    schema("a pattern", #"{"type":"string","pattern":"^(\\d{2}|[^a-z]+é)$","minLength":2}"#),
    schema("a counted string", #"{"type":"string","minLength":2,"maxLength":9}"#),
    schema("a long string", #"{"type":"string","minLength":7}"#),
    schema("an unanchored pattern", #"{"type":"string","pattern":"a.c"}"#),
    schema("a range", #"{"type":"number","minimum":-1.25,"exclusiveMaximum":12.5}"#),
    Sample(name: "a regex", source: .regex(#"(ab|c)+[0-9]{1,3}(\.com)?"#)),
    Sample(name: "any text", source: .regex("[\\s\\S]*")),
    Sample(name: "a choice", source: .choice(["green", "greener", "red", "日本語"])),
    Sample(name: "a tool call", source: .toolCalls([weather], allowsSeveral: false)),
    Sample(
      name: "tool calls after thinking",
      source: .toolCalls(
        [weather, ConstrainedTool(name: "now", parameters: nil)], allowsSeveral: true),
      afterThinking: true),
    Sample(
      name: "a number or calls",
      source: .either(
        .jsonSchema(["type": "integer"]), .toolCalls([weather], allowsSeveral: true))),
  ]
}

@Suite("Masks")
struct MaskTests {
  @Test("a mask holds exactly the tokens that can be accepted", arguments: Sample.all)
  func bruteForce(_ sample: Sample) throws {
    let grammar = try sample.grammar()
    var random = SplitMix(state: 11)
    for _ in 0..<12 {
      var matcher = GrammarMatcher(grammar)
      var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
      for _ in 0..<60 {
        matcher.fill(&mask)
        for token in 0..<grammar.vocabulary.size {
          var probe = matcher
          let isAccepted = probe.accept(token)
          #expect(isAccepted == mask[token], "token \(token)")
        }
        guard let token = mask.ids.randomElement(using: &random) else { break }
        let isAccepted = matcher.accept(token)
        #expect(isAccepted)
      }
    }
  }

  @Test(
    "there is always a way on, and the end comes only where the output may end",
    arguments: Sample.all)
  func noDeadEnds(_ sample: Sample) throws {
    let grammar = try sample.grammar()
    var random = SplitMix(state: 5)
    var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
    for _ in 0..<100 {
      var matcher = GrammarMatcher(grammar)
      for _ in 0..<200 {
        matcher.fill(&mask)
        #expect(mask[SmallVocabulary.end] == matcher.canFinish)
        let ids = mask.ids
        #expect(!ids.isEmpty)
        if matcher.isFinished { #expect(ids == [SmallVocabulary.end]) }
        guard let token = ids.randomElement(using: &random) else { break }
        let isAccepted = matcher.accept(token)
        #expect(isAccepted)
        if token == SmallVocabulary.end { break }
      }
    }
  }

  @Test("after the end nothing is accepted, and a refused token changes nothing")
  func end() throws {
    let grammar = try Sample(name: "", source: .choice(["red"])).grammar()
    var matcher = GrammarMatcher(grammar)
    let refused = [SmallVocabulary.end, -1, 1 << 20].map { matcher.accept($0) }
    #expect(refused == [false, false, false])
    let read = "red".utf8.map { matcher.accept(Int($0)) }
    #expect(read == [true, true, true] && matcher.isFinished && matcher.canFinish)
    matcher.accept(SmallVocabulary.end)
    var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
    matcher.fill(&mask)
    let isAccepted = matcher.accept(SmallVocabulary.end)
    #expect(mask.count == 0 && !isAccepted && matcher.isFinished)
  }
}
