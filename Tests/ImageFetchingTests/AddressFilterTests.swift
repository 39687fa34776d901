import ImageFetching
import Testing

@Suite("The address filter")
struct AddressFilterTests {
  static func ipv4(_ text: String) -> [UInt8] {
    text.split(separator: ".").compactMap { UInt8($0) }
  }

  static func ipv6(_ words: [UInt16]) -> [UInt8] {
    words.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
  }

  @Test("lets public addresses pass")
  func passesPublic() {
    for text in ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.128.0.1"] {
      #expect(AddressFilter.kind(of: Self.ipv4(text)) == .publicUnicast, "\(text)")
    }
    let google = Self.ipv6([0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888])
    #expect(AddressFilter.kind(of: google) == .publicUnicast)
    let mapped = Self.ipv6([0, 0, 0, 0, 0, 0xFFFF, 0x0808, 0x0808])
    #expect(AddressFilter.kind(of: mapped) == .publicUnicast)
  }

  @Test("stops private, link-local, shared, multicast and reserved ones")
  func stopsOthers() {
    for text in [
      "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
      "100.127.255.255", "0.0.0.0", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.19.255.1",
      "224.0.0.1", "240.0.0.1", "255.255.255.255",
    ] {
      #expect(AddressFilter.kind(of: Self.ipv4(text)) == .other, "\(text)")
    }
    for words: [UInt16] in [
      [0, 0, 0, 0, 0, 0, 0, 0], [0xFE80, 0, 0, 0, 0, 0, 0, 1], [0xFC00, 0, 0, 0, 0, 0, 0, 1],
      [0xFD12, 0, 0, 0, 0, 0, 0, 1], [0xFF02, 0, 0, 0, 0, 0, 0, 1],
      [0x2001, 0xDB8, 0, 0, 0, 0, 0, 1], [0x2002, 0x7F00, 1, 0, 0, 0, 0, 0],
      [0x2001, 0, 0, 0, 0, 0, 0, 1], [0x64, 0xFF9B, 0, 0, 0, 0, 0x0A00, 1],
      [0, 0, 0, 0, 0, 0xFFFF, 0xA9FE, 0xA9FE], [0, 0, 0, 0, 0, 0, 0x0808, 0x0808],
    ] {
      #expect(AddressFilter.kind(of: Self.ipv6(words)) == .other, "\(words)")
    }
  }

  @Test("knows loopback in every form")
  func knowsLoopback() {
    #expect(AddressFilter.kind(of: Self.ipv4("127.0.0.1")) == .loopback)
    #expect(AddressFilter.kind(of: Self.ipv4("127.255.0.3")) == .loopback)
    #expect(AddressFilter.kind(of: Self.ipv6([0, 0, 0, 0, 0, 0, 0, 1])) == .loopback)
    #expect(AddressFilter.kind(of: Self.ipv6([0, 0, 0, 0, 0, 0xFFFF, 0x7F00, 1])) == .loopback)
    #expect(AddressFilter.kind(of: []) == .other)
  }
}
