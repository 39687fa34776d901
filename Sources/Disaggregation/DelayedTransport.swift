/// Another transport with a longer way: every message takes `delay` more, in both directions.
///
/// For measurements. Both directions are held up on this side, so the peer need not know.
package final class DelayedTransport<Base: Transport>: Transport {
  private enum Message {
    case bulk(WireHeader, RegisteredSlice, SendToken)
    case control(WireHeader, [UInt8])
  }

  /// What the system takes to wake a thread: from then on `wait` looks instead of sleeping.
  private static var wakeUpTime: Duration { .microseconds(100) }

  private let base: Base
  /// The additional time one way; to be changed while nothing is under way.
  package var delay: Duration
  /// Links that take messages.
  private var links: Set<LinkID> = []
  private var outgoing: [(due: Duration, link: LinkID, message: Message)] = []
  private var incoming: [(due: Duration, event: TransportEvent)] = []
  private var events = EventBacklog<TransportEvent>()

  /// Puts `delay` between `base` and its user.
  package init(_ base: Base, delay: Duration = .zero) {
    self.base = base
    self.delay = delay
  }

  /// The time of the transport below.
  package var now: Duration { base.now }
  /// Wakes the transport below.
  package var waker: any TransportWaker { base.waker }
  /// What carries a link below.
  package func carrier(of link: LinkID) -> String { base.carrier(of: link) }

  /// Memory of the transport below.
  package func register(byteCount: Int) throws(TransportError) -> RegisteredMemory {
    try base.register(byteCount: byteCount)
  }

  /// Accepts peers.
  package func listen(at address: String) throws(TransportError) { try base.listen(at: address) }

  /// Connects without delay.
  package func connect(to address: String) throws(TransportError) -> LinkID {
    let link = try base.connect(to: address)
    links.insert(link)
    return link
  }

  /// Ends a link without delay.
  package func close(_ link: LinkID) {
    links.remove(link)
    base.close(link)
  }

  /// Sends a payload when its time has come.
  package func send(
    _ header: WireHeader, payload: RegisteredSlice, on link: LinkID, token: SendToken
  ) throws(TransportError) {
    if delay == .zero {
      try base.send(header, payload: payload, on: link, token: token)
    } else {
      try hold(.bulk(header, payload, token), on: link)
    }
  }

  /// Sends a small message when its time has come.
  package func sendControl(
    _ header: WireHeader, payload: [UInt8], on link: LinkID
  ) throws(TransportError) {
    if delay == .zero {
      try base.sendControl(header, payload: payload, on: link)
    } else {
      try hold(.control(header, payload), on: link)
    }
  }

  private func hold(_ message: Message, on link: LinkID) throws(TransportError) {
    guard links.contains(link) else { throw .noSuchLink(link) }
    outgoing.append((now + delay, link, message))
  }

  /// Takes an arrival that was told.
  package func receive(
    _ arrival: ArrivalID, into slice: RegisteredSlice
  ) throws(TransportError) {
    try base.receive(arrival, into: slice)
  }

  /// Drops an arrival that was told.
  package func discard(_ arrival: ArrivalID) { base.discard(arrival) }

  /// Lets the transport below work, and passes on what is due.
  package func progress() {
    if !outgoing.isEmpty { sendDue() }
    base.progress()
    while let event = base.nextEvent() {
      switch event {
      case .arrived where delay > .zero, .control where delay > .zero:
        incoming.append((now + delay, event))
      case .accepted(let link, _):
        links.insert(link)
        events.append(event)
      case .lost(let link, _):
        links.remove(link)
        outgoing.removeAll { $0.link == link }
        incoming.removeAll { Self.link(of: $0.event) == link }
        events.append(event)
      default: events.append(event)
      }
    }
    while let first = incoming.first, first.due <= now {
      events.append(first.event)
      incoming.removeFirst()
    }
  }

  /// The oldest event whose time has come.
  package func nextEvent() -> TransportEvent? { events.popFirst() }

  /// Waits for an event, or until one is due.
  package func wait(until deadline: Duration) {
    progress()
    if !events.isEmpty { return }
    let due = [outgoing.first?.due, incoming.first?.due].compactMap { $0 }.min()
    guard let due, due < deadline else {
      base.wait(until: deadline)
      return
    }
    if now < due - Self.wakeUpTime {
      base.wait(until: due - Self.wakeUpTime)
    } else {
      while now < due, events.isEmpty { progress() }
    }
    progress()
  }

  private func sendDue() {
    let time = now
    while let first = outgoing.first, first.due <= time {
      outgoing.removeFirst()
      // A link that is over tells so itself.
      switch first.message {
      case .bulk(let header, let payload, let token):
        try? base.send(header, payload: payload, on: first.link, token: token)
      case .control(let header, let payload):
        try? base.sendControl(header, payload: payload, on: first.link)
      }
    }
  }

  private static func link(of event: TransportEvent) -> LinkID? {
    switch event {
    case .arrived(let link, _, _), .control(let link, _, _): link
    default: nil
    }
  }
}
