/// Makes names that do not repeat.
enum Identifiers {
  /// `prefix` and 24 random hexadecimal digits.
  static func make(_ prefix: String) -> String {
    let high = UInt64.random(in: 0...UInt64.max)
    let low = UInt32.random(in: 0...UInt32.max)
    return prefix + hex(high, 16) + hex(UInt64(low), 8)
  }

  private static func hex(_ value: UInt64, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// A client's own request id, if it can be sent back as it is.
  static func isUsable(_ id: String) -> Bool {
    (1...128).contains(id.utf8.count) && id.utf8.allSatisfy { (0x21...0x7E).contains($0) }
  }
}
