import JSONScanning
import Testing

@Suite("JSON texts become values, or an error that names the byte")
struct JSONValueTests {
  @Test("every kind of value is read")
  func kinds() throws {
    let value = try JSONValue(
      parsing: " {\"a\": [null, true, false, 0, -7, 1.5, 1e3, \"x\"], \"b\" : {} , \"c\":[]}\n")
    #expect(
      value == [
        "a": [nil, true, false, 0, -7, 1.5, 1000.0, "x"], "b": [:], "c": [],
      ])
    #expect(value.object?.keys == ["a", "b", "c"])
  }

  @Test("integers keep every bit; what does not fit becomes floating point")
  func numbers() throws {
    #expect(try JSONValue(parsing: "9223372036854775807") == .integer(.max))
    #expect(try JSONValue(parsing: "-9223372036854775808") == .integer(.min))
    #expect(try JSONValue(parsing: "9223372036854775808") == .number(9.223372036854775808e18))
    #expect(try JSONValue(parsing: "-0") == .number(-0.0))
    #expect(try JSONValue(parsing: "2.5E-1") == 0.25)
    #expect(throws: JSONError.numberOutOfRange(offset: 0)) { try JSONValue(parsing: "1e999") }
  }

  @Test("escapes are resolved, surrogate pairs joined")
  func escapes() throws {
    #expect(
      try JSONValue(parsing: #""\"\\\/\b\f\n\r\t\u00e9\u4e2d\ud83d\ude00""#)
        == .string("\"\\/\u{8}\u{c}\n\r\té中😀"))
    #expect(throws: JSONError.loneSurrogate(offset: 2)) { try JSONValue(parsing: #""a\ud83d""#) }
    #expect(throws: JSONError.loneSurrogate(offset: 1)) {
      try JSONValue(parsing: #""\ud83d\u0041""#)
    }
    #expect(throws: JSONError.loneSurrogate(offset: 1)) { try JSONValue(parsing: #""\ude00""#) }
  }

  @Test(
    "malformed text is refused at its byte",
    arguments: [
      ("", JSONError.unexpectedEnd(expected: .value, offset: 0)),
      ("[1", .unexpectedEnd(expected: .commaOrArrayEnd, offset: 2)),
      ("[1,]", .unexpectedByte(0x5D, expected: .value, offset: 3)),
      ("{\"a\":1,}", .unexpectedByte(0x7D, expected: .key, offset: 7)),
      ("{\"a\" 1}", .unexpectedByte(0x31, expected: .colon, offset: 5)),
      ("{a:1}", .unexpectedByte(0x61, expected: .key, offset: 1)),
      ("01", .trailingBytes(offset: 1)),
      ("1.", .unexpectedEnd(expected: .digit, offset: 2)),
      ("+1", .unexpectedByte(0x2B, expected: .value, offset: 0)),
      ("tru", .unexpectedEnd(expected: .boolean, offset: 3)),
      ("nul!", .unexpectedByte(0x21, expected: .null, offset: 3)),
      ("NaN", .unexpectedByte(0x4E, expected: .value, offset: 0)),
      ("\"a", .unexpectedEnd(expected: .stringEnd, offset: 2)),
      ("\"a\nb\"", .unexpectedByte(0x0A, expected: .stringEnd, offset: 2)),
      ("\"\\x\"", .unexpectedByte(0x78, expected: .escape, offset: 2)),
      ("\"\\u12g4\"", .unexpectedByte(0x67, expected: .hexadecimalDigit, offset: 5)),
      ("{} x", .trailingBytes(offset: 3)),
    ])
  func malformed(text: String, error: JSONError) {
    #expect(throws: error) { try JSONValue(parsing: text) }
  }

  @Test(
    "bytes that are no UTF-8 are refused",
    arguments: [
      [0x80], [0xC0, 0x80], [0xC3], [0xE0, 0x9F, 0xBF], [0xED, 0xA0, 0x80],
      [0xF0, 0x8F, 0xBF, 0xBF],
      [0xF4, 0x90, 0x80, 0x80], [0xF5], [0xE2, 0x82],
    ] as [[UInt8]])
  func invalidUTF8(bytes: [UInt8]) {
    #expect(throws: JSONError.invalidUTF8(offset: 1)) {
      try JSONValue(parsing: [0x22] + bytes + [0x22])
    }
  }

  @Test("a repeated key is refused unless the last is asked for")
  func duplicateKeys() throws {
    let few = #"{"a":1,"b":2,"a":3}"#
    #expect(throws: JSONError.duplicateKey("a", offset: 17)) { try JSONValue(parsing: few) }
    #expect(try JSONValue(parsing: few, duplicateKeys: .keepLast) == ["a": 3, "b": 2])
    let many = "{" + (0..<50).map { "\"k\($0)\":\($0)," }.joined() + "\"k7\":0}"
    #expect(throws: JSONError.self) { try JSONValue(parsing: many) }
    #expect(try JSONValue(parsing: many, duplicateKeys: .keepLast)["k7"] == 0)
  }

  @Test("spellings that are only canonically equivalent are different keys")
  func canonicalEquivalence() throws {
    let value = try JSONValue(parsing: "{\"\u{e9}\":1,\"e\u{301}\":2}")
    #expect(value["\u{e9}"] == 1)
    #expect(value["e\u{301}"] == 2)
  }

  @Test("nesting stops at the limit")
  func depth() throws {
    let deep = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
    #expect(throws: Never.self) { try JSONValue(parsing: deep) }
    #expect(throws: JSONError.tooDeep(limit: 128, offset: 128)) {
      try JSONValue(parsing: "[" + deep + "]")
    }
  }

  @Test("removing and setting members keeps order and search right")
  func objectEdits() {
    var object = JSONObject()
    for index in 0..<20 { object["k\(index)"] = .integer(index) }
    object["k3"] = nil
    object["k19"] = "last"
    #expect(object.count == 19)
    #expect(object["k3"] == nil)
    #expect(object["k4"] == 4)
    #expect(object.members.last?.value == "last")
  }
}
