import JSONScanning

extension TokenVocabulary {
  /// Learns what nearly every grammar asks of the vocabulary: strings, numbers and a call's texts.
  ///
  /// Parts that are alike in two grammars share what is known, so that after this an answer with a
  /// new schema finds the dear states known: those that most of the vocabulary fits. False when
  /// the vocabulary lacks bytes for it, which costs later answers time and nothing else.
  @discardableResult
  package func prepare() -> Bool {
    var isComplete = true
    for sample in PreparationSample.all {
      guard let source = sample.source,
        let grammar = try? Grammar.compile(source, vocabulary: self),
        follow(sample.answer, grammar)
      else {
        isComplete = false
        continue
      }
    }
    return isComplete
  }

  /// Asks for the masks on the way through an answer, byte by byte; markers that are tokens of
  /// their own are taken as these.
  private func follow(_ answer: String, _ grammar: Grammar) -> Bool {
    var matcher = GrammarMatcher(grammar)
    var mask = TokenMask(vocabularySize: size)
    var rest = Array(answer.utf8)[...]
    while !rest.isEmpty {
      matcher.fill(&mask)
      let marker = PreparationSample.markers.first { rest.starts(with: $0.utf8) }
      if let marker, let id = specialID(marker), matcher.accept(id) {
        rest = rest.dropFirst(marker.utf8.count)
      } else {
        guard matcher.accept(byte: rest.removeFirst()) else { return false }
      }
    }
    matcher.fill(&mask)
    return matcher.canFinish
  }
}

/// A grammar whose parts occur in most others, with an answer that visits them.
private struct PreparationSample {
  let source: GrammarSource?
  let answer: String

  static let markers = [
    "<｜tool_calls_begin｜>", "<｜tool_calls_end｜>", "<｜tool_call_begin｜>", "<｜tool_call_end｜>",
    "<｜tool_sep｜>",
  ]

  private static let texts = #"a bé日😀 \n\"\u00e9."#

  static let all = [
    PreparationSample(
      source: .jsonObject,
      answer: #"{"a": [1, -2.5e3, true, false, null, {"\#(texts)": "\#(texts)"}], "c": ""}"#),
    PreparationSample(
      source: (try? JSONValue(
        parsing: #"""
          {"type": "object", "properties": {"s": {"type": "string", "maxLength": 99},
           "t": {"type": "string"}, "n": {"type": "number"}, "i": {"type": "integer"},
           "l": {"type": "array", "items": {"type": "string"}}},
           "required": ["s", "t", "n", "i", "l"], "additionalProperties": false}
          """#)).map { .jsonSchema($0) },
      answer: #"{"s": "\#(texts)", "t": "\#(texts)", "n": 1.5, "i": -20, "l": ["a", "b"]}"#),
    PreparationSample(
      source: (try? JSONValue(
        parsing: #"""
          {"type": "object", "properties": {"s": {"type": "string"}, "i": {"type": "integer"}},
           "required": ["s", "i"]}
          """#)).map {
          .toolCalls([ConstrainedTool(name: "f", parameters: $0)], allowsSeveral: true)
        },
      answer: "<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜>"
        + #"<steptml:invoke name="f"><steptml:parameter name="s">a bé日😀 <b</steptml:parameter>"#
        + #"<steptml:parameter name="i">10</steptml:parameter></steptml:invoke>"#
        + "<｜tool_call_end｜><｜tool_calls_end｜>"),
  ]
}
