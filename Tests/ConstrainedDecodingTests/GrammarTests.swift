import ConstrainedDecoding
import JSONScanning
import Testing

private func schema(_ text: String) throws -> Grammar {
  try Grammar.compile(
    .jsonSchema(JSONValue(parsing: text)), vocabulary: SmallVocabulary.vocabulary)
}

private func regex(_ pattern: String) throws -> Grammar {
  try Grammar.compile(.regex(pattern), vocabulary: SmallVocabulary.vocabulary)
}

private func failure(_ text: String) -> GrammarError? {
  do {
    _ = try schema(text)
    return nil
  } catch {
    return error as? GrammarError
  }
}

extension Grammar {
  fileprivate func accepts(_ text: String) -> Bool { accepts(Array(text.utf8)) }
}

@Suite("Regular expressions")
struct RegexTests {
  @Test(
    "a text is accepted when the pattern matches all of it",
    arguments: [
      (#"a|b"#, ["a", "b"], ["", "ab", "c"]),
      (#"a{2,3}?"#, ["aa", "aaa"], ["a", "aaaa"]),
      (#"(?:ab)*c+"#, ["c", "ababcc"], ["ab", "abac"]),
      (#"(?P<x>\d\d)-(?<y>\w)"#, ["12-a", "00-_"], ["1-a", "12-é", "12--"]),
      (#"[^a-c\d]"#, ["d", "é", "日", "🤔", "\n"], ["a", "5", ""]),
      (#"[a\-z\]]+"#, ["a-z]"], ["b"]),
      (#"[]a]"#, ["]", "a"], ["b"]),
      (#"^a$|^b$"#, ["a", "b"], ["ab"]),
      (#"\u00e9\x41\u{1F914}\uD83E\uDD14"#, ["éA🤔🤔"], ["éA🤔"]),
      (#"[\u4e00-\u9fff]{2}"#, ["日本", "语言"], ["ab", "日"]),
      (#"\p{Lu}\P{L}"#, ["É1", "A "], ["a1", "AA"]),
      (#"."#, ["é", "🤔", "\t"], ["\n", "\r", "ab"]),
      (#"\s\S"#, [" a", "\u{3000}é"], ["a ", "  "]),
      (#"a{,2}b{1,}"#, ["b", "aabbb"], ["aaab", "a"]),
      (#"x{a}{2}"#, ["x{a}}"], ["x{a}"]),
      (#"(a|b)?(^c|d$)"#, ["c", "d", "ad"], ["ac"]),
      ("", [""], ["a"]),
    ] as [(String, [String], [String])])
  func matching(_ pattern: String, _ good: [String], _ bad: [String]) throws {
    let grammar = try regex(pattern)
    for text in good { #expect(grammar.accepts(text), "\(text)") }
    for text in bad { #expect(!grammar.accepts(text), "\(text)") }
  }

  @Test(
    "what is no regular language is refused by name",
    arguments: [
      ("(?=a)", "lookahead"), ("(?!a)", "lookahead"), ("(?<=a)b", "lookbehind"),
      ("(?<!a)b", "lookbehind"), (#"(a)\1"#, "backreference"), (#"(?P=x)"#, "backreference"),
      (#"\bword\b"#, "word boundary \\b"), ("(?i)a", "inline flags"), ("(?>a)", "atomic group"),
      ("a++", "possessive quantifier"), ("[[:alpha:]]", "POSIX class"),
      (#"\p{Script=Greek}"#, "property \\p{Script=Greek}"), (#"\cA"#, "control escape \\c"),
    ])
  func refused(_ pattern: String, _ construct: String) {
    #expect {
      try regex(pattern)
    } throws: { error in
      guard case .unsupported(_, let found, _) = error as? GrammarError else { return false }
      return found == construct
    }
  }

  @Test(
    "malformed patterns are refused with their place",
    arguments: [
      ("a(b", 3), ("a)", 1), ("[a", 2), ("*a", 0), ("a**", 2), ("a{3,2}", 6), ("[z-a]", 2),
      (#"\x4"#, 2), ("a\\", 2), ("(?<n", 3), ("a{1,20000}", 10),
    ])
  func malformed(_ pattern: String, _ offset: Int) {
    #expect {
      try regex(pattern)
    } throws: { error in
      guard case .badPattern("regex", pattern, let found, _) = error as? GrammarError else {
        return false
      }
      return found == offset
    }
  }

  @Test(
    "patterns that would take for ever are refused",
    arguments: [
      "(a|b)*a(a|b){40}", "(a{1000}){1000}", "((a{0,900}){900}){900}", "(.{0,100}a){0,50}",
    ])
  func tooLarge(_ pattern: String) {
    #expect {
      try regex(pattern)
    } throws: { error in
      guard case .tooLarge("regex", _) = error as? GrammarError else { return false }
      return true
    }
  }

  @Test("an empty part may be repeated as often as one likes")
  func emptyRepetition() throws {
    let grammar = try regex("((((){9999}){9999}){9999}){9999}a(){0,9999}")
    #expect(grammar.accepts("a") && !grammar.accepts("aa"))
  }

  @Test("a pattern that nothing matches is unsatisfiable")
  func nothing() {
    #expect(throws: GrammarError.unsatisfiable(path: "$")) { try regex("a^b") }
  }
}

@Suite("Schemas")
struct SchemaTests {
  @Test("white space is free within bounds")
  func whiteSpace() throws {
    let grammar = try schema(
      #"{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}"#)
    for good in [
      "{}", "{ }", "{\n}", #"{"a":[]}"#, #"{"a": [1, 2]}"#, "{\n  \"a\": [\n    1,\n    2\n  ]\n}",
    ] { #expect(grammar.accepts(good), "\(good)") }
    for bad in ["{   }", #"{"a"  :[]}"#, " {}", "{} ", "{\n\n}", #"{"a":  []}"#] {
      #expect(!grammar.accepts(bad), "\(bad)")
    }
  }

  @Test("properties come in the schema's order, others only where the schema speaks of them")
  func order() throws {
    let closed = try schema(
      """
      {"properties":{"a":{"type":"null"},"b":{"type":"null"},"c":{"type":"null"}},
      "required":["b"]}
      """
    )
    for good in [#"{"b":null}"#, #"{"a":null,"b":null}"#, #"{"b":null, "c":null}"#] {
      #expect(closed.accepts(good), "\(good)")
    }
    for bad in [
      "{}", #"{"a":null}"#, #"{"b":null,"a":null}"#, #"{"b":null,"d":null}"#, #"{"b":null,}"#,
      #"{,"b":null}"#, #"{"b":null,"b":null}"#,
    ] { #expect(!closed.accepts(bad), "\(bad)") }
    let open = try schema(
      #"{"properties":{"a":{"type":"null"}},"additionalProperties":{"type":"integer"}}"#)
    for good in [#"{"x":1}"#, #"{"a":null,"ab":2,"":3}"#] { #expect(open.accepts(good)) }
    for bad in [#"{"a":1}"#, #"{"x":null}"#, #"{"\u0061":1}"#, #"{"x":1,"a":null}"#] {
      #expect(!open.accepts(bad), "\(bad)")
    }
  }

  @Test("what cannot be enforced is refused by place and name")
  func refused() {
    for (text, path, construct) in [
      (#"{"properties":{"a":{"not":{}}}}"#, "$/properties/a", "not"),
      (#"{"type":"array","uniqueItems":true}"#, "$", "uniqueItems"),
      (#"{"if":{},"then":{}}"#, "$", "if"),
      (#"{"$ref":"http://example.com/s"}"#, "$", "$ref"),
      (#"{"oneOf":[{"type":"integer"},{"type":"number"}]}"#, "$", "oneOf"),
      (#"{"patternProperties":{"^a":{}}}"#, "$", "patternProperties"),
      (#"{"type":"number","multipleOf":0.3}"#, "$", "multipleOf"),
      (#"{"items":{"pattern":"(?=a)"}}"#, "$/items/pattern", "lookahead"),
      (#"{"allOf":[{"pattern":"a"},{"pattern":"b"}]}"#, "$/allOf/1", "pattern"),
      (
        #"{"properties":{"a":{}},"required":["a"],"additionalProperties":true,"maxProperties":3}"#,
        "$", "maxProperties"
      ),
    ] {
      guard case .unsupported(path, construct, _) = failure(text) else {
        Issue.record("\(text): \(String(describing: failure(text)))")
        continue
      }
    }
  }

  @Test("malformed and unsatisfiable schemas are refused by place")
  func malformed() {
    for text in [
      #"{"type":"text"}"#, #"{"minLength":-1}"#, #"{"required":"a"}"#, #"{"enum":[]}"#,
      #"{"anyOf":{}}"#, ##"{"$ref":"#/$defs/none"}"##, #"{"minimum":"1"}"#, "[]", #"{"pattern":1}"#,
    ] {
      guard case .invalid = failure(text) else {
        Issue.record("\(text): \(String(describing: failure(text)))")
        continue
      }
    }
    for text in [
      "false", #"{"type":"integer","minimum":3,"maximum":2}"#, #"{"enum":["a"],"type":"integer"}"#,
      #"{"minLength":3,"maxLength":2}"#, ##"{"$ref":"#"}"##,
      ##"{"properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
      #"{"type":"string","pattern":"^a$","minLength":2}"#,
      #"{"anyOf":[false,{"const":1,"enum":[2]}]}"#,
    ] {
      guard case .unsatisfiable = failure(text) else {
        Issue.record("\(text): \(String(describing: failure(text)))")
        continue
      }
    }
    for text in [
      #"{"type":"string","minLength":999999}"#, #"{"type":"array","minItems":999999999999999}"#,
      Self.doubling,
    ] {
      guard case .tooLarge = failure(text) else {
        Issue.record("\(text.prefix(80)): \(String(describing: failure(text)))")
        continue
      }
    }
  }

  /// Each definition copies the next one twice, for a keyword beside a reference must be merged.
  private static let doubling: String = {
    let levels = (0..<40).map { level in
      let next = ##"{"$ref":"#/$defs/d\##(level + 1)","type":"object"}"##
      return #""d\#(level)":{"properties":{"a":\#(next),"b":\#(next)}}"#
    }
    let last = #""d40":{"type":"object"}"#
    return ##"{"$ref":"#/$defs/d0","$defs":{\##((levels + [last]).joined(separator: ","))}}"##
  }()

  @Test(
    "a schema that reads one text along endless ways is bounded", .timeLimit(.minutes(1)),
    arguments: [
      ##"{"anyOf":[{"$ref":"#/$defs/NEXT"},{"$ref":"#/$defs/NEXT"}]}"##,
      ##"{"anyOf":[{"items":{"$ref":"#/$defs/NEXT"}},{"items":{"$ref":"#/$defs/NEXT"}}]}"##,
    ])
  func ambiguity(_ level: String) throws {
    let levels = (0..<40).map {
      #""d\#($0)":"# + level.replacing("NEXT", with: "d\($0 + 1)")
    }
    let last = #""d40":{"type":"integer"}"#
    let definitions = (levels + [last]).joined(separator: ",")
    let grammar = try schema(##"{"$ref":"#/$defs/d0","$defs":{\##(definitions)}}"##)
    var matcher = GrammarMatcher(grammar)
    var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
    let isNested = level.contains("items")
    let text =
      isNested
      ? String(repeating: "[", count: 40) + "17" + String(repeating: "]", count: 40) : "17"
    for byte in text.utf8 {
      matcher.fill(&mask)
      #expect(mask[Int(byte)])
      let isAccepted = matcher.accept(Int(byte))
      #expect(isAccepted)
    }
    #expect(matcher.canFinish)
  }

  @Test("oneOf is taken where its branches exclude each other")
  func oneOf() throws {
    let grammar = try schema(
      """
      {"oneOf":[{"$ref":"#/$defs/cat"},{"$ref":"#/$defs/dog"},{"type":"null"}],"$defs":{
      "cat":{"type":"object","properties":{"kind":{"const":"cat"},"lives":{"type":"integer"}},
      "required":["kind"]},"dog":{"type":"object","properties":{"kind":{"const":"dog"}},
      "required":["kind"]}}}
      """)
    for good in [#"{"kind":"cat","lives":9}"#, #"{"kind":"dog"}"#, "null"] {
      #expect(grammar.accepts(good))
    }
    #expect(!grammar.accepts(#"{"kind":"dog","lives":9}"#))
  }

  @Test("nesting is deep but bounded, and the bound can always be met")
  func depth() throws {
    let grammar = try schema("true")
    let deep = String(repeating: "[", count: 40) + String(repeating: "]", count: 40)
    #expect(grammar.accepts(deep))
    let tooDeep = String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    #expect(!grammar.accepts(tooDeep))
  }

  @Test("only bytes that tokens consist of are asked for")
  func missingBytes() throws {
    let ascii = (0..<128).map { [UInt8($0)] } + [Array("é".utf8)]
    let vocabulary = TokenVocabulary(tokenBytes: ascii, specialIDs: [], endIDs: [0])
    let grammar = try Grammar.compile(.jsonSchema(["type": "string"]), vocabulary: vocabulary)
    #expect(grammar.accepts(Array(#""abc""#.utf8)) && !grammar.accepts(Array(#""é""#.utf8)))
  }
}
