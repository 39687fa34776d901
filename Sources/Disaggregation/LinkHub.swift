// The links of one process: a transport's events sorted into those of the control plane and those
// of the exchange, and signs of life in between.

/// When a silent peer is asked, suspected and given up.
package struct LinkTimeouts: Hashable, Sendable {
  /// Silence after which a peer is asked for a sign of life.
  package var heartbeat = Duration.milliseconds(100)
  /// Silence after which its work is given to others where possible.
  package var suspect = Duration.milliseconds(300)
  /// Silence after which its link is closed.
  package var dead = Duration.seconds(1)

  /// The usual times.
  package init() {}
}

/// What the exchange hears of its links.
package enum LinkEvent: Equatable, Sendable {
  /// A peer may be sent work from now on.
  case admitted(LinkID, PeerNode)
  /// It has not been heard for a while.
  case suspected(LinkID)
  /// It is heard again.
  case recovered(LinkID)
  /// It is gone.
  case lost(LinkID, PeerNode, LinkLoss)
  /// A message of the exchange without a large payload.
  case message(LinkID, WireHeader, payload: [UInt8])
  /// A large payload waits, since `at`: noticed while this side computed, it is told later.
  case arrived(LinkID, WireHeader, ArrivalID, at: Duration)
  /// It has landed.
  case received(LinkID, WireHeader, ArrivalID)
  /// A large payload has been sent.
  case sent(LinkID, SendToken)
  /// The control plane wants this process to leave.
  case drain
  /// A peer wants this process to hold its shard of another map as well.
  case hold(ExpertMap, LinkID)
  /// Every node holds another map.
  case adopt(ExpertMap)
}

/// An admitted link.
package struct AdmittedLink: Sendable {
  /// Its number.
  package let link: LinkID
  /// Who is there.
  package let peer: PeerNode
  /// When anything last came from there.
  package fileprivate(set) var lastHeard: Duration
  /// Whether it is suspected to be gone.
  package fileprivate(set) var isSuspected = false
  /// The latest round trip of a sign of life.
  package fileprivate(set) var roundTrip: Duration?
  /// The peer's clock minus this one's, in nanoseconds, from the fastest round trip; for drawing.
  package fileprivate(set) var clockOffset: Int64 = 0
  fileprivate var fastestRoundTrip = Duration.seconds(3600)
  fileprivate var lastPing: Duration
}

/// Owns a transport and says what the exchange needs to know.
package final class LinkHub<T: Transport> {
  /// The transport.
  package let transport: T
  /// Decides who may talk.
  package let control: any ControlPlane
  /// The admitted links, oldest first.
  package private(set) var links: [AdmittedLink] = []
  private let timeouts: LinkTimeouts
  /// Whether silence of peers is looked into: by those that wait for answers.
  private let watchesPeers: Bool
  private var lastPoll: Duration
  private var events = EventBacklog<LinkEvent>()

  /// A hub without links.
  package init(
    transport: T, control: any ControlPlane, timeouts: LinkTimeouts = LinkTimeouts(),
    watchesPeers: Bool
  ) {
    self.transport = transport
    self.control = control
    self.timeouts = timeouts
    self.watchesPeers = watchesPeers
    lastPoll = transport.now
  }

  /// The admitted link of that number.
  package func link(_ id: LinkID) -> AdmittedLink? { links.first { $0.link == id } }

  /// The name of a peer, for messages.
  package func name(of id: LinkID) -> String { link(id)?.peer.name ?? "link \(id.value)" }

  /// Moves bytes, follows the control plane and looks after silent peers.
  package func poll() {
    let now = transport.now
    allowForAbsence(now)
    transport.progress()
    perform(control.advance(to: now), now)
    while let event = transport.nextEvent() { handle(event, now) }
    if watchesPeers { watch(now) }
    lastPoll = now
  }

  /// Moves bytes and answers signs of life while the thread computes, every 50 µs at most; what
  /// comes waits for `nextEvent`.
  package func pollWhileComputing() {
    let now = transport.now
    if now - lastPoll >= .microseconds(50) { poll() }
  }

  /// The next event for the exchange.
  package func nextEvent() -> LinkEvent? { events.popFirst() }

  /// Waits for something to happen, for a deadline of the links, or for `deadline`.
  package func wait(until deadline: Duration) {
    var limit = deadline
    if let due = control.nextDeadline { limit = min(limit, due) }
    if watchesPeers && !links.isEmpty { limit = min(limit, transport.now + timeouts.heartbeat / 2) }
    transport.wait(until: limit)
  }

  /// Closes every link, saying goodbye.
  package func closeAll() {
    for link in links {
      try? transport.sendControl(header(.bye), payload: [], on: link.link)
      transport.close(link.link)
    }
  }

  /// Tells the control plane what became of a map that a peer wants held.
  package func tellHeld(_ map: ExpertMap, on link: LinkID, refusal: String?) {
    let now = transport.now
    perform(control.handle(.held(link, map, refusal: refusal), now: now), now)
  }

  /// Ends one link.
  package func close(_ link: LinkID) { transport.close(link) }

  /// Tells every peer that this process is about to leave.
  package func sendToAll(_ kind: MessageKind) {
    for link in links { try? transport.sendControl(header(kind), payload: [], on: link.link) }
  }

  /// A header from this process.
  package func header(_ kind: MessageKind) -> WireHeader {
    var header = WireHeader(kind: kind)
    header.sender = control.ownNumber
    return header
  }

  // MARK: Events

  private func handle(_ event: TransportEvent, _ now: Duration) {
    switch event {
    case .connected(let link): perform(control.handle(.connected(link), now: now), now)
    case .accepted(let link, let address):
      perform(control.handle(.accepted(link, address: address), now: now), now)
    case .control(let link, let header, let payload): message(link, header, payload, now)
    case .arrived(let link, let header, let id):
      guard heard(link, now) else {
        // Nobody sends work before it is admitted.
        transport.discard(id)
        transport.close(link)
        return
      }
      events.append(.arrived(link, header, id, at: now))
    case .received(let link, let header, let id):
      _ = heard(link, now)
      events.append(.received(link, header, id))
    case .sent(let link, let token): events.append(.sent(link, token))
    case .lost(let link, let reason):
      if let index = links.firstIndex(where: { $0.link == link }) {
        events.append(.lost(link, links.remove(at: index).peer, reason))
      }
      perform(control.handle(.lost(link, reason), now: now), now)
    }
  }

  private func message(
    _ link: LinkID, _ header: WireHeader, _ payload: [UInt8], _ now: Duration
  ) {
    guard heard(link, now) else {
      perform(control.handle(.message(link, header, payload: payload), now: now), now)
      return
    }
    switch header.kind {
    case .ping:
      var answer = self.header(.pong)
      answer.sequence = header.sequence
      answer.stamps.received = header.stamps.sent
      answer.stamps.sent = Self.stamp(now)
      try? transport.sendControl(answer, payload: [], on: link)
    case .pong: pong(link, header, now)
    case .credit, .drain, .error, .bye:
      events.append(.message(link, header, payload: payload))
    case .hello, .welcome, .confirm, .cluster, .dispatch, .combine:
      perform(control.handle(.message(link, header, payload: payload), now: now), now)
    }
  }

  private func perform(_ actions: [ControlAction], _ now: Duration) {
    for action in actions {
      switch action {
      case .connect(let address):
        do throws(TransportError) {
          control.connecting(try transport.connect(to: address), to: address)
        } catch {
          // The address was checked when the cluster file was read; a resolver's failure passes.
          let link = LinkID(0)
          control.connecting(link, to: address)
          perform(
            control.handle(.lost(link, .unreachable(reason: "\(error)")), now: now), now)
        }
      case .send(let header, let payload, let link):
        try? transport.sendControl(header, payload: payload, on: link)
      case .admit(let link, let peer):
        links.append(AdmittedLink(link: link, peer: peer, lastHeard: now, lastPing: now))
        events.append(.admitted(link, peer))
      case .close(let link): transport.close(link)
      case .drain: events.append(.drain)
      case .hold(let map, let link): events.append(.hold(map, link))
      case .adopt(let map): events.append(.adopt(map))
      }
    }
  }

  // MARK: Signs of life

  /// Marks a link as alive; false when it is not admitted.
  private func heard(_ link: LinkID, _ now: Duration) -> Bool {
    guard let index = links.firstIndex(where: { $0.link == link }) else { return false }
    links[index].lastHeard = now
    if links[index].isSuspected {
      links[index].isSuspected = false
      events.append(.recovered(link))
    }
    return true
  }

  /// Time in which this side did not listen is not the peers' silence.
  private func allowForAbsence(_ now: Duration) {
    let absence = now - lastPoll
    guard absence > timeouts.heartbeat else { return }
    for index in links.indices {
      links[index].lastHeard += absence
      links[index].lastPing += absence
    }
  }

  private func watch(_ now: Duration) {
    for index in links.indices {
      let silence = now - links[index].lastHeard
      if silence < timeouts.heartbeat { continue }
      if now - links[index].lastPing >= timeouts.heartbeat {
        links[index].lastPing = now
        var ping = header(.ping)
        ping.stamps.sent = Self.stamp(now)
        try? transport.sendControl(ping, payload: [], on: links[index].link)
      }
      if silence >= timeouts.dead {
        transport.close(links[index].link)
      } else if silence >= timeouts.suspect && !links[index].isSuspected {
        links[index].isSuspected = true
        events.append(.suspected(links[index].link))
      }
    }
  }

  private func pong(_ link: LinkID, _ header: WireHeader, _ now: Duration) {
    guard let index = links.firstIndex(where: { $0.link == link }) else { return }
    let sent = Duration.nanoseconds(Int64(clamping: header.stamps.received))
    guard sent <= now else { return }
    links[index].roundTrip = now - sent
    let stamp = Int64(clamping: header.stamps.sent)
    compareClocks(index, sent: sent, from: stamp, to: stamp, heard: now)
  }

  /// An exchange tells of clocks as a sign of life does: under load there are no others.
  func noteExchange(
    _ link: LinkID, submitted: Duration, _ stamps: WorkStamps, arrived: Duration
  ) {
    guard let index = links.firstIndex(where: { $0.link == link }) else { return }
    compareClocks(
      index, sent: submitted, from: Int64(clamping: stamps.received),
      to: Int64(clamping: stamps.sent), heard: arrived)
  }

  /// Estimates a peer's clock from a message sent and an answer heard here, and when the one came
  /// and the other went there: by the fastest of late.
  private func compareClocks(
    _ index: Int, sent: Duration, from began: Int64, to ended: Int64, heard: Duration
  ) {
    let there = max(0, ended.subtractingReportingOverflow(began).partialValue)
    let roundTrip = heard - sent - .nanoseconds(there)
    guard roundTrip >= .zero else { return }
    // Clocks drift, so no measurement is the best forever.
    links[index].fastestRoundTrip += links[index].fastestRoundTrip / 1024
    if roundTrip <= links[index].fastestRoundTrip {
      links[index].fastestRoundTrip = roundTrip
      let middle = (sent + (heard - sent) / 2).nanoseconds
      let far = (began / 2).addingReportingOverflow(ended / 2).partialValue
      links[index].clockOffset = far.subtractingReportingOverflow(middle).partialValue
    }
  }

  /// A time as messages carry it.
  package static func stamp(_ time: Duration) -> UInt64 { UInt64(max(0, time.nanoseconds)) }
}
