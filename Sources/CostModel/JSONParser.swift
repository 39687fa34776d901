/// Reads one JSON document; strict, with a bound on depth, and errors that name the line.
struct JSONParser {
  private let bytes: [UInt8]
  private let file: String
  private var position = 0
  private static let deepest = 64

  init(bytes: [UInt8], file: String) {
    self.bytes = bytes
    self.file = file
  }

  mutating func document() throws(CostModelError) -> JSONValue {
    let value = try value(depth: 0)
    skipSpace()
    guard position == bytes.count else { throw failure("text after the end of the document") }
    return value
  }

  private func failure(_ fact: String) -> CostModelError {
    let line = 1 + bytes[..<min(position, bytes.count)].count { $0 == UInt8(ascii: "\n") }
    return .malformedDocument(file: file, place: "line \(line)", fact: fact)
  }

  private mutating func skipSpace() {
    while position < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[position]) {
      position += 1
    }
  }

  private mutating func value(depth: Int) throws(CostModelError) -> JSONValue {
    guard depth < Self.deepest else { throw failure("nested deeper than \(Self.deepest)") }
    skipSpace()
    guard position < bytes.count else { throw failure("a value is missing") }
    switch bytes[position] {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return .number(try number())
    }
  }

  private mutating func word(
    _ text: StaticString, _ value: JSONValue
  ) throws(CostModelError) -> JSONValue {
    let wanted = Array(text.description.utf8)
    guard bytes[position...].starts(with: wanted) else { throw failure("not a JSON value") }
    position += wanted.count
    return value
  }

  private mutating func object(depth: Int) throws(CostModelError) -> JSONValue {
    position += 1
    var members: [JSONMember] = []
    skipSpace()
    if take("}") { return .object([]) }
    while true {
      skipSpace()
      guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
        throw failure("a member name in quotes is missing")
      }
      let key = try string()
      skipSpace()
      guard take(":") else { throw failure("':' is missing after \"\(key)\"") }
      guard !members.contains(where: { $0.key == key }) else {
        throw failure("\"\(key)\" stands twice in one object")
      }
      members.append(JSONMember(key, try value(depth: depth + 1)))
      skipSpace()
      if take("}") { return .object(members) }
      guard take(",") else { throw failure("',' or '}' is missing") }
    }
  }

  private mutating func array(depth: Int) throws(CostModelError) -> JSONValue {
    position += 1
    var values: [JSONValue] = []
    skipSpace()
    if take("]") { return .array([]) }
    while true {
      values.append(try value(depth: depth + 1))
      skipSpace()
      if take("]") { return .array(values) }
      guard take(",") else { throw failure("',' or ']' is missing") }
    }
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func number() throws(CostModelError) -> Double {
    let start = position
    let allowed = Array("+-0123456789.eE".utf8)
    while position < bytes.count, allowed.contains(bytes[position]) { position += 1 }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    guard let value = Double(text), value.isFinite else {
      throw failure("\"\(text)\" is not a JSON value")
    }
    return value
  }

  private mutating func string() throws(CostModelError) -> String {
    position += 1
    var out: [UInt8] = []
    while position < bytes.count {
      let byte = bytes[position]
      position += 1
      if byte == UInt8(ascii: "\"") {
        guard let text = String(validating: out, as: UTF8.self) else {
          throw failure("a string is not UTF-8")
        }
        return text
      }
      if byte == UInt8(ascii: "\\") {
        out += try escape()
      } else {
        guard byte >= 0x20 else { throw failure("a control character in a string") }
        out.append(byte)
      }
    }
    throw failure("a string does not end")
  }

  private mutating func escape() throws(CostModelError) -> [UInt8] {
    guard position < bytes.count else { throw failure("a string does not end") }
    let byte = bytes[position]
    position += 1
    switch byte {
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code), take("\\"), take("u") {
        code = 0x10000 + ((code - 0xD800) << 10) + (try hexadecimal() &- 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw failure("a lone surrogate") }
      return Array(String(Character(scalar)).utf8)
    default: throw failure("an unknown escape in a string")
    }
  }

  private mutating func hexadecimal() throws(CostModelError) -> UInt32 {
    guard position + 4 <= bytes.count else { throw failure("a string does not end") }
    let text = String(decoding: bytes[position..<position + 4], as: UTF8.self)
    guard let code = UInt32(text, radix: 16) else { throw failure("\\u needs four digits") }
    position += 4
    return code
  }
}

extension JSONValue {
  /// Reads one document; `file` is how errors call it.
  package init(parsing bytes: [UInt8], file: String) throws(CostModelError) {
    var parser = JSONParser(bytes: bytes, file: file)
    self = try parser.document()
  }
}
