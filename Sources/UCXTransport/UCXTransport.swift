import CUCX
package import Disaggregation

/// A transport over UCX: shared memory within a machine, TCP or RDMA between machines.
///
/// Two contexts, for the library decides per context between eager data and rendezvous: the local
/// one takes large payloads straight out of the sender's memory, the network one sends everything
/// at once. An address of this machine is reached through the local one.
///
/// Every link of this machine has a worker of its own. Shared memory brings messages in one queue
/// per worker: a sender takes the next slot and then fills it. One that is killed in between leaves
/// a slot that is never filled, behind which the worker hears nobody ever again; so nobody else may
/// send through the same queue.
package final class UCXTransport: Transport {
  private enum LinkState: Equatable {
    /// The greeting has not come yet.
    case connecting(until: Duration)
    case open
    /// The library is closing the endpoint; `request` as `UCXWorker.isClosed` wants it.
    case closing(request: UInt, LinkLoss, until: Duration)
  }

  private struct Link {
    let worker: UCXWorker
    let endpoint: EndpointKey
    var state: LinkState
    /// Sends and receives that the library works on.
    var operationCount = 0
  }

  private struct Arrival {
    let link: LinkID
    let header: WireHeader
    let data: UCXArrival
  }

  /// The longest that an adaptive wait looks before it sleeps: some wake-ups' worth.
  private static var longestSpin: Duration { .milliseconds(4) }

  private let settings: UCXSettings
  /// How long `wait` has waited for news of late.
  private var usualWait = Duration.zero
  /// What links of this machine are made in.
  private let local: UCXContext?
  /// Has the listeners of this machine, and no links.
  private let localListener: UCXWorker?
  /// Has all links to other machines: over a network each is a stream of its own.
  private let network: UCXWorker?
  /// Those above and the links' own.
  private var workers: [UCXWorker]
  private let bell: UCXWaker
  private let origin = ContinuousClock.now
  private var links: [LinkID: Link] = [:]
  private var linkOf: [EndpointKey: LinkID] = [:]
  private var arrivals: [ArrivalID: Arrival] = [:]
  private var events = EventBacklog<TransportEvent>()
  private var lastLink: UInt32 = 0
  private var lastArrival: UInt64 = 0
  /// Links that are not simply open: looked after in every `progress`.
  private var unsettled: Set<LinkID> = []

  /// A transport of the calling thread.
  package init(_ settings: UCXSettings = UCXSettings()) throws(TransportError) {
    self.settings = settings
    bell = try UCXWaker()
    if settings.reach == .network {
      local = nil
      localListener = nil
    } else {
      let context = try UCXContext(
        name: "shared-memory", variables: settings.localVariables, settings: settings)
      local = context
      localListener = try UCXWorker(context)
    }
    workers = [localListener].compactMap { $0 }
    guard settings.reach != .thisMachine else {
      network = nil
      return
    }
    let device = settings.host.isEmpty ? nil : try SocketAddress(settings.host + ":1").ownInterface
    let worker = try UCXWorker(
      UCXContext(
        name: "network",
        variables: settings.networkVariables(device: device, hasRDMA: Self.hasRDMA),
        settings: settings))
    network = worker
    workers.append(worker)
  }

  deinit {
    for id in links.keys.sorted() { close(id) }
    // Farewells and the library's own goodbyes take a few turns.
    let limit = now + .milliseconds(200)
    while !links.isEmpty, now < limit { progress() }
    for arrival in arrivals.values { links[arrival.link]?.worker.discard(arrival.data) }
  }

  private static var hasRDMA: Bool { cucx_has_rdma() != 0 }

  /// Time since this transport was made.
  package var now: Duration { ContinuousClock.now - origin }
  /// Wakes `wait` from any other thread.
  package var waker: any TransportWaker { bell }

  /// What carries a link: "shm+cma", "tcp eth0".
  package func carrier(of link: LinkID) -> String {
    guard let link = links[link] else { return "closed" }
    return laneSummary(link.worker.description(of: link.endpoint))
  }

  /// Zeroed memory, registered with both contexts.
  package func register(byteCount: Int) throws(TransportError) -> RegisteredMemory {
    let contexts = [local, network?.context].compactMap { $0 }
    return try RegisteredMemory(byteCount: byteCount) { region throws(TransportError) in
      try UCXRegistration(region, contexts: contexts)
    }
  }

  // MARK: Connections

  /// Accepts peers: of this machine at its loopback address, all others at `address`.
  package func listen(at address: String) throws(TransportError) {
    let resolved = try SocketAddress(address)
    let isLoopback = resolved.ownInterface == "lo"
    if let localListener {
      try localListener.listen(resolved.loopback, name: "loopback of \(address)")
    }
    if let network, local == nil || !isLoopback { try network.listen(resolved, name: address) }
  }

  /// Begins to connect, through shared memory when `address` is this machine's.
  package func connect(to address: String) throws(TransportError) -> LinkID {
    let resolved = try SocketAddress(address)
    let link: LinkID
    if let local, resolved.ownInterface != nil {
      let worker = try UCXWorker(local)
      link = add(worker, try worker.connect(resolved.loopback), isConnecting: true)
    } else if let network {
      link = add(network, try network.connect(resolved), isConnecting: true)
    } else {
      link = makeLink()
      events.append(
        .lost(link, .unreachable(reason: "\(address) is not an address of this machine")))
    }
    return link
  }

  /// Ends a link; the peer is told if that takes no waiting.
  package func close(_ link: LinkID) { end(link, .closed) }

  private func makeLink() -> LinkID {
    lastLink += 1
    return LinkID(lastLink)
  }

  private func add(_ worker: UCXWorker, _ endpoint: EndpointKey, isConnecting: Bool) -> LinkID {
    let id = makeLink()
    links[id] = Link(
      worker: worker, endpoint: endpoint,
      state: isConnecting ? .connecting(until: now + settings.connectLimit) : .open)
    linkOf[endpoint] = id
    if isOwn(worker) { workers.append(worker) }
    if isConnecting { unsettled.insert(id) }
    return id
  }

  /// Whether a worker is one link's alone.
  private func isOwn(_ worker: UCXWorker) -> Bool { worker !== network }

  /// Begins to close a link for `reason`; `.lost` follows when the library has let go.
  private func end(_ id: LinkID, _ reason: LinkLoss) {
    guard var link = links[id] else { return }
    if case .closing = link.state { return }
    if reason == .closed, link.state == .open {
      // A hint only: if it does not get through, the peer sees a broken link.
      try? link.worker.bidFarewell(link.endpoint, id)
      links[id]?.operationCount += 1
      _ = link.worker.progress()
      link = links[id] ?? link
    }
    for (key, arrival) in arrivals where arrival.link == id {
      link.worker.discard(arrival.data)
      arrivals[key] = nil
    }
    linkOf[link.endpoint] = nil
    link.state = .closing(
      request: link.worker.close(link.endpoint), reason, until: now + .seconds(1))
    links[id] = link
    unsettled.insert(id)
  }

  // MARK: Messages

  /// The link, if messages can be sent on it.
  private func usable(_ id: LinkID) throws(TransportError) -> Link {
    guard let link = links[id] else { throw .noSuchLink(id) }
    if case .closing = link.state { throw .noSuchLink(id) }
    return link
  }

  /// Sends a payload out of registered memory.
  package func send(
    _ header: WireHeader, payload: RegisteredSlice, on link: LinkID, token: SendToken
  ) throws(TransportError) {
    precondition(header.kind.isBulk && Int(header.payloadByteCount) == payload.byteCount)
    let entry = try usable(link)
    do throws(TransportError) {
      try entry.worker.send(header, payload, to: entry.endpoint, link, token: token)
    } catch {
      end(link, .broken(reason: "\(error)"))
      throw .noSuchLink(link)
    }
    links[link]?.operationCount += 1
  }

  /// Sends a small message, copied.
  package func sendControl(
    _ header: WireHeader, payload: [UInt8], on link: LinkID
  ) throws(TransportError) {
    precondition(!header.kind.isBulk && payload.count <= WireHeader.controlPayloadLimit)
    let entry = try usable(link)
    do throws(TransportError) {
      try entry.worker.sendControl(header, payload, to: entry.endpoint, link)
    } catch {
      end(link, .broken(reason: "\(error)"))
      throw .noSuchLink(link)
    }
    links[link]?.operationCount += 1
  }

  /// Sends what no release knows, as a stranger would; for tests.
  package func sendStray(_ id: UInt16, on link: LinkID) throws(TransportError) {
    let entry = try usable(link)
    try entry.worker.sendStray(id, to: entry.endpoint, link)
    links[link]?.operationCount += 1
  }

  /// Takes an arrival's payload; nothing happens when its link has ended meanwhile.
  package func receive(
    _ arrival: ArrivalID, into slice: RegisteredSlice
  ) throws(TransportError) {
    // An arrival of a link that ended meanwhile is gone; the caller is told by `.lost`.
    guard let entry = arrivals.removeValue(forKey: arrival), let link = links[entry.link] else {
      return
    }
    precondition(
      slice.byteCount == Int(entry.header.payloadByteCount), "a slot of another size")
    links[entry.link]?.operationCount += 1
    link.worker.receive(entry.data, into: slice, entry.link, entry.header, arrival)
  }

  /// Drops an arrival.
  package func discard(_ arrival: ArrivalID) {
    guard let entry = arrivals.removeValue(forKey: arrival) else { return }
    links[entry.link]?.worker.discard(entry.data)
  }

  // MARK: Progress

  /// Lets the library work and turns what it tells into events.
  package func progress() {
    for worker in workers {
      while worker.progress() {}
      for signal in worker.takeSignals() { handle(signal, worker) }
    }
    if !unsettled.isEmpty { settle() }
  }

  /// What happened next.
  package func nextEvent() -> TransportEvent? { events.popFirst() }

  /// Waits as the settings say.
  package func wait(until deadline: Duration) {
    let began = now
    let spinLimit = spinLimit
    while true {
      progress()
      if !events.isEmpty || bell.takeRing() {
        let waited = min(now - began, Self.longestSpin * 2)
        usualWait += (waited - usualWait) / 4
        return
      }
      let time = now
      if time >= deadline { return }
      if time - began < spinLimit {
        cucx_pause()
        continue
      }
      guard workers.allSatisfy({ $0.arm() }) else { continue }
      // Links that are closing or connecting have limits of their own.
      let longest = unsettled.isEmpty ? deadline - time : min(deadline - time, .milliseconds(5))
      bell.sleep(longest, workers.map(\.descriptor))
    }
  }

  /// How long to look before sleeping. A wake-up costs many times what looking costs, so news that
  /// usually come soon are waited for awake; where they do not, only for the shortest time.
  private var spinLimit: Duration {
    switch settings.waiting {
    case .busy: .seconds(1 << 30)
    case .adaptive(let shortest):
      usualWait * 2 <= Self.longestSpin ? max(shortest, usualWait * 2) : shortest
    case .events: .zero
    }
  }

  private func handle(_ signal: UCXSignal, _ worker: UCXWorker) {
    switch signal {
    case .request(let request):
      guard let own = worker === localListener ? try? UCXWorker(worker.context) : worker else {
        worker.reject(request)
        return
      }
      guard let (endpoint, address) = own.accept(request) else { return }
      let id = add(own, endpoint, isConnecting: false)
      events.append(.accepted(id, address: address))
      do throws(TransportError) {
        try own.greet(endpoint, id)
        links[id]?.operationCount += 1
      } catch { end(id, .broken(reason: "\(error)")) }
    case .greeting(let endpoint):
      guard let id = linkOf[endpoint], case .connecting? = links[id]?.state else { return }
      links[id]?.state = .open
      unsettled.remove(id)
      events.append(.connected(id))
    case .farewell(let endpoint):
      guard let id = linkOf[endpoint] else { return }
      end(id, .closedByPeer)
    case .failed(let endpoint, let status):
      guard let id = linkOf[endpoint], let link = links[id] else { return }
      if case .connecting = link.state {
        end(id, .unreachable(reason: statusText(status)))
      } else {
        end(id, .broken(reason: statusText(status)))
      }
    case .control(let endpoint, let header, let payload):
      guard let id = linkOf[endpoint] else { return }
      events.append(.control(id, header, payload: payload))
    case .arrival(let endpoint, let header, let data):
      guard let id = linkOf[endpoint] else {
        worker.discard(data)
        return
      }
      lastArrival += 1
      arrivals[ArrivalID(lastArrival)] = Arrival(link: id, header: header, data: data)
      events.append(.arrived(id, header, ArrivalID(lastArrival)))
    case .malformed(let endpoint, let error):
      if let id = linkOf[endpoint] { end(id, .malformed(error)) }
    case .completed(let operation, let status): complete(operation, status)
    }
  }

  private func complete(_ operation: UCXOperation, _ status: ucs_status_t) {
    let id = operation.link
    guard links[id] != nil else { return }
    links[id]?.operationCount -= 1
    guard linkIsAlive(id) else { return }
    guard status == UCS_OK else {
      end(id, .broken(reason: statusText(status)))
      return
    }
    switch operation.kind {
    case .small: break
    case .send(let token): events.append(.sent(id, token))
    case .receive(let header, let arrival): events.append(.received(id, header, arrival))
    }
  }

  private func linkIsAlive(_ id: LinkID) -> Bool {
    guard let link = links[id] else { return false }
    if case .closing = link.state { return false }
    return true
  }

  /// Moves on the links that are connecting or closing.
  private func settle() {
    for id in unsettled.sorted() {
      guard let link = links[id] else {
        unsettled.remove(id)
        continue
      }
      switch link.state {
      case .open: unsettled.remove(id)
      case .connecting(let limit):
        if now >= limit {
          end(id, .unreachable(reason: "no answer within \(settings.connectLimit)"))
        }
      case .closing(let request, let reason, let limit):
        // A full queue that nobody reads any more keeps a close waiting, but not the worker's end.
        let isGivenUp = isOwn(link.worker) && now >= limit
        if request != 0, !link.worker.isClosed(request), !isGivenUp { continue }
        // With the endpoint gone nothing writes any more; operations still open tell so themselves.
        guard link.operationCount <= 0 || now >= limit else {
          links[id]?.state = .closing(request: 0, reason, until: limit)
          continue
        }
        links[id] = nil
        if isOwn(link.worker) { workers.removeAll { $0 === link.worker } }
        unsettled.remove(id)
        events.append(.lost(id, reason))
      }
    }
  }
}
