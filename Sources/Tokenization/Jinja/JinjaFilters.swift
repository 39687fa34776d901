internal import Foundation
internal import JSONScanning

extension JinjaInterpreter {
  /// Every filter there is.
  static let filterNames = sequenceFilters.union(scalarFilters)

  private static let scalarFilters: Set<String> = [
    "abs", "attr", "capitalize", "center", "d", "default", "e", "escape", "float", "format",
    "indent", "int", "lower", "replace", "round", "safe", "string", "title", "tojson", "trim",
    "truncate", "upper", "wordcount",
  ]

  /// The value of `value | name(arguments)`.
  mutating func applyFilter(
    _ name: String, _ value: JinjaValue, _ given: JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    var arguments = given
    let result: JinjaValue
    if Self.sequenceFilters.contains(name) {
      result = try applySequenceFilter(name, value, &arguments)
    } else if Self.scalarFilters.contains(name) {
      result = try applyScalarFilter(name, value, &arguments)
    } else {
      throw .unsupported(line: line, construct: "the filter '\(name)'")
    }
    try arguments.finish()
    if case .string(let text) = result { return try checked(text) }
    return result
  }

  private mutating func applyScalarFilter(
    _ name: String, _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    switch name {
    case "default", "d":
      let fallback = arguments.next("default_value") ?? .string("")
      let replacesFalse = arguments.flag("boolean", default: false)
      return value.isUndefined || (replacesFalse && !value.isTrue) ? fallback : value
    case "attr":
      let attributeName = try arguments.string("name")
      if case .mapping = value {
        return .undefined("'mapping object' has no attribute '\(attributeName)'")
      }
      return try attribute(attributeName, of: value)
    case "abs", "int", "float", "round": return try numberFilter(name, value, &arguments)
    case "tojson": return .string(try json(value, &arguments))
    case "format":
      guard case .string(let format) = value else {
        throw .wrongKind(line: line, operation: "the filter 'format'", kind: value.kind)
      }
      let (positional, named) = arguments.rest()
      var mapping = JinjaMapping()
      for (name, value) in named { mapping[.string(name)] = value }
      return .string(
        try self.format(format, with: named.isEmpty ? .tuple(positional) : .mapping(mapping)))
    default: return .string(try textFilter(name, try text(of: value), &arguments))
    }
  }

  // MARK: Texts

  private func textFilter(
    _ name: String, _ text: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> String {
    switch name {
    case "upper": return text.uppercased()
    case "lower": return text.lowercased()
    case "capitalize": return JinjaStringMethods.capitalized(text)
    case "title": return Self.titled(text)
    case "trim": return text.strippingScalars(try arguments.optionalString("chars"))
    case "replace":
      let old = try arguments.required("old").text
      let new = try arguments.required("new").text
      let count = arguments.next("count")?.integer ?? -1
      return text.replacingScalars(old, with: new, limit: count < 0 ? .max : count)
    case "center":
      let width = min(try arguments.integer("width", default: 80), 1 << 20)
      return JinjaStringMethods.centered(text, width: width)
    case "escape", "e":
      return text.replacingScalars("&", with: "&amp;").replacingScalars("<", with: "&lt;")
        .replacingScalars(">", with: "&gt;").replacingScalars("'", with: "&#39;")
        .replacingScalars("\"", with: "&#34;")
    case "indent": return try indented(text, &arguments)
    case "truncate": return try truncated(text, &arguments)
    case "wordcount": return String(Self.wordCount(text))
    // There is no automatic escaping, so that nothing needs to be marked as safe.
    default: return text
    }
  }

  /// Words begin large, the rest is small; words are cut as by `[-\s({\[<]+`.
  private static func titled(_ text: String) -> String {
    var result = ""
    var isStart = true
    for scalar in text.unicodeScalars {
      let isCut = scalar.isPythonSpace || "-({[<".unicodeScalars.contains(scalar)
      let properties = scalar.properties
      result += isStart ? properties.uppercaseMapping : properties.lowercaseMapping
      isStart = isCut
    }
    return result
  }

  private static func wordCount(_ text: String) -> Int {
    var count = 0
    var isInWord = false
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      let isWord = properties.isAlphabetic || properties.numericType != nil || scalar == "_"
      if isWord, !isInWord { count += 1 }
      isInWord = isWord
    }
    return count
  }

  private func indented(
    _ text: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> String {
    let width = arguments.next("width") ?? .integer(4)
    let indent =
      width.string ?? String(repeating: " ", count: min(max(width.integer ?? 4, 0), 1 << 10))
    let indentsFirst = arguments.flag("first", default: false)
    let indentsBlank = arguments.flag("blank", default: false)
    let lines = JinjaStringMethods.lines(of: text + "\n")
    var result = lines.first ?? ""
    for line in lines.dropFirst() {
      result += "\n" + (line.isEmpty && !indentsBlank ? line : indent + line)
    }
    return indentsFirst ? indent + result : result
  }

  private func truncated(
    _ text: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> String {
    let length = try arguments.integer("length", default: 255)
    let cutsWords = arguments.flag("killwords", default: false)
    let end = try arguments.string("end", default: "...")
    let leeway = try arguments.integer("leeway", default: 5)
    guard length >= end.scalarCount else { throw arguments.problem("the length is too small") }
    let (limit, overflow) = length.addingReportingOverflow(leeway)
    if overflow || text.scalarCount <= limit { return text }
    var kept = String(text.unicodeScalars.prefix(length - end.scalarCount))
    if !cutsWords, let space = kept.unicodeScalars.lastIndex(of: " ") {
      kept = String(kept.unicodeScalars[..<space])
    }
    return kept + end
  }

  // MARK: Numbers

  private func numberFilter(
    _ name: String, _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    switch name {
    case "int":
      let fallback = arguments.next("default") ?? .integer(0)
      let base = try arguments.integer("base", default: 10)
      return Self.integer(value, base: base) ?? fallback
    case "float":
      let fallback = arguments.next("default") ?? .float(0)
      if let number = value.number { return .float(number.double) }
      let text = value.string?.strippingScalars(nil) ?? ""
      return Double(text).map { .float($0) } ?? fallback
    case "abs":
      switch value.number {
      case .integer(let number) where number != .min: return .integer(abs(number))
      case .float(let number): return .float(abs(number))
      default: throw .wrongKind(line: line, operation: "the filter 'abs'", kind: value.kind)
      }
    default: return try rounded(value, &arguments)
    }
  }

  /// Python's `int(value)`, by way of a float where that is what the text holds.
  private static func integer(_ value: JinjaValue, base: Int) -> JinjaValue? {
    if let number = value.number {
      if case .integer(let integer) = number { return .integer(integer) }
      return Int(exactly: number.double.rounded(.towardZero)).map { .integer($0) }
    }
    guard var text = value.string?.strippingScalars(nil) else { return nil }
    text.removeAll { $0 == "_" }
    let digits = base == 16 && text.lowercased().hasPrefix("0x") ? String(text.dropFirst(2)) : text
    if (2...36).contains(base), let integer = Int(digits, radix: base) { return .integer(integer) }
    guard let number = Double(text) else { return nil }
    return Int(exactly: number.rounded(.towardZero)).map { .integer($0) }
  }

  private func rounded(
    _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue {
    let precision = try arguments.integer("precision", default: 0)
    let method = try arguments.string("method", default: "common")
    guard let number = value.number, abs(precision) <= 300 else {
      throw .wrongKind(line: line, operation: "the filter 'round'", kind: value.kind)
    }
    let scale = pow(10.0, Double(precision))
    switch method {
    case "ceil": return .float((number.double * scale).rounded(.up) / scale)
    case "floor": return .float((number.double * scale).rounded(.down) / scale)
    case "common":
      if case .integer(let integer) = number, precision >= 0 { return .integer(integer) }
      guard precision >= 0 else {
        return .float((number.double * scale).rounded(.toNearestOrEven) / scale)
      }
      // The C library rounds the exact binary value, as Python does.
      let text = String(format: "%.\(precision)f", number.double)
      return .float(Double(text) ?? number.double)
    default: throw arguments.problem("the method must be common, ceil or floor")
    }
  }

  // MARK: JSON

  /// `json.dumps` with the options that transformers lets templates choose.
  private mutating func json(
    _ value: JinjaValue, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> String {
    var format = JSONFormat()
    format.escapesNonASCII = arguments.flag("ensure_ascii", default: false)
    switch arguments.next("indent") {
    case nil, JinjaValue.none?: break
    case let value?:
      guard let indent = value.integer, indent <= 64 else {
        throw arguments.problem("'indent' must be an integer")
      }
      format.indent = max(indent, 0)
    }
    if let separators = arguments.next("separators"), let pair = separators.elements {
      guard pair.count == 2, let item = pair[0].string, let key = pair[1].string else {
        throw arguments.problem("'separators' must be two strings")
      }
      format.itemSeparator = item
      format.keySeparator = key
    }
    format.sortsKeys = arguments.flag("sort_keys", default: false)
    try measure(value)
    guard let json = value.json else {
      throw .wrongKind(line: line, operation: "the filter 'tojson'", kind: value.kind)
    }
    return json.text(format)
  }
}
