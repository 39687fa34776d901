package import Disaggregation
import Tensors

/// What every transport must do, as checks that a test runs over its own pair of transports.
///
/// Both ends belong to the calling thread, which lets them work in turn.
package final class TransportConformance {
  /// Why a check failed.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }

  /// The checks by name.
  package static let checks:
    [(claim: String, run: @Sendable (TransportConformance) throws -> Void)] = [
      ("both ends are told of a connection", { _ = try $0.join() }),
      ("a small message arrives whole", { try $0.smallMessages() }),
      ("a payload lands in the slot that was named, its neighbours untouched", { try $0.bulk() }),
      ("payloads of every size arrive, in both directions at once", { try $0.sizes() }),
      ("an arrival may be dropped and its sender gets the memory back", { try $0.drop() }),
      ("closing tells the peer, and ends what was under way", { try $0.close() }),
      ("an address can be taken once", { try $0.addressIsTaken() }),
      ("nobody at the address is a loss, not a wait", { try $0.unreachable() }),
      ("wait returns at its deadline, and early for a message", { try $0.waiting() }),
      ("links are independent of each other", { try $0.twoLinks() }),
      ("a hundred connections leave nothing behind", { try $0.reconnects() }),
    ]

  private let caller: any Transport
  private let listener: any Transport
  private let address: String
  private let deadAddress: String
  private var callerEvents: [TransportEvent] = []
  private var listenerEvents: [TransportEvent] = []

  /// Two transports that can reach each other; nobody listens at `deadAddress`.
  package init(
    caller: any Transport, listener: any Transport, address: String, deadAddress: String
  ) throws {
    self.caller = caller
    self.listener = listener
    self.address = address
    self.deadAddress = deadAddress
    try listener.listen(at: address)
  }

  // MARK: Tools

  private func turn() {
    for end in [0, 1] {
      let transport = end == 0 ? caller : listener
      transport.progress()
      while let event = transport.nextEvent() {
        if end == 0 { callerEvents.append(event) } else { listenerEvents.append(event) }
      }
    }
  }

  /// Takes the first event that `match` likes, letting both ends work for up to ten seconds.
  @discardableResult
  private func take<R>(
    _ atCaller: Bool, _ what: String, _ match: (TransportEvent) -> R?
  ) throws -> R {
    let limit = caller.now + .seconds(10)
    while caller.now < limit {
      let events = atCaller ? callerEvents : listenerEvents
      for (index, event) in events.enumerated() {
        guard let result = match(event) else { continue }
        if atCaller { callerEvents.remove(at: index) } else { listenerEvents.remove(at: index) }
        return result
      }
      let known = callerEvents.count + listenerEvents.count
      turn()
      // A simulated network's time passes only while somebody waits.
      if callerEvents.count + listenerEvents.count == known {
        caller.wait(until: caller.now + .microseconds(100))
      }
    }
    throw Failure(
      description: "no \(what); caller \(callerEvents), listener \(listenerEvents)")
  }

  private func expect(_ condition: Bool, _ what: @autoclosure () -> String) throws {
    if !condition { throw Failure(description: what()) }
  }

  private func join() throws -> (out: LinkID, back: LinkID) {
    let out = try caller.connect(to: address)
    try take(true, "connected") { $0 == .connected(out) ? true : nil }
    let back = try take(false, "accepted") { event -> LinkID? in
      if case .accepted(let link, _) = event { link } else { nil }
    }
    return (out, back)
  }

  private func header(_ kind: MessageKind, _ byteCount: Int, layer: UInt16 = 0) -> WireHeader {
    var header = WireHeader(kind: kind)
    header.layer = layer
    header.sequence = 0x0102_0304_0506_0708
    header.payloadByteCount = UInt32(byteCount)
    return header
  }

  private func fill(_ slice: RegisteredSlice, seed: Int) {
    slice.withMutableBytes { bytes in
      for index in 0..<bytes.byteCount {
        bytes.storeBytes(
          of: Self.byte(index, seed), toByteOffset: index, as: UInt8.self)
      }
    }
  }

  private static func byte(_ index: Int, _ seed: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8 &+ seed)
  }

  private func holds(_ slice: RegisteredSlice, seed: Int) -> Bool {
    slice.withBytes { bytes in
      (0..<bytes.byteCount).allSatisfy { bytes.integer(at: $0) == Self.byte($0, seed) }
    }
  }

  private func arrival(
    atCaller: Bool = false, layer: UInt16 = 0
  ) throws -> (WireHeader, ArrivalID, LinkID) {
    try take(atCaller, "arrival") { event in
      if case .arrived(let link, let header, let id) = event, header.layer == layer {
        (header, id, link)
      } else {
        nil
      }
    }
  }

  private func received(_ id: ArrivalID, atCaller: Bool = false) throws {
    try take(atCaller, "received") { event -> Bool? in
      if case .received(_, _, let found) = event, found == id { true } else { nil }
    }
  }

  // MARK: Checks

  private func smallMessages() throws {
    let (out, back) = try join()
    for count in [0, 1, 1000, WireHeader.controlPayloadLimit] {
      let payload = (0..<count).map { Self.byte($0, count) }
      let sent = header(.hello, count)
      try caller.sendControl(sent, payload: payload, on: out)
      let message = try take(false, "control") { event -> (LinkID, WireHeader, [UInt8])? in
        if case .control(let link, let header, let payload) = event {
          (link, header, payload)
        } else {
          nil
        }
      }
      try expect(message.0 == back && message.1 == sent, "another link or header")
      try expect(message.2 == payload, "another payload of \(message.2.count) bytes")
    }
  }

  private func bulk() throws {
    let (out, back) = try join()
    let source = try caller.register(byteCount: 8192)
    let target = try listener.register(byteCount: 12_000)
    fill(source[0..<8192], seed: 7)
    let sent = header(.dispatch, 5000)
    try caller.send(sent, payload: source[100..<5100], on: out, token: SendToken(9))
    let (found, id, link) = try arrival()
    try expect(found == sent && link == back, "another header or link")
    try listener.receive(id, into: target[1000..<6000])
    try received(id)
    try take(true, "sent") { $0 == .sent(out, SendToken(9)) ? true : nil }
    let bytes = target.region.bytes(0..<12_000)
    try expect(bytes[0..<1000].allSatisfy { $0 == 0 }, "bytes before the slot changed")
    try expect(bytes[6000...].allSatisfy { $0 == 0 }, "bytes behind the slot changed")
    try expect(
      Array(bytes[1000..<6000]) == source.region.bytes(100..<5100), "other bytes in the slot")
  }

  private func sizes() throws {
    let (out, back) = try join()
    let sizes = [1, 64, 4096, 8191, 65_536, 1 << 20]
    let largest = 1 << 20
    let there = try caller.register(byteCount: 2 * largest)
    let here = try listener.register(byteCount: 2 * largest)
    for (index, size) in sizes.enumerated() {
      fill(there[0..<size], seed: index)
      fill(here[0..<size], seed: index + 100)
      let token = SendToken(UInt64(index))
      try caller.send(header(.dispatch, size), payload: there[0..<size], on: out, token: token)
      try listener.send(header(.combine, size), payload: here[0..<size], on: back, token: token)
      let (_, first, _) = try arrival()
      try listener.receive(first, into: here[largest..<largest + size])
      let (_, second, _) = try arrival(atCaller: true)
      try caller.receive(second, into: there[largest..<largest + size])
      try received(first)
      try received(second, atCaller: true)
      try take(true, "sent") { $0 == .sent(out, token) ? true : nil }
      try take(false, "sent") { $0 == .sent(back, token) ? true : nil }
      try expect(holds(here[largest..<largest + size], seed: index), "\(size) bytes out differ")
      try expect(
        holds(there[largest..<largest + size], seed: index + 100), "\(size) bytes back differ")
    }
  }

  private func drop() throws {
    let (out, _) = try join()
    for (index, size) in [64, 1 << 18].enumerated() {
      let source = try caller.register(byteCount: size)
      let token = SendToken(UInt64(index))
      try caller.send(header(.dispatch, size), payload: source[0..<size], on: out, token: token)
      let (_, id, _) = try arrival()
      listener.discard(id)
      try take(true, "sent") { $0 == .sent(out, token) ? true : nil }
    }
  }

  private func close() throws {
    let (out, back) = try join()
    let source = try caller.register(byteCount: 1 << 20)
    try caller.send(
      header(.dispatch, 1 << 20), payload: source[0..<1 << 20], on: out, token: SendToken(1))
    _ = try arrival()
    listener.close(back)
    try take(false, "loss") { $0 == .lost(back, .closed) ? true : nil }
    try take(true, "loss") { event -> Bool? in
      if case .lost(out, _) = event { true } else { nil }
    }
    do {
      try caller.sendControl(header(.ping, 0), payload: [], on: out)
      throw Failure(description: "a closed link takes messages")
    } catch let error as TransportError {
      try expect(error == .noSuchLink(out), "\(error)")
    }
  }

  private func addressIsTaken() throws {
    do {
      try caller.listen(at: address)
      throw Failure(description: "two listen at one address")
    } catch let error as TransportError {
      guard case .cannotListen(let found, _) = error, found.hasSuffix(address) else {
        throw Failure(description: "\(error)")
      }
    }
    _ = try join()
  }

  private func unreachable() throws {
    let link = try caller.connect(to: deadAddress)
    try take(true, "loss") { event -> Bool? in
      if case .lost(link, _) = event { true } else { nil }
    }
  }

  private func waiting() throws {
    let (out, _) = try join()
    turn()
    listenerEvents = []
    let began = listener.now
    var turns = 0
    while listener.now - began < .milliseconds(20) {
      listener.wait(until: began + .milliseconds(20))
      listener.progress()
      turns += 1
    }
    try expect(turns < 1000, "wait did not wait: \(turns) turns")
    try caller.sendControl(header(.ping, 0), payload: [], on: out)
    try take(false, "ping") { event -> Bool? in
      if case .control = event { true } else { nil }
    }
    listener.waker.wake()
    let before = listener.now
    listener.wait(until: before + .seconds(30))
    try expect(listener.now - before < .seconds(10), "the waker did not wake")
  }

  private func twoLinks() throws {
    let first = try join()
    let second = try join()
    try expect(first.out != second.out && first.back != second.back, "one number twice")
    listener.close(first.back)
    try take(true, "loss") { event -> Bool? in
      if case .lost(first.out, _) = event { true } else { nil }
    }
    try caller.sendControl(header(.ping, 0), payload: [], on: second.out)
    let link = try take(false, "ping") { event -> LinkID? in
      if case .control(let link, _, _) = event { link } else { nil }
    }
    try expect(link == second.back, "came by \(link)")
  }

  private func reconnects() throws {
    for _ in 0..<100 {
      let (out, back) = try join()
      caller.close(out)
      try take(true, "loss") { $0 == .lost(out, .closed) ? true : nil }
      try take(false, "loss") { event -> Bool? in
        if case .lost(back, _) = event { true } else { nil }
      }
    }
  }
}
