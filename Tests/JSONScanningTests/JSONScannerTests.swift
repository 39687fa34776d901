import JSONScanning
import Testing

@Suite("The pull scanner reads large documents piece by piece")
struct JSONScannerTests {
  @Test("members are pulled in order, unwanted ones skipped")
  func pulling() throws {
    let text = #"{"skip":{"a":[1,{"b":"]}"}]},"vocab":{"x":1,"\u00e9":2},"list":["p",["q"]]}"#
    let bytes = Array(text.utf8)
    var scanner = JSONScanner(bytes.span)
    var names: [UInt8] = []
    var ids: [Int] = []
    try scanner.enterObject()
    while let key = try scanner.nextKey() {
      guard key == "vocab" else {
        try scanner.skipValue()
        continue
      }
      try scanner.enterObject()
      while try scanner.nextKey(into: &names) { ids.append(try scanner.readInteger()) }
    }
    try scanner.finish()
    #expect(names == Array("xé".utf8))
    #expect(ids == [1, 2])
  }

  @Test("a value of another kind is an error that names both")
  func wrongKind() {
    let bytes = Array(" [1]".utf8)
    #expect(throws: JSONError.wrongKind(expected: .object, found: .array, offset: 1)) {
      var scanner = JSONScanner(bytes.span)
      try scanner.enterObject()
    }
    #expect(throws: JSONError.wrongKind(expected: .integer, found: .number, offset: 2)) {
      var scanner = JSONScanner(Array("[ 1.0]".utf8).span)
      try scanner.enterArray()
      _ = try scanner.nextElement()
      _ = try scanner.readInteger()
    }
  }

  @Test("skipping checks as strictly as reading")
  func skippingIsStrict() {
    for text in ["[1,2", "{\"a\":tru}", "\"\\q\"", "[01]", "{\"a\":1 \"b\":2}"] {
      let bytes = Array(text.utf8)
      #expect(throws: JSONError.self) {
        var scanner = JSONScanner(bytes.span)
        try scanner.skipValue()
        try scanner.finish()
      }
    }
  }

  @Test("no truncation of a document is accepted, and none traps")
  func truncation() throws {
    let text = #"{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00é"],"b":{"c":null,"d":true}}"#
    let bytes = Array(text.utf8)
    for length in 0..<bytes.count {
      #expect(throws: JSONError.self) { try JSONValue(parsing: Array(bytes[..<length])) }
    }
    #expect(throws: Never.self) { try JSONValue(parsing: bytes) }
  }

  @Test("changing any byte gives a value or an error, never a trap")
  func mutation() {
    let bytes = Array(#"{"a":[1,-2.5e3,"x\u00e9é"],"b":{"c":null}}"#.utf8)
    for index in bytes.indices {
      for replacement: UInt8 in [0, 0x22, 0x2C, 0x5B, 0x5C, 0x5D, 0x7B, 0x7D, 0x80, 0xFF] {
        var changed = bytes
        changed[index] = replacement
        _ = try? JSONValue(parsing: changed)
      }
    }
  }
}

@Suite("Values are written as Python's json.dumps writes them")
struct JSONFormatTests {
  @Test(
    "floating-point numbers are spelled as Python's repr",
    arguments: [
      (0.1, "0.1"), (1, "1.0"), (-0.0, "-0.0"), (100, "100.0"), (1e15, "1000000000000000.0"),
      (1e16, "1e+16"), (1.25e16, "1.25e+16"), (1.2345678901234568e17, "1.2345678901234568e+17"),
      (0.0001, "0.0001"), (0.00001, "1e-05"), (0.000012345, "1.2345e-05"), (1e-7, "1e-07"),
      (1e100, "1e+100"), (3.14159, "3.14159"), (-2.5, "-2.5"), (.leastNonzeroMagnitude, "5e-324"),
      (1.7976931348623157e308, "1.7976931348623157e+308"), (9007199254740992, "9007199254740992.0"),
    ])
  func floats(value: Double, text: String) {
    #expect(JSONValue.number(value).text() == text)
  }

  @Test("spacing, escapes, indentation and order follow the format")
  func formats() {
    let value: JSONValue = ["b": [1, "é😀\u{1}\"\u{7f}"], "a": [:], "c": []]
    #expect(value.text() == "{\"b\":[1,\"é😀\\u0001\\\"\u{7f}\"],\"a\":{},\"c\":[]}")
    var format = JSONFormat()
    #expect(value.text(format) == "{\"b\": [1, \"é😀\\u0001\\\"\u{7f}\"], \"a\": {}, \"c\": []}")
    format.escapesNonASCII = true
    format.sortsKeys = true
    format.indent = 2
    #expect(
      value.text(format)
        == "{\n  \"a\": {},\n  \"b\": [\n    1,"
        + "\n    \"\\u00e9\\ud83d\\ude00\\u0001\\\"\\u007f\"\n  ],\n"
        + "  \"c\": []\n}")
  }
}
