/// Tells public addresses from those of private, local and special networks.
///
/// Lists follow the registries of special-purpose addresses; of IPv6 only global unicast passes,
/// and addresses that carry an IPv4 one are judged by that.
package enum AddressFilter {
  /// What kind of address it is.
  package enum Kind: Sendable, Equatable {
    case publicUnicast
    case loopback
    case other
  }

  /// The kind of an address of 4 or 16 bytes in network order.
  package static func kind(of address: [UInt8]) -> Kind {
    switch address.count {
    case 4: kindOfIPv4(address)
    case 16: kindOfIPv6(address)
    default: .other
    }
  }

  static func allows(_ address: [UInt8], _ policy: AddressPolicy) -> Bool {
    switch kind(of: address) {
    case .publicUnicast: true
    case .loopback: policy == .publicAndLoopback
    case .other: false
    }
  }

  private static func kindOfIPv4(_ address: [UInt8]) -> Kind {
    if address[0] == 127 { return .loopback }
    let special: [(prefix: [UInt8], bits: Int)] = [
      ([0], 8), ([10], 8), ([100, 64], 10), ([169, 254], 16), ([172, 16], 12), ([192, 0, 0], 24),
      ([192, 0, 2], 24), ([192, 31, 196], 24), ([192, 52, 193], 24), ([192, 88, 99], 24),
      ([192, 168], 16), ([192, 175, 48], 24), ([198, 18], 15), ([198, 51, 100], 24),
      ([203, 0, 113], 24), ([224], 3),
    ]
    return special.contains { has(address, $0.prefix, $0.bits) } ? .other : .publicUnicast
  }

  private static func kindOfIPv6(_ address: [UInt8]) -> Kind {
    let zeros = [UInt8](repeating: 0, count: 10)
    if address.starts(with: zeros + [0xFF, 0xFF]) { return kindOfIPv4(Array(address[12...])) }
    if address == zeros + [0, 0, 0, 0, 0, 1] { return .loopback }
    // Translated IPv4 addresses of the well-known prefix.
    if has(address, [0x00, 0x64, 0xFF, 0x9B, 0, 0, 0, 0, 0, 0, 0, 0], 96) {
      return kindOfIPv4(Array(address[12...])) == .publicUnicast ? .publicUnicast : .other
    }
    guard has(address, [0x20], 3) else { return .other }
    let special: [(prefix: [UInt8], bits: Int)] = [
      ([0x20, 0x01, 0x00], 23), ([0x20, 0x01, 0x0D, 0xB8], 32), ([0x20, 0x02], 16),
      ([0x26, 0x20, 0x00, 0x4F, 0x80, 0x00], 48), ([0x3F, 0xFF, 0x00], 20), ([0x3F, 0xFE], 16),
    ]
    return special.contains { has(address, $0.prefix, $0.bits) } ? .other : .publicUnicast
  }

  private static func has(_ address: [UInt8], _ prefix: [UInt8], _ bits: Int) -> Bool {
    (0..<bits).allSatisfy { bit in
      let wanted = bit / 8 < prefix.count ? prefix[bit / 8] : 0
      return (address[bit / 8] ^ wanted) & (0x80 >> UInt8(bit % 8)) == 0
    }
  }
}
