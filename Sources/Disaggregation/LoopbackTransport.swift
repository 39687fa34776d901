import Dispatch
import Synchronization
import Tensors

/// A network inside this process: transports of different threads that reach each other by name.
///
/// For running both halves in one process, and for tests: links can be cut, frozen and thawed.
package final class LoopbackNetwork: Sendable {
  private struct State {
    var listeners: [String: LoopbackMailbox] = [:]
    var wires: [LoopbackWire] = []
  }

  private let state = Mutex(State())

  /// A network without anybody.
  package init() {}

  /// A transport on this network, for one thread.
  package func makeTransport() -> LoopbackTransport { LoopbackTransport(network: self) }

  /// Breaks every wire whose listener is `address`, as when that process is killed.
  package func cut(_ address: String) {
    for wire in wires(of: address) { wire.cut(reason: "cut") }
  }

  /// Holds back everything on the wires of `address`, as when that process or the network hangs.
  package func freeze(_ address: String) {
    for wire in wires(of: address) { wire.setFrozen(true) }
  }

  /// Lets what was held back through.
  package func thaw(_ address: String) {
    for wire in wires(of: address) { wire.setFrozen(false) }
  }

  private func wires(of address: String) -> [LoopbackWire] {
    state.withLock { state in state.wires.filter { $0.address == address } }
  }

  fileprivate func listen(_ mailbox: LoopbackMailbox, at address: String) -> Bool {
    state.withLock { state in
      if state.listeners[address] != nil { return false }
      state.listeners[address] = mailbox
      return true
    }
  }

  fileprivate func withdraw(_ mailbox: LoopbackMailbox) {
    state.withLock { state in
      for address in state.listeners.keys.sorted() where state.listeners[address] === mailbox {
        state.listeners[address] = nil
      }
    }
  }

  /// Joins a caller to the listener at `address`, if there is one.
  fileprivate func join(_ caller: LoopbackMailbox, _ address: String) -> LoopbackWire? {
    state.withLock { state in
      guard let listener = state.listeners[address] else { return nil }
      let wire = LoopbackWire(caller: caller, listener: listener, address: address)
      state.wires.removeAll { $0.isCut }
      state.wires.append(wire)
      return wire
    }
  }
}

/// What comes to a mailbox.
private enum LoopbackLetter: Sendable {
  case accepted
  case control(WireHeader, [UInt8])
  case bulk(WireHeader, RegisteredSlice, SendToken)
  case taken(SendToken)
  case cut(LinkLoss)
}

/// The letters to one transport, with the wire they came by.
private final class LoopbackMailbox: Sendable {
  typealias Entry = (wire: LoopbackWire, letter: LoopbackLetter)
  private let letters = Mutex<[Entry]>([])
  let bell = LoopbackBell()

  func post(_ wire: LoopbackWire, _ letter: LoopbackLetter) {
    letters.withLock { $0.append((wire, letter)) }
    bell.wake()
  }

  /// The letters that have come.
  func take() -> [Entry] {
    letters.withLock { letters in
      defer { letters = [] }
      return letters
    }
  }
}

/// Wakes the thread of a loopback transport.
private final class LoopbackBell: TransportWaker {
  private let semaphore = DispatchSemaphore(value: 0)
  private let rung = Atomic<Bool>(false)

  func wake() {
    if !rung.exchange(true, ordering: .acquiringAndReleasing) { semaphore.signal() }
  }

  /// Waits until somebody rings; false when the time is over.
  func wait(_ seconds: Duration) {
    let limit = DispatchTime.now() + .nanoseconds(Int(clamping: seconds.nanoseconds))
    if semaphore.wait(timeout: limit) == .success {
      rung.store(false, ordering: .sequentiallyConsistent)
    }
  }

  /// Whether somebody has rung since the last wait.
  var isRung: Bool { rung.load(ordering: .acquiring) }
}

/// The two directions between a caller and a listener.
private final class LoopbackWire: Sendable {
  private struct State {
    var isCut = false
    var isFrozen = false
    var held: [(toListener: Bool, letter: LoopbackLetter)] = []
  }

  let address: String
  private let caller: LoopbackMailbox
  private let listener: LoopbackMailbox
  private let state = Mutex(State())

  init(caller: LoopbackMailbox, listener: LoopbackMailbox, address: String) {
    self.caller = caller
    self.listener = listener
    self.address = address
  }

  var isCut: Bool { state.withLock { $0.isCut } }

  /// Sends a letter from one end to the other; after a cut it is lost.
  func post(_ letter: LoopbackLetter, from mailbox: LoopbackMailbox) {
    let toListener = mailbox === caller
    state.withLock { state in
      if state.isCut { return }
      if state.isFrozen {
        state.held.append((toListener, letter))
      } else {
        (toListener ? listener : caller).post(self, letter)
      }
    }
  }

  /// Runs `body` unless the wire is cut: until it ends, neither side is told of a cut, so the
  /// sender does not take its memory back.
  func whileJoined(_ body: () -> Void) -> Bool {
    state.withLock { state in
      if !state.isCut { body() }
      return !state.isCut
    }
  }

  func setFrozen(_ isFrozen: Bool) {
    state.withLock { state in
      state.isFrozen = isFrozen
      if isFrozen || state.isCut { return }
      for (toListener, letter) in state.held {
        (toListener ? listener : caller).post(self, letter)
      }
      state.held = []
    }
  }

  /// Ends the wire; both ends are told, `mailbox` (if any) that it did it itself.
  func cut(reason: String, by mailbox: LoopbackMailbox? = nil) {
    state.withLock { state in
      if state.isCut { return }
      state.isCut = true
      state.held = []
      for end in [caller, listener] {
        if mailbox == nil {
          end.post(self, .cut(.broken(reason: reason)))
        } else {
          end.post(self, .cut(end === mailbox ? .closed : .closedByPeer))
        }
      }
    }
  }
}

/// A transport between threads of one process: payloads are copied once, by the receiver.
package final class LoopbackTransport: Transport {
  private struct Arrival {
    let wire: LoopbackWire
    let link: LinkID
    let header: WireHeader
    let source: RegisteredSlice
    let token: SendToken
  }

  /// How long `wait` watches before it sleeps: about what a wake-up costs.
  private static let spinTime = Duration.microseconds(20)

  private let network: LoopbackNetwork
  private let mailbox: LoopbackMailbox
  private let origin = ContinuousClock.now
  private var wires: [LinkID: LoopbackWire] = [:]
  private var links: [ObjectIdentifier: LinkID] = [:]
  private var arrivals: [ArrivalID: Arrival] = [:]
  private var events = EventBacklog<TransportEvent>()
  private var lastLink: UInt32 = 0
  private var lastArrival: UInt64 = 0

  fileprivate init(network: LoopbackNetwork) {
    self.network = network
    mailbox = LoopbackMailbox()
  }

  deinit {
    network.withdraw(mailbox)
    for (_, wire) in wires { wire.cut(reason: "gone", by: mailbox) }
  }

  /// Time since this transport was made.
  package var now: Duration { ContinuousClock.now - origin }
  /// Ends `wait`; rung by every letter too.
  package var waker: any TransportWaker { mailbox.bell }
  /// "loopback".
  package func carrier(of link: LinkID) -> String { "loopback" }

  /// Plain memory.
  package func register(byteCount: Int) throws(TransportError) -> RegisteredMemory {
    try RegisteredMemory(byteCount: byteCount) { _ throws(TransportError) in nil }
  }

  /// Takes a name on the network.
  package func listen(at address: String) throws(TransportError) {
    guard network.listen(mailbox, at: address) else {
      throw .cannotListen(address: address, reason: "address in use")
    }
  }

  /// Joins the listener of that name.
  package func connect(to address: String) throws(TransportError) -> LinkID {
    guard let wire = network.join(mailbox, address) else {
      let link = makeLink()
      events.append(.lost(link, .unreachable(reason: "nobody listens at \(address)")))
      return link
    }
    let link = add(wire)
    wire.post(.accepted, from: mailbox)
    events.append(.connected(link))
    return link
  }

  /// Cuts the wire.
  package func close(_ link: LinkID) { wires[link]?.cut(reason: "closed", by: mailbox) }

  /// Hands the peer a view of the payload, which it copies.
  package func send(
    _ header: WireHeader, payload: RegisteredSlice, on link: LinkID, token: SendToken
  ) throws(TransportError) {
    precondition(header.kind.isBulk && Int(header.payloadByteCount) == payload.byteCount)
    guard let wire = wires[link] else { throw .noSuchLink(link) }
    wire.post(.bulk(header, payload, token), from: mailbox)
  }

  /// Hands the peer the payload.
  package func sendControl(
    _ header: WireHeader, payload: [UInt8], on link: LinkID
  ) throws(TransportError) {
    precondition(!header.kind.isBulk && payload.count <= WireHeader.controlPayloadLimit)
    guard let wire = wires[link] else { throw .noSuchLink(link) }
    wire.post(.control(header, payload), from: mailbox)
  }

  /// Copies the payload out of the sender's memory.
  package func receive(
    _ arrival: ArrivalID, into slice: RegisteredSlice
  ) throws(TransportError) {
    guard let entry = arrivals.removeValue(forKey: arrival) else {
      preconditionFailure("arrival \(arrival.value) is unknown or was answered before")
    }
    precondition(slice.byteCount == entry.source.byteCount, "a slot of another size")
    let isCopied = entry.wire.whileJoined {
      slice.memory.region.copy(
        from: entry.source.memory.region, range: entry.source.range, to: slice.range.lowerBound)
    }
    guard isCopied else { return }
    entry.wire.post(.taken(entry.token), from: mailbox)
    events.append(.received(entry.link, entry.header, arrival))
  }

  /// Tells the sender that its memory is free.
  package func discard(_ arrival: ArrivalID) {
    guard let entry = arrivals.removeValue(forKey: arrival) else { return }
    entry.wire.post(.taken(entry.token), from: mailbox)
  }

  /// Opens the letters.
  package func progress() {
    for entry in mailbox.take() { open(entry.letter, entry.wire) }
  }

  /// The oldest event not yet told.
  package func nextEvent() -> TransportEvent? { events.popFirst() }

  /// Spins, then sleeps.
  package func wait(until deadline: Duration) {
    if !events.isEmpty { return }
    if mailbox.bell.isRung {
      // Consumes the ring, so that the next wait sleeps.
      mailbox.bell.wait(.zero)
      return
    }
    let began = now
    while now - began < Self.spinTime && now < deadline {
      if mailbox.bell.isRung { break }
    }
    mailbox.bell.wait(max(.zero, deadline - now))
  }

  // MARK: Inside

  private func makeLink() -> LinkID {
    lastLink += 1
    return LinkID(lastLink)
  }

  private func add(_ wire: LoopbackWire) -> LinkID {
    let link = makeLink()
    wires[link] = wire
    links[ObjectIdentifier(wire)] = link
    return link
  }

  private func open(_ letter: LoopbackLetter, _ wire: LoopbackWire) {
    if case .accepted = letter {
      events.append(.accepted(add(wire), address: wire.address))
      return
    }
    guard let link = links[ObjectIdentifier(wire)] else { return }
    switch letter {
    case .accepted: break
    case .control(let header, let payload):
      events.append(.control(link, header, payload: payload))
    case .bulk(let header, let source, let token):
      lastArrival += 1
      let id = ArrivalID(lastArrival)
      arrivals[id] = Arrival(wire: wire, link: link, header: header, source: source, token: token)
      events.append(.arrived(link, header, id))
    case .taken(let token): events.append(.sent(link, token))
    case .cut(let reason):
      for (id, entry) in arrivals where entry.link == link { arrivals[id] = nil }
      wires[link] = nil
      links[ObjectIdentifier(wire)] = nil
      events.append(.lost(link, reason))
    }
  }
}

extension Duration {
  /// Whole nanoseconds.
  package var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }

  /// Seconds.
  package var inSeconds: Double { Double(nanoseconds) / 1e9 }
}
