package import Disaggregation
import JSONScanning
import Synchronization

/// Asks, from any thread, that a process leave in good order.
package final class DrainSwitch: Sendable {
  private let state = Atomic<Bool>(false)
  /// Nobody has asked.
  package init() {}
  /// Whether somebody has asked.
  package var isOn: Bool { state.load(ordering: .acquiring) }
  /// Asks.
  package func turnOn() { state.store(true, ordering: .releasing) }
}

/// The control plane of a cluster: connects, proves, admits, tries again, drains.
///
/// Attention nodes call, ffn nodes are called. A peer takes part once the handshake has shown that
/// it knows the cluster key and has the same model, release and cluster file.
package final class ClusterControlPlane: ControlPlane {
  private struct Greeting {
    var handshake: Handshake
    /// The node called, nil for a caller of whom nothing is known yet.
    var called: ClusterNode?
    var address: String
    var until: Duration
  }

  private struct Target {
    let node: ClusterNode
    var link: LinkID?
    var nextTry: Duration = .zero
    var pause: Duration = .milliseconds(20)
  }

  /// This process's number: its place in the cluster file.
  package let ownNumber: UInt16
  /// How the peers stand.
  package let board: PeerBoard
  private let file: ClusterFile
  private let identity: PeerIdentity
  private let log: @Sendable (String) -> Void
  private var targets: [Target]
  private var greetings: [LinkID: Greeting] = [:]
  private var admitted: [LinkID: PeerIdentity] = [:]
  /// Peers that have proved who they are and have still to hold the maps in use.
  private var joining: [LinkID: (peer: PeerIdentity, until: Duration)] = [:]
  private var news: MapNews
  /// On an ffn node: the newest map it holds.
  private var newestHeld: ExpertMap?
  private var nextReport = Duration.zero
  /// Links that are only looked at.
  private var probed: Set<LinkID> = []
  private var limiter = AttemptLimiter()
  private let drainSwitch: DrainSwitch
  private var hasDrained = false
  /// How long a peer may take to read the experts of the maps in use.
  private static let joiningLimit = Duration.seconds(120)
  private static let longestPause = Duration.milliseconds(400)
  private static let greetingLimit = 256

  /// The control plane of `identity`'s process, which writes on `board` and leaves when told so by
  /// `drainSwitch`; `log` gets one line per thing worth telling. An attention node uses the maps on
  /// `desk`, an ffn node begins with that map.
  package init(
    _ file: ClusterFile, identity: PeerIdentity, board: PeerBoard, desk: MapDesk,
    drainSwitch: DrainSwitch = DrainSwitch(), log: @escaping @Sendable (String) -> Void
  ) {
    news = MapNews(desk)
    self.file = file
    self.identity = identity
    self.board = board
    self.drainSwitch = drainSwitch
    self.log = log
    ownNumber = UInt16(file.nodes.firstIndex { $0.id == identity.id } ?? 0)
    targets = identity.role == .ffn ? [] : file.nodes(.ffn).map { Target(node: $0) }
  }

  /// The number that a node has in every process.
  package static func number(of id: String, in file: ClusterFile) -> UInt16? {
    file.nodes.firstIndex { $0.id == id }.map(UInt16.init)
  }

  // MARK: ControlPlane

  /// Remembers where a link goes.
  package func connecting(_ link: LinkID, to address: String) {
    guard let index = targets.firstIndex(where: { $0.node.address == address && $0.link == nil })
    else { return }
    targets[index].link = link
  }

  /// Takes an event of a link.
  package func handle(_ event: ControlEvent, now: Duration) -> [ControlAction] {
    switch event {
    case .connected(let link): return call(link, now)
    case .accepted(let link, let address): return answer(link, address, now)
    case .message(let link, let header, let payload): return message(link, header, payload, now)
    case .lost(let link, let reason):
      lost(link, reason, now)
      return []
    case .held(let link, let map, let refusal):
      if refusal == nil, map.epoch > newestHeld?.epoch ?? 0 {
        newestHeld = map
        log("holds expert map \(map.epoch)")
      }
      let answer: JSONValue =
        if let refusal {
          ["refused": .integer(Int(map.epoch)), "reason": .string(refusal)]
        } else { ["held": .integer(Int(map.epoch))] }
      return [tell(answer, link)]
    }
  }

  /// Connects where it is time, and ends handshakes that take too long.
  package func advance(to now: Duration) -> [ControlAction] {
    var actions: [ControlAction] = []
    for index in targets.indices where targets[index].link == nil && targets[index].nextTry <= now {
      // Set by `connecting`; a try that fails at once comes back through `lost`.
      actions.append(.connect(address: targets[index].node.address))
    }
    for (link, greeting) in greetings where greeting.until <= now {
      greetings[link] = nil
      note(greeting, .tooSlow(limit: file.timeouts.handshake))
      actions += refusal(.tooSlow(limit: file.timeouts.handshake), link)
    }
    for (link, entry) in joining where entry.until <= now { actions.append(.close(link)) }
    if !hasDrained, drainSwitch.isOn {
      hasDrained = true
      actions.append(.drain)
    }
    if identity.role == .attention { return actions + followMap() }
    return actions + report(now)
  }

  /// When `advance` is due.
  package var nextDeadline: Duration? {
    let tries = targets.filter { $0.link == nil }.map(\.nextTry)
    let report = board.ownReport == nil || admitted.isEmpty ? [] : [nextReport]
    return (tries + report + greetings.values.map(\.until)).min()
  }

  // MARK: Maps and reports

  /// Asks nodes to hold a new map, and takes it once all do.
  private func followMap() -> [ControlAction] {
    guard let map = news.desk.proposed, !admitted.isEmpty else { return [] }
    var actions: [ControlAction] = []
    let links = admitted.keys.sorted { $0.value < $1.value }
    for link in links { actions += askToHold(link) }
    if links.allSatisfy({ news.holds(map, $0) }) {
      news.desk.adopt(map)
      log("uses expert map \(map.epoch)")
      actions.append(.adopt(map))
    }
    return actions
  }

  private func askToHold(_ link: LinkID) -> [ControlAction] {
    news.toAsk(link).map { tell(["hold": $0.json], link) }
  }

  /// Tells the attention nodes how this node does.
  private func report(_ now: Duration) -> [ControlAction] {
    guard now >= nextReport, let report = board.ownReport else { return [] }
    nextReport = now + .seconds(1)
    return admitted.keys.sorted { $0.value < $1.value }.map { tell(["report": report], $0) }
  }

  private func tell(_ json: JSONValue, _ link: LinkID) -> ControlAction {
    send(.cluster, Array(json.text(.compact).utf8), link)
  }

  /// News of a peer that has proved who it is.
  private func take(_ payload: [UInt8], _ link: LinkID, _ peer: PeerIdentity) -> [ControlAction] {
    guard let json = try? JSONValue(parsing: payload, depthLimit: 8) else { return [.close(link)] }
    let base = news.desk.base
    if identity.role == .ffn {
      guard let map = ExpertMap(json["hold"], like: base) else { return [] }
      return [.hold(map, link)]
    }
    if let report = json["report"] { board.take(report, of: peer.id) }
    if let newest = ExpertMap(json["newest"], like: base) { _ = news.desk.propose(newest) }
    if let number = json["refused"]?.integer, let epoch = UInt32(exactly: number) {
      let reason = json["reason"]?.string ?? ""
      log("\(peer.id) does not hold expert map \(epoch): \(reason)")
      news.desk.refuse(epoch, "\(peer.id): \(reason)")
    }
    guard let epoch = json["held"]?.integer.flatMap({ UInt32(exactly: $0) }) else { return [] }
    news.note(epoch, heldBy: link)
    guard joining[link] != nil, news.holdsAll(link) else { return [] }
    joining[link] = nil
    return admit(peer, link)
  }

  // MARK: Handshakes

  private func makeHandshake(called: ClusterNode?) -> Handshake {
    let file = file
    let role = identity.role
    let ownID = identity.id
    return Handshake(own: identity, key: file.key) { peer in
      if let called { return peer.id == called.id && peer.role == called.role }
      return peer.id != ownID && peer.role != role
        && file.nodes.contains { $0.id == peer.id && $0.role == peer.role }
    }
  }

  private func call(_ link: LinkID, _ now: Duration) -> [ControlAction] {
    guard let target = targets.first(where: { $0.link == link }) else { return [.close(link)] }
    var greeting = Greeting(
      handshake: makeHandshake(called: target.node), called: target.node,
      address: target.node.address, until: now + file.timeouts.handshake)
    let hello = greeting.handshake.begin()
    greetings[link] = greeting
    _ = board.set(target.node.id, .greeting)
    return [send(.hello, hello, link)]
  }

  private func answer(_ link: LinkID, _ address: String, _ now: Duration) -> [ControlAction] {
    guard limiter.admits(address, now: now), greetings.count < Self.greetingLimit else {
      log("refused \(address): \(HandshakeRefusal.tooMany)")
      return refusal(.tooMany, link)
    }
    greetings[link] = Greeting(
      handshake: makeHandshake(called: nil), called: nil, address: address,
      until: now + file.timeouts.handshake)
    return []
  }

  private func message(
    _ link: LinkID, _ header: WireHeader, _ payload: [UInt8], _ now: Duration
  ) -> [ControlAction] {
    if probed.contains(link) {
      guard header.kind == .cluster else { return [.close(link)] }
      return [send(.cluster, payload, link)]
    }
    guard var greeting = greetings[link] else {
      guard let peer = admitted[link] ?? joining[link]?.peer else { return [.close(link)] }
      return header.kind == .cluster ? take(payload, link, peer) : []
    }
    guard [.hello, .welcome, .confirm].contains(header.kind) else {
      greetings[link] = nil
      note(greeting, .malformed)
      return [.close(link)]
    }
    let step = greeting.handshake.receive(payload)
    greetings[link] = greeting
    switch step {
    case .send(let bytes): return [send(.welcome, bytes, link)]
    case .refused(let reason, let bytes):
      greetings[link] = nil
      note(greeting, reason)
      return (bytes.map { [send(.welcome, $0, link)] } ?? []) + [.close(link)]
    case .accepted(let peer, let bytes):
      greetings[link] = nil
      if peer.isProbe {
        probed.insert(link)
        return []
      }
      return (bytes.map { [send(.confirm, $0, link)] } ?? []) + letIn(peer, link, now)
    }
  }

  /// Admits a peer, at once or when it holds the maps in use.
  private func letIn(
    _ peer: PeerIdentity, _ link: LinkID, _ now: Duration
  ) -> [ControlAction] {
    guard identity.role == .attention, !news.holdsAll(link) else { return admit(peer, link) }
    joining[link] = (peer, now + Self.joiningLimit)
    return askToHold(link)
  }

  private func admit(_ peer: PeerIdentity, _ link: LinkID) -> [ControlAction] {
    var actions: [ControlAction] = []
    // The same node by another link: it was restarted, or its old link is dead without knowing it.
    for (old, known) in admitted where known.id == peer.id && old != link {
      admitted[old] = nil
      actions.append(.close(old))
    }
    admitted[link] = peer
    if let index = targets.firstIndex(where: { $0.link == link }) {
      targets[index].pause = .milliseconds(20)
    }
    if board.set(peer.id, .admitted) { log("\(peer.id) takes part (epoch \(board.epoch))") }
    let number = Self.number(of: peer.id, in: file) ?? 0
    actions.append(.admit(link, PeerNode(number: number, name: peer.id)))
    if let newestHeld { actions.append(tell(["newest": newestHeld.json], link)) }
    return actions
  }

  private func refusal(_ reason: HandshakeRefusal, _ link: LinkID) -> [ControlAction] {
    [send(.welcome, Handshake.refusal(reason), link), .close(link)]
  }

  private func note(_ greeting: Greeting, _ reason: HandshakeRefusal) {
    guard let node = greeting.called else {
      log("refused \(greeting.address): \(reason)")
      return
    }
    if board.set(node.id, .refused(reason: "\(reason)")) { log("\(node.id): \(reason)") }
    if let index = targets.firstIndex(where: { $0.node.id == node.id }) {
      // It takes a person to change this; there is no hurry.
      targets[index].pause = .seconds(1)
    }
  }

  private func send(_ kind: MessageKind, _ bytes: [UInt8], _ link: LinkID) -> ControlAction {
    var header = WireHeader(kind: kind)
    header.sender = ownNumber
    header.payloadByteCount = UInt32(bytes.count)
    return .send(header, payload: bytes, on: link)
  }

  private func lost(_ link: LinkID, _ reason: LinkLoss, _ now: Duration) {
    if let greeting = greetings.removeValue(forKey: link), case .malformed = reason {
      log("refused \(greeting.called?.id ?? greeting.address): \(reason)")
    }
    joining[link] = nil
    news.forget(link)
    probed.remove(link)
    let peer = admitted.removeValue(forKey: link)
    if let peer, !admitted.values.contains(where: { $0.id == peer.id }),
      board.set(peer.id, .unreachable(reason: "\(reason)"))
    {
      log("\(peer.id) is gone: \(reason)")
    }
    guard let index = targets.firstIndex(where: { $0.link == link }) else { return }
    targets[index].link = nil
    targets[index].nextTry = now + targets[index].pause
    targets[index].pause = min(
      max(Self.longestPause, targets[index].pause), targets[index].pause * 2)
    guard peer == nil else { return }
    let id = targets[index].node.id
    let known = board.peers.first { $0.id == id }?.state
    if case .refused? = known { return }
    if board.set(id, .unreachable(reason: "\(reason)")) {
      log("\(id) at \(targets[index].node.address): \(reason)")
    }
  }
}
