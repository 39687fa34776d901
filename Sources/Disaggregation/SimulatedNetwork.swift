// A network, and everybody on it, inside one thread and with a clock of its own: the same exchange
// as in production under delays, reordering, loss, repeats, hangs and deaths. A seed gives the same
// run each time.

import Synchronization
import Tensors

/// What goes wrong on a simulated network.
package struct SimulatedFaults: Hashable, Sendable {
  /// Shortest time of a message.
  package var shortestDelay = Duration.microseconds(20)
  /// Longest time. Bulk messages overtake each other; small ones of a link keep their order, and no
  /// bulk message overtakes those, as it is with UCX.
  package var longestDelay = Duration.microseconds(200)
  /// Share of bulk messages that never arrive, in 1/1000.
  package var lossPerMille = 0
  /// Share of bulk messages that arrive twice, in 1/1000.
  package var repeatPerMille = 0
  /// Share of bulk messages that take a hundred times as long, in 1/1000.
  package var slowPerMille = 0

  /// A network without faults but delay.
  package init() {}
}

/// The clock, what is under way, and who acts when.
package final class SimulatedNetwork {
  private struct Entry {
    var time: Duration
    var order: UInt64
    var node: Int
    var link: LinkID
    var letter: SimulatedLetter
  }

  /// The time.
  package private(set) var now = Duration.zero
  private var faults: SimulatedFaults
  private var generator: SeededNumbers
  private var queue: [Entry] = []
  private var nextOrder: UInt64 = 0
  private var lastNumber = 0
  private var nodes: [Int: SimulatedTransport] = [:]
  private var listeners: [String: SimulatedTransport] = [:]
  private var actors: [String: () -> Duration] = [:]
  private var transports: [String: SimulatedTransport] = [:]
  private var wakeTimes: [String: Duration] = [:]
  private var hung: Set<String> = []
  private var actorOfNode: [Int: String] = [:]
  private var scheduled: [(time: Duration, action: () -> Void)] = []
  /// When the last small message of a link arrives, by the receiver's number and link.
  private var lastSmall: [Int: [LinkID: Duration]] = [:]

  /// A network whose faults and delays follow from `seed`.
  package init(seed: UInt64, faults: SimulatedFaults) {
    generator = SeededNumbers(seed: seed)
    self.faults = faults
  }

  /// A transport of somebody who is driven by its own calls.
  package func makeTransport() -> SimulatedTransport {
    lastNumber += 1
    let transport = SimulatedTransport(network: self, number: lastNumber)
    nodes[transport.number] = transport
    return transport
  }

  /// Lets `turn`, which says when it wants to be called again, act as `name` over `transport`.
  package func addActor(
    _ name: String, over transport: SimulatedTransport, turn: @escaping () -> Duration
  ) {
    actors[name] = turn
    transports[name] = transport
    actorOfNode[transport.number] = name
    wakeTimes[name] = now
  }

  /// Ends an actor as if its process were killed; its links break.
  package func kill(_ name: String) {
    actors[name] = nil
    transports[name] = nil
    wakeTimes[name] = nil
    hung.remove(name)
    for id in actorOfNode.keys.sorted() where actorOfNode[id] == name {
      nodes[id]?.breakAll()
      actorOfNode[id] = nil
      lastSmall[id] = nil
      if let transport = nodes.removeValue(forKey: id) {
        for address in listeners.keys.sorted() where listeners[address] === transport {
          listeners[address] = nil
        }
      }
    }
  }

  /// Stops an actor without telling anybody, until `resume`.
  package func hang(_ name: String) { hung.insert(name) }
  /// Lets a hung actor go on.
  package func resume(_ name: String) { hung.remove(name) }

  /// Runs `action` at a time.
  package func schedule(at time: Duration, _ action: @escaping () -> Void) {
    scheduled.append((time, action))
    scheduled.sort { $0.time < $1.time }
  }

  /// A number of the seed's sequence, for tests.
  package func random(in range: Range<Int>) -> Int {
    Int.random(in: range, using: &generator)
  }

  // MARK: The clock

  /// Lets time pass.
  package func sleep(_ time: Duration) { run(until: now + time) { false } }

  /// Lets time pass until `isDone` or `deadline`.
  func run(until deadline: Duration, isDone: () -> Bool) {
    while !isDone() {
      let next = [
        queue.first?.time, scheduled.first?.time,
        wakeTimes.filter { !hung.contains($0.key) }.map(\.value).min(),
      ].compactMap { $0 }.min()
      guard let next, next <= deadline else {
        now = max(now, deadline)
        return
      }
      now = max(now, next)
      if let first = scheduled.first, first.time <= now {
        scheduled.removeFirst()
        first.action()
        continue
      }
      if let first = queue.first, first.time <= now {
        queue.removeFirst()
        deliver(first)
        continue
      }
      act()
    }
  }

  private func act() {
    let woken = wakeTimes.filter { $0.value <= now && !hung.contains($0.key) }.keys.sorted()
    guard let name = woken.first, let turn = actors[name] else { return }
    // Something that wants to go on at once still takes a moment.
    let due = turn()
    let hasMore = transports[name]?.hasEvents ?? false
    wakeTimes[name] = max(hasMore ? now : due, now + .microseconds(1))
  }

  private func deliver(_ entry: Entry) {
    guard let transport = nodes[entry.node] else { return }
    if let actor = actorOfNode[entry.node] {
      if hung.contains(actor) {
        post(entry.letter, on: entry.link, to: transport, after: .milliseconds(1))
        return
      }
      wakeTimes[actor] = now
    }
    transport.take(entry.letter, on: entry.link)
  }

  // MARK: Messages

  fileprivate func send(
    _ letter: SimulatedLetter, on link: LinkID, to transport: SimulatedTransport
  ) {
    var delay = randomDelay()
    if case .bulk = letter {
      if random(in: 0..<1000) < faults.lossPerMille { return }
      if random(in: 0..<1000) < faults.slowPerMille { delay = delay * 100 }
      if random(in: 0..<1000) < faults.repeatPerMille {
        post(letter, on: link, to: transport, after: delay + randomDelay() * 3)
      }
    }
    post(letter, on: link, to: transport, after: delay)
  }

  private func randomDelay() -> Duration {
    let spread = (faults.longestDelay - faults.shortestDelay).nanoseconds
    return faults.shortestDelay
      + .nanoseconds(Int64.random(in: 0...max(0, spread), using: &generator))
  }

  private func post(
    _ letter: SimulatedLetter, on link: LinkID, to transport: SimulatedTransport,
    after delay: Duration
  ) {
    nextOrder += 1
    let last = lastSmall[transport.number]?[link] ?? .zero
    let time = max(now + delay, last)
    switch letter {
    case .bulk, .sent: break
    default: lastSmall[transport.number, default: [:]][link] = time
    }
    let entry = Entry(
      time: time, order: nextOrder, node: transport.number, link: link,
      letter: letter)
    let place =
      queue.firstIndex { ($0.time, $0.order) > (entry.time, entry.order) } ?? queue.count
    queue.insert(entry, at: place)
  }

  fileprivate func listen(_ transport: SimulatedTransport, at address: String) -> Bool {
    if listeners[address] != nil { return false }
    listeners[address] = transport
    return true
  }

  fileprivate func listener(at address: String) -> SimulatedTransport? { listeners[address] }
}

/// What comes to a simulated transport.
enum SimulatedLetter {
  case connected
  case accepted(address: String)
  case control(WireHeader, [UInt8])
  case bulk(WireHeader, [UInt8])
  case sent(SendToken)
  case lost(LinkLoss)
}

/// A transport on a simulated network: payloads are copied when they are sent.
package final class SimulatedTransport: Transport {
  private struct Link {
    var peer: SimulatedTransport
    var peerLink: LinkID
  }

  private let network: SimulatedNetwork
  private var links: [LinkID: Link] = [:]
  private var events: [TransportEvent] = []
  private var arrivals: [ArrivalID: (link: LinkID, header: WireHeader, bytes: [UInt8])] = [:]
  private var lastLink: UInt32 = 0
  private var lastArrival: UInt64 = 0

  /// Never used again, unlike an address in memory.
  fileprivate let number: Int

  fileprivate init(network: SimulatedNetwork, number: Int) {
    self.network = network
    self.number = number
  }

  private final class Waker: TransportWaker {
    private let isSet = Atomic<Bool>(false)
    func wake() { isSet.store(true, ordering: .relaxed) }
    func take() -> Bool { isSet.exchange(false, ordering: .relaxed) }
  }

  private let ownWaker = Waker()

  /// The simulated time.
  package var now: Duration { network.now }
  /// Makes the next `wait` return: there is one thread.
  package var waker: any TransportWaker { ownWaker }
  /// "simulation".
  package func carrier(of link: LinkID) -> String { "simulation" }

  /// Plain memory.
  package func register(byteCount: Int) throws(TransportError) -> RegisteredMemory {
    try RegisteredMemory(byteCount: byteCount) { _ throws(TransportError) in nil }
  }

  /// Takes a name on the network.
  package func listen(at address: String) throws(TransportError) {
    guard network.listen(self, at: address) else {
      throw .cannotListen(address: address, reason: "address in use")
    }
  }

  /// Joins the listener of that name.
  package func connect(to address: String) throws(TransportError) -> LinkID {
    let own = makeLink()
    guard let peer = network.listener(at: address) else {
      network.send(
        .lost(.unreachable(reason: "nobody listens at \(address)")), on: own, to: self)
      return own
    }
    let other = peer.makeLink()
    links[own] = Link(peer: peer, peerLink: other)
    peer.links[other] = Link(peer: self, peerLink: own)
    network.send(.accepted(address: address), on: other, to: peer)
    network.send(.connected, on: own, to: self)
    return own
  }

  /// Ends a link on both sides.
  package func close(_ link: LinkID) {
    guard let entry = links.removeValue(forKey: link) else { return }
    drop(link)
    events.append(.lost(link, .closed))
    if entry.peer.links[entry.peerLink] != nil {
      network.send(.lost(.closedByPeer), on: entry.peerLink, to: entry.peer)
    }
  }

  /// Sends a copy.
  package func send(
    _ header: WireHeader, payload: RegisteredSlice, on link: LinkID, token: SendToken
  ) throws(TransportError) {
    guard let entry = links[link] else { throw .noSuchLink(link) }
    let bytes = payload.memory.region.bytes(payload.range)
    network.send(.bulk(header, bytes), on: entry.peerLink, to: entry.peer)
    network.send(.sent(token), on: link, to: self)
  }

  /// Sends a copy.
  package func sendControl(
    _ header: WireHeader, payload: [UInt8], on link: LinkID
  ) throws(TransportError) {
    guard let entry = links[link] else { throw .noSuchLink(link) }
    network.send(.control(header, payload), on: entry.peerLink, to: entry.peer)
  }

  /// Copies the payload.
  package func receive(
    _ arrival: ArrivalID, into slice: RegisteredSlice
  ) throws(TransportError) {
    // An arrival of a link that ended meanwhile is gone; the caller is told by `.lost`.
    guard let entry = arrivals.removeValue(forKey: arrival) else { return }
    slice.memory.region.copy(from: entry.bytes, to: slice.range.lowerBound)
    events.append(.received(entry.link, entry.header, arrival))
  }

  /// Forgets the payload.
  package func discard(_ arrival: ArrivalID) { arrivals[arrival] = nil }

  /// Nothing moves by itself.
  package func progress() {}

  /// The oldest event not yet told.
  package func nextEvent() -> TransportEvent? {
    events.isEmpty ? nil : events.removeFirst()
  }

  /// Lets the whole world run until something comes here.
  package func wait(until deadline: Duration) {
    network.run(until: deadline) { !events.isEmpty || ownWaker.take() }
  }

  /// Whether something was not told yet.
  fileprivate var hasEvents: Bool { !events.isEmpty }

  fileprivate func makeLink() -> LinkID {
    lastLink += 1
    return LinkID(lastLink)
  }

  fileprivate func take(_ letter: SimulatedLetter, on link: LinkID) {
    if case .lost(let reason) = letter {
      if links.removeValue(forKey: link) == nil {
        // Only a link that never came about has no entry and still an end.
        guard case .unreachable = reason else { return }
      }
      drop(link)
      events.append(.lost(link, reason))
      return
    }
    guard links[link] != nil else { return }
    switch letter {
    case .connected: events.append(.connected(link))
    case .accepted(let address): events.append(.accepted(link, address: address))
    case .control(let header, let payload):
      events.append(.control(link, header, payload: payload))
    case .bulk(let header, let bytes):
      lastArrival += 1
      let id = ArrivalID(lastArrival)
      arrivals[id] = (link, header, bytes)
      events.append(.arrived(link, header, id))
    case .sent(let token): events.append(.sent(link, token))
    case .lost: break
    }
  }

  /// Forgets what has come by a link and was not told yet, but its acceptance.
  private func drop(_ link: LinkID) {
    for id in arrivals.keys.sorted(by: { $0.value < $1.value }) where arrivals[id]?.link == link {
      arrivals[id] = nil
    }
    events.removeAll { event in
      switch event {
      case .arrived(link, _, _), .received(link, _, _): true
      default: false
      }
    }
  }

  fileprivate func breakAll() {
    for link in links.keys.sorted() {
      guard let entry = links.removeValue(forKey: link) else { continue }
      network.send(.lost(.broken(reason: "killed")), on: entry.peerLink, to: entry.peer)
    }
  }
}

/// Random numbers from a seed.
private struct SeededNumbers: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 &+ 99 }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}
