/// A number of bytes as people write it: `8GiB`, `512MB`, `1.5G`, `4096`.
package struct ByteSize: Equatable, Sendable {
  /// The number of bytes.
  package let byteCount: Int

  /// Reads `text`; powers of 1024 for KiB, MiB, GiB, TiB and for K, M, G, T, powers of 1000 for kB,
  /// MB, GB, TB; nil when it is no size.
  package init?(_ text: String) {
    let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = text.dropFirst(digits.count).drop { $0 == " " }.lowercased()
    let factor: Double
    switch unit {
    case "", "b": factor = 1
    case "k", "kib", "ki": factor = 1024
    case "m", "mib", "mi": factor = 1_048_576
    case "g", "gib", "gi": factor = 1_073_741_824
    case "t", "tib", "ti": factor = 1_099_511_627_776
    case "kb": factor = 1e3
    case "mb": factor = 1e6
    case "gb": factor = 1e9
    case "tb": factor = 1e12
    default: return nil
    }
    if factor == 1 {
      guard let exact = Int(digits) else { return nil }
      byteCount = exact
      return
    }
    guard let value = Double(digits), value.isFinite, value * factor < 9e18 else { return nil }
    byteCount = Int((value * factor).rounded())
  }

  /// `byteCount` for people: three digits and a binary unit, as in `1.46 GiB`.
  package static func words(_ byteCount: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    var value = Double(byteCount)
    var unit = 0
    while value.magnitude >= 1000, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    if unit == 0 { return "\(byteCount) B" }
    let digits = value.magnitude < 10 ? 2 : value.magnitude < 100 ? 1 : 0
    return "\(decimal(value, digits: digits)) \(units[unit])"
  }

  /// `value` with exactly `digits` digits after the point, rounded to nearest.
  package static func decimal(_ value: Double, digits: Int) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (value.magnitude * scale).rounded()
    guard scaled < 9e15 else { return "\(value)" }
    let whole = Int(scaled / scale)
    let sign = value < 0 && scaled > 0 ? "-" : ""
    if digits == 0 { return "\(sign)\(whole)" }
    let fraction = String(Int(scaled) - whole * Int(scale))
    return "\(sign)\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
  }
}
