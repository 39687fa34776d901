package import Disaggregation

/// What a look at one link found.
package struct LinkReport: Sendable, Equatable {
  /// What carries it; empty when there is no link.
  package var carrier = ""
  /// Half of the shortest round trip of a small message.
  package var latency: Duration?
  /// Bytes per second and direction, with 64 KiB messages.
  package var bytesPerSecond: Double?
  /// Why it cannot be used; nil when it can.
  package var fault: String?

  /// Nothing found yet.
  package init() {}
}

/// Looks at the link to one ffn node: connects as a member of the cluster would, measures, leaves.
///
/// The peer answers a probe like a member but gives it no part in the exchange, so that a cluster
/// can be looked at while it serves.
package final class LinkProbe<T: Transport> {
  private let transport: T
  private let file: ClusterFile
  private let identity: PeerIdentity

  /// A probe that speaks for `identity`, an attention node of the file.
  package init(_ transport: T, _ file: ClusterFile, identity: PeerIdentity) {
    self.transport = transport
    self.file = file
    var probe = identity
    probe.isProbe = true
    self.identity = probe
  }

  /// Looks at the link to `node`.
  package func look(at node: ClusterNode) -> LinkReport {
    var report = LinkReport()
    let link: LinkID
    do throws(TransportError) { link = try transport.connect(to: node.address) } catch {
      report.fault = "\(error)"
      return report
    }
    defer {
      transport.close(link)
      drain(link)
    }
    do throws(LinkProbeFault) {
      try greet(link, node)
      report.carrier = transport.carrier(of: link)
      var shortest = Duration.seconds(60)
      for _ in 0..<200 { shortest = min(shortest, try roundTrip(link, byteCount: 64)) }
      report.latency = shortest / 2
      let began = transport.now
      // Some messages are always on their way, so that the pause between them does not count.
      let (count, depth) = (128, 8)
      let block = [UInt8](repeating: 0x5A, count: WireHeader.controlPayloadLimit)
      for index in 0..<count {
        try send(block, .cluster, link)
        if index >= depth { _ = try message(link) }
      }
      for _ in 0..<depth { _ = try message(link) }
      let seconds = (transport.now - began) / .seconds(1)
      report.bytesPerSecond = Double(count * block.count) / seconds
    } catch { report.fault = error.description }
    return report
  }

  /// The next event that `match` likes.
  private func next<R>(
    _ link: LinkID, _ match: (TransportEvent) -> R?
  ) throws(LinkProbeFault) -> R {
    let limit = transport.now + file.timeouts.handshake
    while true {
      while let event = transport.nextEvent() {
        if case .lost(link, let reason) = event { throw .lost(reason) }
        if let result = match(event) { return result }
      }
      if transport.now >= limit { throw .silent(limit: file.timeouts.handshake) }
      transport.wait(until: limit)
    }
  }

  private func drain(_ link: LinkID) {
    let limit = transport.now + .seconds(1)
    while transport.now < limit {
      while let event = transport.nextEvent() {
        if case .lost(link, _) = event { return }
      }
      transport.wait(until: limit)
    }
  }

  private func greet(_ link: LinkID, _ node: ClusterNode) throws(LinkProbeFault) {
    _ = try next(link) { $0 == .connected(link) ? true : nil } as Bool
    var handshake = Handshake(own: identity, key: file.key) {
      $0.id == node.id && $0.role == node.role
    }
    try send(handshake.begin(), .hello, link)
    while true {
      let payload = try message(link)
      switch handshake.receive(payload) {
      case .send(let bytes): try send(bytes, .welcome, link)
      case .refused(let reason, let bytes):
        if let bytes { try send(bytes, .welcome, link) }
        throw .refused(reason)
      case .accepted(_, let bytes):
        if let bytes { try send(bytes, .confirm, link) }
        return
      }
    }
  }

  private func message(_ link: LinkID) throws(LinkProbeFault) -> [UInt8] {
    try next(link) { event in
      if case .control(link, _, let payload) = event { payload } else { nil }
    }
  }

  private func roundTrip(_ link: LinkID, byteCount: Int) throws(LinkProbeFault) -> Duration {
    let began = transport.now
    try send([UInt8](repeating: 0x5A, count: byteCount), .cluster, link)
    _ = try message(link)
    return transport.now - began
  }

  private func send(
    _ bytes: [UInt8], _ kind: MessageKind, _ link: LinkID
  ) throws(LinkProbeFault) {
    var header = WireHeader(kind: kind)
    header.payloadByteCount = UInt32(bytes.count)
    do throws(TransportError) {
      try transport.sendControl(header, payload: bytes, on: link)
    } catch { throw .lost(.broken(reason: "\(error)")) }
  }
}

/// Why a link cannot be used.
private enum LinkProbeFault: Error, CustomStringConvertible {
  case lost(LinkLoss)
  case refused(HandshakeRefusal)
  case silent(limit: Duration)

  var description: String {
    switch self {
    case .lost(let reason): "\(reason)"
    case .refused(let reason): "\(reason)"
    case .silent(let limit): "no answer within \(limit)"
    }
  }
}
