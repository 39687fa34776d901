#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

extension NumberStyle {
  /// A cell as people read it.
  func shown(_ cell: ReportCell) -> String {
    switch cell {
    case .text(let text): text
    case .missing: "–"
    case .number(let number): shown(number)
    }
  }

  /// A number as people read it.
  package func shown(_ number: Double) -> String {
    guard number.isFinite else { return "–" }
    switch self {
    case .text, .significant: return significantText(number, digits: significantDigits)
    case .integer: return grouped(fixedText(number, decimals: 0))
    case .fixed(let decimals): return grouped(fixedText(number, decimals: decimals))
    case .scientific(let digits): return scientificText(number, digits: digits)
    case .percent(let decimals): return fixedText(number * 100, decimals: decimals) + " %"
    }
  }

  private var significantDigits: Int {
    if case .significant(let digits) = self { return digits }
    return 4
  }
}

/// `number` with `decimals` digits after the point, halves away from zero.
package func fixedText(_ number: Double, decimals: Int) -> String {
  let scale = pow(10, Double(decimals))
  let scaled = (abs(number) * scale).rounded()
  guard scaled < 1e18 else { return scientificText(number, digits: 4) }
  var digits = String(Int64(scaled))
  if decimals > 0 {
    while digits.count <= decimals { digits = "0" + digits }
    digits.insert(".", at: digits.index(digits.endIndex, offsetBy: -decimals))
  }
  return (number < 0 && scaled > 0 ? "-" : "") + digits
}

/// `number` as in 2.88e8, with `digits` digits before the exponent.
func scientificText(_ number: Double, digits: Int) -> String {
  guard number != 0 else { return "0" }
  var exponent = Int(log10(abs(number)).rounded(.down))
  var mantissa = fixedText(number / pow(10, Double(exponent)), decimals: digits - 1)
  if mantissa.hasPrefix("10") || mantissa.hasPrefix("-10") {
    exponent += 1
    mantissa = fixedText(number / pow(10, Double(exponent)), decimals: digits - 1)
  }
  return mantissa + "e\(exponent)"
}

/// `number` with `digits` significant digits.
func significantText(_ number: Double, digits: Int) -> String {
  guard number != 0 else { return "0" }
  let exponent = Int(log10(abs(number)).rounded(.down))
  if exponent < -5 || exponent > 9 { return scientificText(number, digits: digits) }
  return grouped(fixedText(number, decimals: max(0, digits - 1 - exponent)))
}

/// Thousands apart, as in 131,072.
private func grouped(_ text: String) -> String {
  let sign = text.hasPrefix("-") ? "-" : ""
  let body = text.dropFirst(sign.count)
  let whole = body.prefix { $0 != "." }
  guard whole.count > 4 else { return text }
  var groups: [Substring] = []
  var rest = whole
  while rest.count > 3 {
    groups.insert(rest.suffix(3), at: 0)
    rest = rest.dropLast(3)
  }
  groups.insert(rest, at: 0)
  return sign + groups.joined(separator: ",") + body.dropFirst(whole.count)
}
