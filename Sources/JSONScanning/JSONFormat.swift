/// How a value is written as JSON text.
///
/// The choices are those of Python's `json.dumps`, because chat templates are trained on its
/// spacing, its escapes and its spelling of numbers.
package struct JSONFormat: Sendable, Equatable {
  /// Spaces per level, each element on its own line; nil writes one line.
  package var indent: Int?
  /// What stands between elements; nil is a comma, and a space unless a line break follows.
  package var itemSeparator: String?
  /// What stands between a key and its value.
  package var keySeparator = ": "
  /// Whether scalars beyond printable ASCII become `\u` escapes.
  package var escapesNonASCII = false
  /// Whether members are written in the order of their keys' scalars.
  package var sortsKeys = false

  /// Python's default spacing on one line, text beyond ASCII left as it is.
  package init() {}

  /// One line without any space.
  package static var compact: JSONFormat {
    var format = JSONFormat()
    format.itemSeparator = ","
    format.keySeparator = ":"
    return format
  }
}

extension JSONValue {
  /// This value as JSON text. A number that is not finite is written as Python does: `NaN`,
  /// `Infinity`, `-Infinity`.
  package func text(_ format: JSONFormat = .compact) -> String {
    var output = ""
    write(format, level: 0, to: &output)
    return output
  }

  private func write(_ format: JSONFormat, level: Int, to output: inout String) {
    switch self {
    case .null: output += "null"
    case .boolean(let value): output += value ? "true" : "false"
    case .integer(let value): output += String(value)
    case .number(let value): output += value.jsonText
    case .string(let value): value.writeJSON(escapingNonASCII: format.escapesNonASCII, to: &output)
    case .array(let elements):
      Self.writeList(elements, "[", "]", format, level: level, to: &output) { element, output in
        element.write(format, level: level + 1, to: &output)
      }
    case .object(let object):
      var members = object.members
      if format.sortsKeys {
        members.sort {
          $0.key.unicodeScalars.lexicographicallyPrecedes($1.key.unicodeScalars)
        }
      }
      Self.writeList(members, "{", "}", format, level: level, to: &output) { member, output in
        member.key.writeJSON(escapingNonASCII: format.escapesNonASCII, to: &output)
        output += format.keySeparator
        member.value.write(format, level: level + 1, to: &output)
      }
    }
  }

  private static func writeList<Element>(
    _ elements: [Element], _ open: String, _ close: String, _ format: JSONFormat, level: Int,
    to output: inout String, each write: (Element, inout String) -> Void
  ) {
    output += open
    for (index, element) in elements.enumerated() {
      if index > 0 {
        output += format.itemSeparator ?? (format.indent == nil ? ", " : ",")
      }
      format.writeLineBreak(level: level + 1, to: &output)
      write(element, &output)
    }
    if !elements.isEmpty { format.writeLineBreak(level: level, to: &output) }
    output += close
  }
}

extension JSONFormat {
  fileprivate func writeLineBreak(level: Int, to output: inout String) {
    guard let indent else { return }
    output += "\n" + String(repeating: " ", count: indent * level)
  }
}

extension Double {
  /// The shortest decimal that reads back as this value, spelled as Python spells it.
  ///
  /// Python changes to an exponent below 1e-4 and from 1e16; Swift changes at other places.
  package var jsonText: String {
    guard isFinite else { return isNaN ? "NaN" : self < 0 ? "-Infinity" : "Infinity" }
    if self == 0 { return sign == .minus ? "-0.0" : "0.0" }
    let (digits, exponent) = decimalDigits(of: magnitude.description)
    let prefix = self < 0 ? "-" : ""
    if exponent < -4 || exponent >= 16 {
      let rest = digits.dropFirst()
      let fraction = rest.isEmpty ? "" : "." + String(rest)
      let size = String(abs(exponent))
      let padded = size.utf8.count < 2 ? "0" + size : size
      return prefix + String(digits.prefix(1)) + fraction + "e" + (exponent < 0 ? "-" : "+")
        + padded
    }
    if exponent < 0 {
      return prefix + "0." + String(repeating: "0", count: -exponent - 1) + digits
    }
    let whole = digits.prefix(exponent + 1)
    let zeros = String(repeating: "0", count: exponent + 1 - whole.count)
    let fraction = digits.dropFirst(exponent + 1)
    return prefix + whole + zeros + "." + (fraction.isEmpty ? "0" : String(fraction))
  }

  /// Significant digits without outer zeros, and the power of ten of the first.
  private func decimalDigits(of text: String) -> (digits: String, exponent: Int) {
    let parts = text.split(separator: "e")
    var exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
    let mantissa = parts[0].split(separator: ".", omittingEmptySubsequences: false)
    exponent += mantissa[0].count - 1
    var digits = Substring(mantissa.joined())
    while digits.first == "0" {
      digits.removeFirst()
      exponent -= 1
    }
    while digits.count > 1, digits.last == "0" { digits.removeLast() }
    return (String(digits), exponent)
  }
}

extension String {
  /// Appends this string as a JSON string literal.
  package func writeJSON(escapingNonASCII: Bool, to output: inout String) {
    output += "\""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": output += "\\\""
      case "\\": output += "\\\\"
      case "\n": output += "\\n"
      case "\r": output += "\\r"
      case "\t": output += "\\t"
      case "\u{08}": output += "\\b"
      case "\u{0C}": output += "\\f"
      case _ where scalar.value < 0x20:
        output += Self.jsonEscape(UInt16(scalar.value))
      case _ where scalar.value >= 0x7F && escapingNonASCII:
        for unit in UTF16.encode(scalar) ?? UTF16.encodedReplacementCharacter {
          output += Self.jsonEscape(unit)
        }
      default: output.unicodeScalars.append(scalar)
      }
    }
    output += "\""
  }

  private static func jsonEscape(_ unit: UInt16) -> String {
    let digits = String(unit, radix: 16)
    return "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
  }
}
