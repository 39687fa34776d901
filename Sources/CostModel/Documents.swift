package import JSONScanning

extension JSONValue {
  /// An object with these members in their order; members without a value are left out.
  package static func members(_ members: [(String, JSONValue?)]) -> JSONValue {
    var object = JSONObject()
    for (key, value) in members {
      if let value { object[key] = value }
    }
    return .object(object)
  }

  /// A number, or null where there is none or it is not finite; whole numbers without fraction.
  package static func finite(_ value: Double?) -> JSONValue {
    guard let value, value.isFinite else { return .null }
    if value == value.rounded(), abs(value) < 1e15 { return .integer(Int(value)) }
    return .number(value)
  }

  /// An array of strings.
  package static func strings(_ texts: [String]) -> JSONValue {
    .array(texts.map { .string($0) })
  }

  /// Reads one document; `file` is how errors call it.
  package init(document bytes: [UInt8], file: String) throws(CostModelError) {
    do {
      try self.init(parsing: bytes, depthLimit: 64)
    } catch {
      let line = 1 + bytes.prefix(error.offset).count { $0 == UInt8(ascii: "\n") }
      throw .malformedDocument(file: file, place: "line \(line)", fact: error.description)
    }
  }

  /// The document as text that people read: two spaces of indentation and a final line end.
  package var documentText: String {
    var format = JSONFormat()
    format.indent = 2
    return text(format) + "\n"
  }
}

/// The shortest text that reads back as the same number; whole numbers without a fraction.
package func plainNumber(_ value: Double) -> String {
  guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-infinity" : "infinity" }
  if value == value.rounded(), abs(value) < 1e15 { return String(Int64(value)) }
  return value.description
}
