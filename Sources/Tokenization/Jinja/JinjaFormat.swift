internal import Foundation
internal import JSONScanning

/// Python's two ways of putting values into a text: `%` and `str.format`.
struct JinjaFormat {
  let line: Int

  private func problem(_ text: String) -> TemplateError {
    .badArguments(line: line, function: "format", problem: text)
  }

  // MARK: Percent

  /// `format % value`: a tuple gives several values, a mapping gives them by name.
  func percent(_ format: String, _ value: JinjaValue) throws(TemplateError) -> String {
    var values: [JinjaValue] = [value]
    if case .tuple(let elements) = value { values = elements }
    var rest = format.unicodeScalars[...]
    var result = ""
    var used = 0
    while let scalar = rest.popFirst() {
      guard scalar == "%" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      if rest.first == "%" {
        rest.removeFirst()
        result += "%"
        continue
      }
      let name = try percentName(&rest)
      let specification = rest.prefix { "-+ 0123456789.#".unicodeScalars.contains($0) }
      rest = rest[specification.endIndex...]
      guard let type = rest.popFirst() else { throw problem("the format ends after '%'") }
      let argument: JinjaValue
      if let name {
        guard case .mapping(let mapping) = value, let found = mapping[name] else {
          throw problem("there is no value '\(name)'")
        }
        argument = found
      } else {
        guard used < values.count else { throw problem("not enough values for the format") }
        argument = values[used]
        used += 1
      }
      result += try percent(argument, type, String(specification))
    }
    if case .tuple = value, used < values.count { throw problem("more values than the format has") }
    return result
  }

  private func percentName(_ rest: inout Substring.UnicodeScalarView) throws(TemplateError)
    -> String?
  {
    guard rest.first == "(" else { return nil }
    guard let close = rest.firstIndex(of: ")") else { throw problem("')' is missing after '%('") }
    let name = String(rest[rest.index(after: rest.startIndex)..<close])
    rest = rest[rest.index(after: close)...]
    return name
  }

  private func percent(
    _ value: JinjaValue, _ type: Unicode.Scalar, _ specification: String
  ) throws(TemplateError) -> String {
    var flags = specification
    let isLeft = flags.contains("-")
    flags.removeAll { $0 == "-" }
    let align = isLeft ? "<" : ""
    switch type {
    case "s", "r":
      let text = type == "s" ? value.text : value.representation
      return try aligned(.string(text), (isLeft ? "<" : ">") + flags)
    case "d", "i", "u":
      guard let number = value.number else { throw problem("%d needs a number") }
      return try aligned(.integer(try truncated(number)), align + flags + "d")
    case "f", "F", "e", "g", "x", "X", "o":
      guard let number = value.number else { throw problem("%\(type) needs a number") }
      return try aligned(number.value, align + flags + String(type))
    default: throw .unsupported(line: line, construct: "the conversion %\(type)")
    }
  }

  private func truncated(_ number: JinjaNumber) throws(TemplateError) -> Int {
    guard let value = Int(exactly: number.double.rounded(.towardZero)) else {
      throw problem("the number is out of range")
    }
    if case .integer(let integer) = number { return integer }
    return value
  }

  // MARK: Braces

  /// `format.format(values, names)`.
  func braces(
    _ format: String, _ values: [JinjaValue], _ named: [(name: String, value: JinjaValue)]
  ) throws(TemplateError) -> String {
    var rest = format.unicodeScalars[...]
    var result = ""
    var next = 0
    while let scalar = rest.popFirst() {
      if scalar == "{" || scalar == "}", rest.first == scalar {
        rest.removeFirst()
        result.unicodeScalars.append(scalar)
      } else if scalar == "{" {
        guard let close = rest.firstIndex(of: "}") else { throw problem("'}' is missing") }
        let field = String(rest[..<close])
        rest = rest[rest.index(after: close)...]
        result += try replacement(field, values, named, &next)
      } else if scalar == "}" {
        throw problem("a single '}'")
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private func replacement(
    _ field: String, _ values: [JinjaValue], _ named: [(name: String, value: JinjaValue)],
    _ next: inout Int
  ) throws(TemplateError) -> String {
    let parts = field.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    let pieces = parts[0].split(separator: "!", maxSplits: 1, omittingEmptySubsequences: false)
    let name = String(pieces[0])
    guard !name.contains(where: { ".[{".contains($0) }) else {
      throw .unsupported(line: line, construct: "the format field {\(field)}")
    }
    var value: JinjaValue
    if let index = name.isEmpty ? next : Int(name) {
      guard values.indices.contains(index) else { throw problem("there is no value \(index)") }
      value = values[index]
      next += 1
    } else {
      guard let found = named.first(where: { $0.name == name }) else {
        throw problem("there is no value '\(name)'")
      }
      value = found.value
    }
    if pieces.count > 1 {
      value = .string(pieces[1] == "r" ? value.representation : value.text)
    }
    return try aligned(value, parts.count > 1 ? String(parts[1]) : "")
  }

  // MARK: Specifications

  /// Python's format specification: [[fill]align][sign][0][width][,][.precision][type].
  private func aligned(
    _ value: JinjaValue, _ specification: String
  ) throws(TemplateError) -> String {
    var rest = specification.unicodeScalars[...]
    var fill = " "
    var align: Unicode.Scalar?
    let aligns: [Unicode.Scalar] = ["<", ">", "^"]
    if let second = rest.dropFirst().first, aligns.contains(second), let first = rest.popFirst() {
      fill = String(Character(first))
      align = rest.popFirst()
    } else if let first = rest.first, aligns.contains(first) {
      align = rest.popFirst()
    }
    let signs = rest.prefix { $0 == "+" || $0 == " " || $0 == "-" }
    rest = rest[signs.endIndex...]
    let padsWithZeros = rest.first == "0"
    let width = Int(digits(&rest)) ?? 0
    var groups = false
    if rest.first == "," {
      rest.removeFirst()
      groups = true
    }
    var precision: Int?
    if rest.first == "." {
      rest.removeFirst()
      precision = Int(digits(&rest)) ?? 0
    }
    let type = rest.popFirst()
    guard rest.isEmpty, width <= 1 << 16, precision ?? 0 <= 100 else {
      throw .unsupported(line: line, construct: "the format '\(specification)'")
    }
    var body = try converted(value, type, precision, groups: groups)
    if value.number != nil, signs.contains("+"), !body.hasPrefix("-") { body = "+" + body }
    let missing = max(width - body.scalarCount, 0)
    if padsWithZeros, align == nil, value.number != nil {
      let sign = body.hasPrefix("-") || body.hasPrefix("+") ? String(body.removeFirst()) : ""
      return sign + String(repeating: "0", count: missing) + body
    }
    switch align ?? (value.number == nil ? "<" : ">") {
    case ">": return String(repeating: fill, count: missing) + body
    case "^":
      return String(repeating: fill, count: missing / 2) + body
        + String(repeating: fill, count: missing - missing / 2)
    default: return body + String(repeating: fill, count: missing)
    }
  }

  private func digits(_ rest: inout Substring.UnicodeScalarView) -> String {
    let digits = rest.prefix { ("0"..."9").contains($0) }
    rest = rest[digits.endIndex...]
    return String(digits)
  }

  private func converted(
    _ value: JinjaValue, _ type: Unicode.Scalar?, _ precision: Int?, groups: Bool
  ) throws(TemplateError) -> String {
    var text: String
    switch (type, value.number) {
    case (nil, .integer(let number)?) where value.string == nil && precision == nil,
      ("d", .integer(let number)?):
      if case .boolean(let truth) = value, type == nil { return truth ? "True" : "False" }
      text = String(number)
    case ("x", .integer(let number)?): text = String(number, radix: 16)
    case ("X", .integer(let number)?): text = String(number, radix: 16, uppercase: true)
    case ("o", .integer(let number)?): text = String(number, radix: 8)
    case ("f", let number?), ("F", let number?):
      text = String(format: "%.\(precision ?? 6)f", number.double)
    case ("e", let number?): text = String(format: "%.\(precision ?? 6)e", number.double)
    case ("g", let number?): text = String(format: "%.\(precision ?? 6)g", number.double)
    case ("%", let number?): text = String(format: "%.\(precision ?? 6)f%%", number.double * 100)
    case (nil, _), ("s", nil):
      text = value.text
      if let precision, value.number == nil {
        return String(text.unicodeScalars.prefix(precision))
      }
      guard precision == nil else {
        throw .unsupported(line: line, construct: "a precision without a type")
      }
    default:
      throw problem("type '\(type.map { String($0) } ?? "")' does not fit a \(value.kind)")
    }
    return groups ? grouped(text) : text
  }

  private func grouped(_ text: String) -> String {
    let whole = text.prefix { $0 == "-" || $0.isNumber }
    var result = ""
    for (index, character) in whole.reversed().enumerated() {
      if index > 0, index % 3 == 0, character != "-" { result.append(",") }
      result.append(character)
    }
    return String(result.reversed()) + text.dropFirst(whole.count)
  }
}

extension JinjaInterpreter {
  /// `format % value`.
  func format(_ format: String, with value: JinjaValue) throws(TemplateError) -> String {
    try JinjaFormat(line: line).percent(format, value)
  }
}
