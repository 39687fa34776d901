import JSONScanning
import TestSupport
import Testing
import Tokenization

@Suite("Ids and texts are those of the Python package tokenizers")
struct TokenizerTests {
  @Test("mixed text of many scripts", arguments: ["deepseek-v3", "smollm2"])
  func mixedText(name: String) throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.folder(name))
    let text = try Fixtures.text("tokenizer/mixed.txt")
    let expected = TokenizerFixtures.ids(
      try JSONValue(parsing: Fixtures.bytes("tokenizer/\(name).ids.json")))
    let ids = try tokenizer.encode(text)
    #expect(ids == expected)
    // SmolLM2 lacks some control characters, which are then lost.
    if tokenizer.unencodableBytes.isEmpty { #expect(try tokenizer.decode(ids) == text) }
  }

  @Test("every Unicode scalar between letters", arguments: ["deepseek-v3", "smollm2"])
  func everyScalar(name: String) throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.folder(name))
    // Bytes, since appending to a view of a string copies all of it.
    var text: [UInt8] = []
    for code in UInt32(0)..<0x110000 {
      guard let scalar = Unicode.Scalar(code) else { continue }
      text += Array("a\(scalar)b \(scalar)".utf8)
    }
    let ids = try tokenizer.encode(String(decoding: text, as: UTF8.self))
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for id in ids { hash = (hash ^ UInt64(id)) &* 0x100_0000_01B3 }
    let summary = try JSONValue(parsing: Fixtures.bytes("tokenizer/summary.json"))
    let golden = summary["every_scalar"]?[name]
    #expect(ids.count == golden?["count"]?.integer)
    #expect(hash == golden?["fnv1a"]?.string.flatMap { UInt64($0, radix: 16) })
  }

  @Test("every setting of normalizer, pre-tokenizer, added tokens and post-processor")
  func settings() throws {
    let document = try TokenizerFixtures.smallDocument()
    let base = try #require(document["base"])
    let texts = document["texts"]?.array?.compactMap(\.string) ?? []
    let groups = document["settings"]?.array ?? []
    #expect(groups.count > 30)
    for group in groups {
      let name = group["name"]?.string ?? ""
      let file = TokenizerFixtures.small(try #require(group["overrides"]), base: base)
      let tokenizer = try Tokenizer(json: Array(file.text().utf8))
      for (text, row) in zip(texts, group["rows"]?.array ?? []) {
        let plain = try tokenizer.encode(text)
        #expect(plain == TokenizerFixtures.ids(row["plain"]), "\(name): \(text)")
        let framed = try tokenizer.encode(text, addingSpecialTokens: true)
        #expect(framed == TokenizerFixtures.ids(row["framed"]), "\(name): \(text)")
        let unspecial = try tokenizer.encode(text, recognizing: .recognizeUnspecial)
        #expect(unspecial == TokenizerFixtures.ids(row["unspecial"]), "\(name): \(text)")
        let decoded = [false, true].map { skip in
          JSONValue.string((try? tokenizer.decode(plain, skippingSpecialTokens: skip)) ?? "?")
        }
        #expect(JSONValue.array(decoded) == row["decoded"], "\(name): \(text)")
      }
    }
  }

  @Test("the spot checks of the DeepSeek-V3 tokenizer")
  func spotChecks() throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.deepSeek)
    #expect(try tokenizer.encode("Hello, world!") == [19923, 14, 2058, 3])
    #expect(try tokenizer.encode("12345678") == [6895, 18009, 2597])
    #expect(try tokenizer.encode("don't") == [20385, 1664])
    #expect(try tokenizer.encode("  \n\n x") == [6776, 1527])
    #expect(tokenizer.vocabularyCount == 128_815)
    #expect(tokenizer.id(of: "</think>") == 128_799)
    #expect(tokenizer.id(of: "<|EOT|>") == 128_805)
    #expect(tokenizer.beginToken == 0)
    #expect(tokenizer.endTokens == [1])
    #expect(tokenizer.isSpecial(128_805))
    #expect(!tokenizer.isSpecial(128_799))
    #expect(throws: TokenizerError.tokenMissing("<im_patch>")) {
      try tokenizer.requiredID(of: "<im_patch>")
    }
    #expect(throws: TokenizerError.unknownID(128_815)) { try tokenizer.decode([128_815]) }
    #expect(throws: TokenizerError.unknownID(-1)) { try tokenizer.decode([-1]) }
  }

  @Test("foreign text cannot speak the template's language")
  func foreignText() throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.deepSeek)
    let text = "</think><｜User｜><|EOT|>"
    #expect(try tokenizer.encode(text) == [128_799, 128_803, 128_805])
    let ids = try tokenizer.encode(text, recognizing: .recognizeNone)
    #expect(ids.allSatisfy { $0 < 128_000 && $0 > 2 })
    #expect(try tokenizer.decode(ids) == text)
  }

  @Test("long pieces without a break take no quadratic time, and are right")
  func longPieces() throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.deepSeek)
    for unit in ["a", "ab", "漢", " ", "\n", "-", "e\u{301}"] {
      let text = String(repeating: unit, count: 400_000)
      let ids = try tokenizer.encode(text)
      #expect(try tokenizer.decode(ids) == text)
    }
    // Both ways of merging give the same: around the length where the heap takes over.
    for length in 40..<60 {
      let text = String(repeating: "ababc", count: length / 5)
      let alone = try tokenizer.encode(text)
      let pairs = try tokenizer.encode(text + "\n" + text)
      #expect(pairs.starts(with: alone))
      #expect(pairs.suffix(alone.count) == alone[...])
    }
  }

  @Test("invalid UTF-8 is encoded as its repaired text")
  func invalidBytes() throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.deepSeek)
    let bytes: [UInt8] = [0x61, 0xE2, 0x82, 0x20, 0xFF, 0xF0, 0x9F, 0x98, 0x80]
    #expect(try tokenizer.encode(repairing: bytes) == tokenizer.encode("a\u{FFFD} \u{FFFD}😀"))
  }
}

@Suite("The stream of text is the text of the stream")
struct IncrementalDetokenizerTests {
  @Test("appended pieces join to the whole, and no piece holds part of a character")
  func streamEqualsDecode() throws {
    for folder in [TokenizerFixtures.deepSeek, TokenizerFixtures.smolLM2] {
      let tokenizer = try TokenizerFixtures.tokenizer(folder)
      let text = String(try Fixtures.text("tokenizer/mixed.txt").prefix(20_000))
      let ids = try tokenizer.encode(text)
      var stream = IncrementalDetokenizer(tokenizer)
      var pieces: [String] = []
      for id in ids { pieces.append(try stream.append(id)) }
      pieces.append(stream.finish())
      #expect(pieces.joined() == (try tokenizer.decode(ids)))
    }
  }

  @Test("random ids give the same repaired text in one go and in pieces")
  func randomIDs() throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.smolLM2)
    // Tokens that are parts of characters, so that broken sequences are common.
    let parts = (TokenID(0)..<TokenID(tokenizer.vocabularyCount)).filter { id in
      tokenizer.bytes(of: id).map { bytes in bytes.contains { $0 >= 0x80 } && bytes.count < 4 }
        ?? false
    }
    var state: UInt64 = 42
    for _ in 0..<300 {
      var ids: [TokenID] = []
      for _ in 0..<12 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        ids.append(parts[Int(state >> 33) % parts.count])
      }
      var stream = IncrementalDetokenizer(tokenizer)
      var text = ""
      for id in ids { text += try stream.append(id) }
      text += stream.finish()
      let whole = try tokenizer.decode(ids)
      #expect(text.utf8.elementsEqual(whole.utf8), "\(ids)")
    }
  }

  @Test("special tokens are left out on request")
  func specialTokens() throws {
    let tokenizer = try TokenizerFixtures.tokenizer(TokenizerFixtures.deepSeek)
    let ids = try tokenizer.encode("<think>a<|EOT|>")
    var stream = IncrementalDetokenizer(tokenizer, skippingSpecialTokens: true)
    var text = ""
    for id in ids { text += try stream.append(id) }
    #expect(text + stream.finish() == "<think>a")
    #expect(throws: TokenizerError.unknownID(999_999)) { try stream.append(999_999) }
  }
}

@Suite("A tokenizer.json that cannot be honoured is refused by name")
struct TokenizerErrorTests {
  private static func error(_ overrides: JSONValue) throws -> TokenizerError? {
    let base = try #require(try TokenizerFixtures.smallDocument()["base"])
    let withPreTokenizer = TokenizerFixtures.small(
      ["pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false]], base: base)
    let file = TokenizerFixtures.small(overrides, base: withPreTokenizer)
    do {
      _ = try Tokenizer(json: Array(file.text().utf8))
      return nil
    } catch {
      return error
    }
  }

  private static func pattern(_ regex: String) -> JSONValue {
    [
      "pre_tokenizer": [
        "type": "Sequence",
        "pretokenizers": [
          ["type": "Split", "pattern": ["Regex": .string(regex)], "behavior": "Isolated"],
          ["type": "ByteLevel"],
        ],
      ]
    ]
  }

  @Test(
    "components of other families",
    arguments: [
      (["normalizer": ["type": "Lowercase"]], ("normalizer", "Lowercase")),
      (["pre_tokenizer": ["type": "Metaspace"]], ("pre_tokenizer", "Metaspace")),
      (["pre_tokenizer": nil], ("pre_tokenizer", "null")),
      (["post_processor": ["type": "BertProcessing"]], ("post_processor", "BertProcessing")),
      (["decoder": ["type": "WordPiece"]], ("decoder", "WordPiece")),
      (["model": ["type": "Unigram"]], ("model.type", "Unigram")),
      (["model": ["byte_fallback": true]], ("model.byte_fallback", "true")),
      (["model": ["dropout": 0.1]], ("model.dropout", "0.1")),
    ] as [(JSONValue, (String, String))])
  func components(overrides: JSONValue, expected: (component: String, value: String)) throws {
    let error = try Self.error(overrides)
    #expect(error == .unsupported(component: expected.component, value: expected.value))
  }

  @Test(
    "patterns that PCRE2 would read differently",
    arguments: [
      (#"[a&&b]"#, "an intersection of classes (&&)"), (#"[a[bc]]"#, "a class within a class"),
      (#"\bx"#, #"\b"#), (#"\w+"#, #"\w"#), (#"(?<name>x)"#, "the group (?<n"), (#"\1"#, #"\1"#),
      (#"x{2}+"#, "an interval followed by +"), (#"\p{Cn}"#, "the property Cn"),
      (#"[\P{L}]"#, "a negated property within a class"), (#"\X"#, #"\X"#),
    ])
  func patterns(regex: String, construct: String) throws {
    let error = try Self.error(Self.pattern(regex))
    #expect(error == .unsupportedPattern(pattern: regex, construct: construct))
  }

  @Test("broken files")
  func brokenFiles() throws {
    #expect(throws: TokenizerError.fileMissing(path: "/nowhere/tokenizer.json")) {
      try Tokenizer(directory: "/nowhere")
    }
    #expect(
      throws: TokenizerError.json(
        file: "tokenizer.json", .unexpectedEnd(expected: .key, offset: 1))
    ) { try Tokenizer(json: Array("{".utf8)) }
    #expect(throws: TokenizerError.malformed(member: "model", expected: "an object")) {
      try Tokenizer(json: Array("{}".utf8))
    }
    #expect(
      try Self.error(["model": ["merges": ["a zzzz"]]])
        == .mergeOutsideVocabulary(rank: 0, token: "zzzz"))
    #expect(
      try Self.error(["model": ["merges": ["abc"]]])
        == .malformed(member: "model.merges[0]", expected: "two tokens"))
    #expect(
      try Self.error(["model": ["vocab": ["a": 0, "b": 0], "merges": []]])
        == .duplicateID(0, first: "a", second: "b"))
    #expect(
      try Self.error(["model": ["vocab": ["a": -1], "merges": []]])
        == .invalidID(-1, token: "a"))
    #expect(
      try Self.error(["added_tokens": [["id": 5, "content": "!"]]])
        == .conflictingID(token: "!", vocabulary: 0, added: 5))
    let twice = #"{"model":{"vocab":{"a":0,"a":1}},"pre_tokenizer":{"type":"ByteLevel"},"#
    #expect(throws: TokenizerError.duplicateToken("a")) {
      try Tokenizer(json: Array((twice + #""decoder":{"type":"ByteLevel"}}"#).utf8))
    }
    guard case .invalidPattern = try Self.error(Self.pattern("(")) else {
      Issue.record("an unfinished group compiled")
      return
    }
  }
}
