import CommandLineInterface
import ConstrainedDecoding
import JSONScanning
import Tokenization

/// `step3 bench masks`: what a constrained answer pays per token for its mask, and once for its
/// grammar.
struct BenchMasksCommand: Command {
  static let specification = CommandSpecification(
    "bench masks", abstract: "Measure the masks of constrained answers on a tokenizer.",
    example: "step3 bench masks --model DIR", takesModel: true,
    flags: [BenchReport.file],
    discussion: "DIR needs no weights: tokenizer.json and tokenizer_config.json are enough.")

  static func run(_ arguments: ParsedArguments) throws {
    let tokenizer = try Tokenizer(directory: arguments.model)
    let ids = 0..<tokenizer.vocabularyCount
    var report = BenchReport(arguments)
    for sample in ConstrainedSample.all {
      // A vocabulary that no grammar has asked yet, as after the start of a server.
      let vocabulary = TokenVocabulary(
        tokenBytes: ids.map { Array(tokenizer.bytes(of: TokenID($0)) ?? []) },
        specialIDs: Set(ids.filter { tokenizer.isSpecial(TokenID($0)) }),
        endIDs: tokenizer.endTokens.map { Int($0) })
      let preparation = ContinuousClock().measure { vocabulary.prepare() }
      try measure(sample, tokenizer, vocabulary, preparation, into: &report)
    }
    try report.finish()
  }

  private static func measure(
    _ sample: ConstrainedSample, _ tokenizer: Tokenizer, _ vocabulary: TokenVocabulary,
    _ preparation: Duration, into report: inout BenchReport
  ) throws {
    let clock = ContinuousClock()
    let began = clock.now
    let grammar = try Grammar.compile(sample.source(), vocabulary: vocabulary)
    let compile = microseconds(clock.now - began)
    let tokens = try tokenizer.encode(sample.answer, addingSpecialTokens: false).map { Int($0) }
    var row = JSONObject()
    row["name"] = .string(sample.name)
    row["vocabulary"] = .integer(vocabulary.size)
    row["tokens"] = .integer(tokens.count)
    row["prepare_us"] = .number(microseconds(preparation))
    row["compile_us"] = .number(compile)
    var text = "\(sample.name): \(tokens.count) tokens, grammar \(Int(compile)) us, mask"
    for pass in ["first", "again"] {
      let times = try masks(of: tokens, grammar, sample, clock)
      let mean = times.reduce(0, +) / Double(times.count)
      text += "  \(pass) mean \(Int(mean)) us, longest \(Int(times.max() ?? 0)) us"
      row["\(pass)_mean_us"] = .number(mean)
      row["\(pass)_longest_us"] = .number(times.max() ?? 0)
    }
    report.add(text: text, row: .object(row))
  }

  /// The microseconds of each mask on the way through an answer, the one after its end included.
  private static func masks(
    of tokens: [Int], _ grammar: Grammar, _ sample: ConstrainedSample, _ clock: ContinuousClock
  ) throws -> [Double] {
    var matcher = GrammarMatcher(grammar)
    var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
    var times: [Double] = []
    for token in tokens {
      times.append(microseconds(clock.measure { matcher.fill(&mask) }))
      guard mask[token], matcher.accept(token) else {
        throw CommandFailure(
          .failed, code: "grammar_refuses", "\(sample.name): the grammar refuses its own sample")
      }
    }
    times.append(microseconds(clock.measure { matcher.fill(&mask) }))
    return times
  }

  private static func microseconds(_ duration: Duration) -> Double {
    duration / .microseconds(1)
  }
}

/// A constraint of a kind that clients send, with an answer that keeps to it.
private struct ConstrainedSample {
  let name: String
  let answer: String
  let source: @Sendable () throws -> GrammarSource

  private static func schema(_ name: String, _ text: String, _ answer: String) -> Self {
    Self(name: name, answer: answer) { .jsonSchema(try JSONValue(parsing: text)) }
  }

  static let all = [
    schema(
      "person",
      #"""
      {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
       "tags": {"type": "array", "items": {"type": "string"}}},
       "required": ["name", "age", "tags"], "additionalProperties": false}
      """#,
      #"{"name": "Ada Lovelace", "age": 36, "tags": ["mathematics", "poetry", "日本語"]}"#),
    schema(
      "bounds",
      #"""
      {"type": "object", "properties": {"title": {"type": "string", "maxLength": 200},
       "score": {"type": "number", "minimum": 0, "maximum": 10},
       "kind": {"enum": ["bug", "feature", "question"]},
       "when": {"type": "string", "format": "date-time"}},
       "required": ["title", "score", "kind", "when"], "additionalProperties": false}
      """#,
      #"{"title": "The server stops answering", "score": 7.5, "kind": "bug", "#
        + #""when": "2026-11-24T12:00:00Z"}"#),
    schema(
      "tree",
      ##"""
      {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
       "value": {"type": "string"}, "children": {"type": "array", "items":
       {"$ref": "#/$defs/node"}}}, "required": ["value", "children"],
       "additionalProperties": false}}}
      """##,
      #"{"value": "root", "children": [{"value": "left", "children": []}, "#
        + #"{"value": "right", "children": [{"value": "leaf", "children": []}]}]}"#),
    Self(
      name: "json_object", answer: #"{"a": [1, 2.5, {"b": null}], "text": "any \"text\" at all"}"#
    ) { .jsonObject },
    Self(name: "regex", answer: "+49-30-1234567 ext. 42") {
      .regex(#"\+\d{1,3}-\d{2,4}-\d{5,9}( ext\. \d+)?"#)
    },
    Self(
      name: "tool",
      answer: "<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜>"
        + #"<steptml:invoke name="search"><steptml:parameter name="query">"#
        + "prime numbers below a<b</steptml:parameter>"
        + #"<steptml:parameter name="limit">10</steptml:parameter></steptml:invoke>"#
        + "<｜tool_call_end｜><｜tool_calls_end｜>"
    ) {
      let schema = #"""
        {"type": "object", "properties": {"query": {"type": "string"},
         "limit": {"type": "integer"}}, "required": ["query", "limit"]}
        """#
      let tool = ConstrainedTool(name: "search", parameters: try JSONValue(parsing: schema))
      return .toolCalls([tool], allowsSeveral: true)
    },
  ]
}
