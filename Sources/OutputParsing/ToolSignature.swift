package import JSONScanning

/// A tool's name and the types of its parameters: what is needed to turn values into JSON.
package struct ToolSignature: Equatable, Sendable {
  /// The types a JSON schema can name.
  package enum ValueType: String, Sendable, CaseIterable {
    case null, boolean, integer, number, array, object, string
  }

  /// The tool's name.
  package let name: String
  /// The types each parameter may have; a parameter that is not here is text.
  package let parameters: [String: Set<ValueType>]

  /// A tool of this name and these parameters.
  package init(name: String, parameters: [String: Set<ValueType>]) {
    self.name = name
    self.parameters = parameters
  }

  /// A tool of this name whose `schema` is the JSON schema of its arguments.
  package init(name: String, schema: JSONValue) {
    self.name = name
    var parameters: [String: Set<ValueType>] = [:]
    for member in Self.resolve(schema, root: schema)["properties"]?.object?.members ?? [] {
      parameters[member.key] = Self.types(of: member.value, root: schema, depth: 0)
    }
    self.parameters = parameters
  }

  /// The types `schema` allows; empty when it does not say.
  private static func types(of schema: JSONValue, root: JSONValue, depth: Int) -> Set<ValueType> {
    guard depth < 16 else { return [] }
    let schema = resolve(schema, root: root)
    var types: Set<ValueType> = []
    if let name = schema["type"]?.string {
      types.formUnion(ValueType(rawValue: name).map { [$0] } ?? [])
    }
    for name in schema["type"]?.array ?? [] {
      types.formUnion(name.string.flatMap(ValueType.init(rawValue:)).map { [$0] } ?? [])
    }
    guard types.isEmpty else { return types }
    for value in (schema["enum"]?.array ?? []) + (schema["const"].map { [$0] } ?? []) {
      types.insert(type(of: value))
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
      for branch in schema[keyword]?.array ?? [] {
        types.formUnion(Self.types(of: branch, root: root, depth: depth + 1))
      }
    }
    if types.isEmpty, schema["properties"] != nil { return [.object] }
    if types.isEmpty, schema["items"] != nil { return [.array] }
    return types
  }

  private static func type(of value: JSONValue) -> ValueType {
    switch value {
    case .null: .null
    case .boolean: .boolean
    case .integer: .integer
    case .number: .number
    case .string: .string
    case .array: .array
    case .object: .object
    }
  }

  /// Follows `$ref` within the document; a reference that leads nowhere says nothing.
  private static func resolve(_ schema: JSONValue, root: JSONValue) -> JSONValue {
    var schema = schema
    for _ in 0..<16 {
      guard let reference = schema["$ref"]?.string else { return schema }
      guard reference.hasPrefix("#") else { return .null }
      var target: JSONValue? = root
      for step in reference.dropFirst().split(separator: "/") {
        target = target?[String(step)]
      }
      schema = target ?? .null
    }
    return schema
  }
}

/// A parameter's text becomes JSON by the types its schema allows.
///
/// The most specific type that fits wins, in the order null, boolean, integer, number, object or
/// array, string. What fits none stays text, for a wrong argument is better than a lost one.
/// JSON is written as Python's `json.dumps(…, ensure_ascii=False)` writes it.
enum ArgumentValue {
  static func json(_ text: String, as types: Set<ToolSignature.ValueType>) -> String {
    if types.contains(.null), text.lowercased() == "null" { return "null" }
    if types.contains(.boolean), let value = boolean(text) { return value }
    if types.contains(.integer), let value = integer(text) { return value }
    if types.contains(.number), let value = integer(text) ?? number(text) { return value }
    if types.contains(.object), let value = structure(text), value.object != nil {
      return value.text(JSONFormat())
    }
    if types.contains(.array), let value = structure(text), value.array != nil {
      return value.text(JSONFormat())
    }
    return JSONValue.string(text).text(JSONFormat())
  }

  private static func boolean(_ text: String) -> String? {
    switch text.lowercased() {
    case "true": "true"
    case "false": "false"
    default: nil
    }
  }

  /// A whole number of any size, also written with a fraction of zeros.
  private static func integer(_ text: String) -> String? {
    var digits = text[...]
    let isNegative = digits.hasPrefix("-")
    if isNegative || digits.hasPrefix("+") { digits.removeFirst() }
    if let point = digits.firstIndex(of: "."), point != digits.startIndex {
      let fraction = digits[digits.index(after: point)...]
      guard !fraction.isEmpty, fraction.allSatisfy({ $0 == "0" }) else { return nil }
      digits = digits[..<point]
    }
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
      return nil
    }
    let plain = digits.drop { $0 == "0" }
    return plain.isEmpty ? "0" : (isNegative ? "-" : "") + plain
  }

  private static func number(_ text: String) -> String? {
    let allowed = text.utf8.allSatisfy { (0x2B...0x39).contains($0) || $0 | 0x20 == 0x65 }
    guard allowed, let value = Double(text), value.isFinite else { return nil }
    return value.jsonText
  }

  private static func structure(_ text: String) -> JSONValue? {
    try? JSONValue(parsing: text, duplicateKeys: .keepLast)
  }
}
