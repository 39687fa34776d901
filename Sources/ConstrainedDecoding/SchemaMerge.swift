import JSONScanning

/// Conjunction of schemas, and the way through references.
enum SchemaMerge {
  /// Keywords that say nothing about what is valid.
  static let annotations: Set<String> = [
    "title", "description", "default", "examples", "example", "$schema", "$id", "$comment",
    "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "discriminator", "strict",
    "contentMediaType", "contentEncoding", "contentSchema", "$anchor", "$vocabulary", "name",
  ]

  /// A schema that both `first` and `second` demand.
  ///
  /// `allOf` of what cannot be merged into one keyword stays as a list: `pattern` in `patterns`.
  static func merge(
    _ first: JSONValue, _ second: JSONValue, path: String
  ) throws(GrammarError) -> JSONValue {
    if first == .boolean(false) || second == .boolean(false) { return .boolean(false) }
    guard case .object(let a) = first else { return second }
    guard case .object(let b) = second else { return first }
    var merged = a
    for member in b.members where !annotations.contains(member.key) {
      guard let old = a[member.key] else {
        merged[member.key] = member.value
        continue
      }
      if old == member.value { continue }
      merged[member.key] = try combine(member.key, old, member.value, path: path)
    }
    try mergeObjects(a, b, into: &merged, path: path)
    return .object(merged)
  }

  /// One keyword that both schemas have, with different values.
  private static func combine(
    _ key: String, _ a: JSONValue, _ b: JSONValue, path: String
  ) throws(GrammarError) -> JSONValue {
    switch key {
    case "type": return .array(commonTypes(a, b).map { .string($0) })
    case "enum": return .array((a.array ?? []).filter { (b.array ?? []).contains($0) })
    case "const": return .boolean(false)
    case "required":
      return .array((a.array ?? []) + (b.array ?? []).filter { !(a.array ?? []).contains($0) })
    case "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties":
      return (a.number ?? 0) >= (b.number ?? 0) ? a : b
    case "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties":
      return (a.number ?? 0) <= (b.number ?? 0) ? a : b
    case "items", "propertyNames": return try merge(a, b, path: path + "/" + key)
    case "uniqueItems": return .boolean(true)
    case "allOf": return .array((a.array ?? []) + (b.array ?? []))
    case "properties", "additionalProperties": return a  // `mergeObjects` sees to them
    default:
      throw .unsupported(
        path: path, construct: key, reason: "two different values of it cannot be combined")
    }
  }

  static func types(_ value: JSONValue) -> [String] {
    value.string.map { [$0] } ?? (value.array ?? []).compactMap(\.string)
  }

  private static func commonTypes(_ a: JSONValue, _ b: JSONValue) -> [String] {
    let (first, second) = (types(a), types(b))
    return first.compactMap { type in
      if second.contains(type) { return type }
      if type == "integer", second.contains("number") { return type }
      if type == "number", second.contains("integer") { return "integer" }
      return nil
    }
  }

  /// Each property must satisfy what either schema says of it, be it by name or by
  /// `additionalProperties`.
  private static func mergeObjects(
    _ a: JSONObject, _ b: JSONObject, into merged: inout JSONObject, path: String
  ) throws(GrammarError) {
    let (first, second) = (a["properties"]?.object, b["properties"]?.object)
    let (restA, restB) = (a["additionalProperties"], b["additionalProperties"])
    guard (first != nil || restA != nil) && (second != nil || restB != nil) else { return }
    var properties = JSONObject()
    for key in (first?.keys ?? []) + (second?.keys ?? []) where properties[key] == nil {
      let inA = first?[key] ?? restA ?? .boolean(true)
      let inB = second?[key] ?? restB ?? .boolean(true)
      properties[key] = try merge(inA, inB, path: "\(path)/properties/\(key)")
    }
    if first != nil || second != nil { merged["properties"] = .object(properties) }
    if let restA, let restB {
      merged["additionalProperties"] = try merge(
        restA, restB, path: path + "/additionalProperties")
    }
  }

  /// What a `$ref` within the document `root` points to.
  static func resolve(
    _ reference: String, in root: JSONValue, path: String
  ) throws(GrammarError) -> JSONValue {
    guard reference == "#" || reference.hasPrefix("#/") else {
      throw .unsupported(
        path: path, construct: "$ref",
        reason: "'\(reference)' leads out of the schema; only '#' and '#/…' can be followed")
    }
    var target = root
    for step in reference.dropFirst(2).split(separator: "/", omittingEmptySubsequences: false)
    where reference.count > 2 {
      let name = unescape(String(step))
      if let next = target[name] {
        target = next
      } else if let index = Int(name), let list = target.array, list.indices.contains(index) {
        target = list[index]
      } else {
        throw .invalid(
          path: path, construct: "$ref", expected: "a place in the schema; '\(reference)' is none")
      }
    }
    return target
  }

  /// `~1`, `~0` and percent escapes of a JSON pointer in a URI fragment.
  private static func unescape(_ step: String) -> String {
    var bytes: [UInt8] = []
    var rest = Array(step.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%"), rest.count >= 2,
        let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
      {
        bytes.append(value)
        rest = rest.dropFirst(2)
      } else if byte == UInt8(ascii: "~"), let next = rest.first, next == 0x30 || next == 0x31 {
        bytes.append(next == 0x30 ? UInt8(ascii: "~") : UInt8(ascii: "/"))
        rest = rest.dropFirst()
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
