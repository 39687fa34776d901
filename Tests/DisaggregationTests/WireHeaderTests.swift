import Disaggregation
import DisaggregationTestSupport
import Testing

@Suite("Wire header")
struct WireHeaderTests {
  static func random(using generator: inout SplitMix) -> WireHeader {
    var header = WireHeader(
      kind: MessageKind.allCases[.random(in: 0..<MessageKind.allCases.count, using: &generator)])
    header.flags = MessageFlags(rawValue: .random(in: 0...31, using: &generator))
    header.membershipEpoch = .random(in: 0 ... .max, using: &generator)
    header.mapEpoch = .random(in: 0 ... .max, using: &generator)
    header.sender = .random(in: 0 ... .max, using: &generator)
    header.shard = .random(in: 0 ... .max, using: &generator)
    header.layer = .random(in: 0...4096, using: &generator)
    header.slot = .random(in: 0...4096, using: &generator)
    header.tokens = .random(in: 0...1 << 20, using: &generator)
    header.valueType =
      ExchangeType.allCases[.random(in: 0..<ExchangeType.allCases.count, using: &generator)]
    header.scaleKind =
      ScaleKind.allCases[.random(in: 0..<ScaleKind.allCases.count, using: &generator)]
    header.topK = .random(in: 0...64, using: &generator)
    header.partials = .random(in: 0...64, using: &generator)
    header.sequence = .random(in: 0 ... .max, using: &generator)
    header.step = .random(in: 0 ... .max, using: &generator)
    header.deadlineMicroseconds = .random(in: 0 ... .max, using: &generator)
    header.payloadByteCount = .random(
      in: 0...UInt32(WireHeader.controlPayloadLimit), using: &generator)
    header.payloadChecksum = .random(in: 0 ... .max, using: &generator)
    header.stamps.received = .random(in: 0 ... .max, using: &generator)
    header.stamps.started = .random(in: 0 ... .max, using: &generator)
    header.stamps.finished = .random(in: 0 ... .max, using: &generator)
    header.stamps.sent = .random(in: 0 ... .max, using: &generator)
    return header
  }

  @Test("what is encoded is decoded")
  func roundTrip() throws {
    var generator = SplitMix(seed: 1)
    for _ in 0..<500 {
      let header = Self.random(using: &generator)
      let bytes = header.encoded()
      #expect(bytes.count == WireHeader.byteCount)
      #expect(try WireHeader(decoding: bytes) == header)
    }
  }

  @Test("any changed bit is noticed")
  func bitFlips() {
    var generator = SplitMix(seed: 2)
    let bytes = Self.random(using: &generator).encoded()
    for bit in 0..<8 * bytes.count {
      var changed = bytes
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: WireError.self) { try WireHeader(decoding: changed) }
    }
  }

  @Test("random bytes, cut and with a right checksum, are refused or valid")
  func fuzz() throws {
    var generator = SplitMix(seed: 3)
    for round in 0..<5000 {
      var bytes = Self.random(using: &generator).encoded()
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[.random(in: 5..<92, using: &generator)] = .random(in: 0 ... .max, using: &generator)
      }
      let checksum = Checksum.crc32c(Array(bytes[0..<92]))
      for index in 0..<4 { bytes[92 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * index)) }
      if round % 10 == 0 { bytes.removeLast(.random(in: 1...96, using: &generator)) }
      guard let header = try? WireHeader(decoding: bytes) else { continue }
      #expect(header.encoded() == bytes)
      #expect(Int(header.layer) <= WireHeader.layerLimit)
      #expect(Int(header.payloadByteCount) <= WireHeader.bulkPayloadLimit)
    }
  }

  @Test("other versions and programs are told apart")
  func strangers() {
    var bytes = WireHeader(kind: .ping).encoded()
    bytes[4] = 9
    #expect(throws: WireError.wrongVersion(found: 9, supported: Int(WireHeader.version))) {
      try WireHeader(decoding: bytes)
    }
    let http = Array("GET / HTTP/1.1\r\n".utf8) + Array(repeating: 0, count: 80)
    #expect(throws: WireError.wrongMagic(0x2054_4547)) {
      try WireHeader(decoding: http)
    }
  }

  @Test("the checksum is CRC32C")
  func checksum() {
    // RFC 3720, appendix B.4.
    #expect(Checksum.crc32c(Array("123456789".utf8)) == 0xE306_9283)
    #expect(Checksum.crc32c([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(Checksum.crc32c([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    #expect(Checksum.crc32c((0..<32).map { UInt8($0) }) == 0x46DD_794E)
  }
}
