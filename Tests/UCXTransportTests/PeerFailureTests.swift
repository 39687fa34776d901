import Disaggregation
import Foundation
import Tensors
import TestSupport
import Testing
import UCXTransport

@Suite("Peers that die, hang and come back", .serialized)
struct PeerFailureTests {
  @Test("payloads up to 16 MB go to another process and back", arguments: [false, true])
  func sizes(isNetwork: Bool) throws {
    let peer = try PeerProcess(isNetwork: isNetwork)
    let end = try TestEnd(isNetwork: isNetwork)
    let link = try #require(try end.join(peer.address))
    let memory = try end.transport.register(byteCount: 16 << 20)
    for (index, size) in [0, 1, 4095, 100_000, 1 << 20, 16 << 20].enumerated() {
      let slice = memory[0..<size]
      slice.withMutableBytes { bytes in
        for place in stride(from: 0, to: bytes.byteCount, by: 997) {
          bytes.storeBytes(
            of: UInt8(truncatingIfNeeded: place + index), toByteOffset: place, as: UInt8.self)
        }
      }
      let before = memory.region.bytes(0..<size)
      #expect(try end.exchange(slice, on: link, token: UInt64(index + 1)))
      #expect(memory.region.bytes(0..<size) == before, "\(size) bytes")
    }
    let carrier = end.transport.carrier(of: link)
    #expect(isNetwork ? carrier == "tcp lo" : carrier == "shm+cma", "\(carrier)")
  }

  @Test("a killed peer is a loss, and its successor is reached", arguments: [false, true])
  func killed(isNetwork: Bool) throws {
    let port = FreePort.next()
    let end = try TestEnd(isNetwork: isNetwork)
    let memory = try end.transport.register(byteCount: 1 << 20)
    for round in 0..<3 {
      let peer = try PeerProcess(isNetwork: isNetwork, port: port)
      let link = try #require(try end.join(peer.address))
      #expect(try end.exchange(memory[0..<1 << 20], on: link, token: UInt64(round + 1)))
      if round == 1 {
        // With a payload on its way.
        var header = WireHeader(kind: .dispatch)
        header.payloadByteCount = 1 << 20
        try end.transport.send(
          header, payload: memory[0..<1 << 20], on: link, token: SendToken(99))
      }
      peer.killAndReap()
      let reason = try #require(end.loss(of: link))
      guard case .broken = reason else {
        Issue.record("lost as \(reason)")
        continue
      }
      #expect(throws: TransportError.noSuchLink(link)) {
        try end.transport.sendControl(WireHeader(kind: .ping), payload: [], on: link)
      }
    }
  }

  @Test("a peer killed halfway through a message silences nobody else")
  func killedWhileSending() throws {
    let dying = try PeerProcess(isNetwork: false)
    let other = try PeerProcess(isNetwork: false)
    let end = try TestEnd(isNetwork: false)
    let memory = try end.transport.register(byteCount: 4096)
    let lost = try #require(try end.join(dying.address))
    let kept = try #require(try end.join(other.address))
    #expect(try end.exchange(memory[0..<4096], on: lost, token: 1))
    #expect(try end.exchange(memory[0..<4096], on: kept, token: 2))
    var header = WireHeader(kind: .dispatch)
    header.step = .max
    header.payloadByteCount = 4096
    try end.transport.send(header, payload: memory[0..<4096], on: lost, token: SendToken(3))
    guard case .broken? = end.loss(of: lost) else {
      Issue.record("the peer lives")
      return
    }
    #expect(try end.exchange(memory[0..<4096], on: kept, token: 4))
    let again = try #require(try end.join(other.address))
    #expect(try end.exchange(memory[0..<4096], on: again, token: 5))
  }

  @Test("a stopped peer is no loss by itself, and closing its link does not hang")
  func stopped() throws {
    let peer = try PeerProcess(isNetwork: true)
    let end = try TestEnd(isNetwork: true)
    let memory = try end.transport.register(byteCount: 4 << 20)
    let link = try #require(try end.join(peer.address))
    peer.send(SIGSTOP)
    var header = WireHeader(kind: .dispatch)
    header.payloadByteCount = 4 << 20
    try end.transport.send(header, payload: memory[0..<4 << 20], on: link, token: SendToken(1))
    #expect(end.loss(of: link, within: .milliseconds(300)) == nil)
    end.transport.close(link)
    #expect(end.loss(of: link) == .closed)
    peer.send(SIGCONT)
    let again = try #require(try end.join(peer.address))
    #expect(try end.exchange(memory[0..<4 << 20], on: again, token: 2))
  }

  @Test("bytes that are no protocol disturb nobody")
  func noise() throws {
    let peer = try PeerProcess(isNetwork: true)
    let end = try TestEnd(isNetwork: true)
    let memory = try end.transport.register(byteCount: 1 << 16)
    let link = try #require(try end.join(peer.address))
    let port = try #require(Int(peer.address.split(separator: ":")[1]))
    for seed in 0..<20 {
      try RawSocket(port: port).send((0..<(1 << (seed % 12))).map { UInt8(($0 * 31 + seed) & 255) })
      #expect(try end.exchange(memory[0..<1 << 16], on: link, token: UInt64(seed + 1)))
    }
    let second = try #require(try end.join(peer.address))
    #expect(try end.exchange(memory[0..<1 << 16], on: second, token: 100))
  }

  @Test(
    "messages with ids that nobody knows end their own link alone", arguments: [false, true])
  func strays(isNetwork: Bool) throws {
    let peer = try PeerProcess(isNetwork: isNetwork)
    let end = try TestEnd(isNetwork: isNetwork)
    let memory = try end.transport.register(byteCount: 1 << 16)
    let link = try #require(try end.join(peer.address))
    for id: UInt16 in [0, 5, 31, 32, 1000, 23_969, 65_534, 65_535] {
      let stranger = try #require(try end.join(peer.address))
      try end.transport.sendStray(id, on: stranger)
      #expect(end.loss(of: stranger) != nil, "id \(id)")
      #expect(try end.exchange(memory[0..<1 << 16], on: link, token: UInt64(id) + 1))
    }
  }

  @Test("transports leave no descriptors behind")
  func descriptors() throws {
    func count() throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
    }
    func round() throws {
      let peer = try PeerProcess(isNetwork: false)
      let end = try TestEnd(isNetwork: false)
      for _ in 0..<5 {
        let link = try #require(try end.join(peer.address))
        end.transport.close(link)
        _ = end.loss(of: link)
      }
    }
    try round()
    let before = try count()
    for _ in 0..<3 { try round() }
    #expect(try count() <= before + 1)
  }
}
