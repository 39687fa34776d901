package import Step3Model

// The attention side's book of what is under way: pure values, told of events and of the time,
// answering with actions. Whatever happens to peers and messages, every exchange that was begun
// ends exactly once: complete, with each shard's answer taken once, or failed with a reason.

/// How long an exchange waits.
package struct ExchangePolicy: Hashable, Sendable {
  /// For an answer, before the work is given to a replica, or, without one, given up.
  package var answerDeadline = Duration.seconds(10)
  /// For the return of a shard that nobody serves.
  package var hold = Duration.zero

  /// The usual times.
  package init() {}
}

/// One micro-batch's feed-forward half of one layer, at several shards.
package struct ExchangeStateMachine: Sendable {
  /// What to do.
  package enum Action: Equatable, Sendable {
    /// Send shard `shard`'s rows of slot `slot` to a node.
    case dispatch(slot: Int, shard: Int, node: Int, sequence: UInt64, isResend: Bool)
    /// All answers are there.
    case complete(slot: Int)
    /// There will be no complete answer.
    case fail(slot: Int, FeedForwardError)
  }

  /// What to do with an answer that arrives.
  package enum Verdict: Equatable, Sendable {
    /// Let it land: it is the first.
    case take
    /// Drop it: another came first, or its exchange is over.
    case drop
  }

  /// A node that serves a shard.
  package struct Node: Equatable, Sendable {
    /// Whether and how well it can be reached.
    package enum Reach: Equatable, Sendable {
      case down, up, suspected, draining

      fileprivate var rank: Int {
        switch self {
        case .up: 0
        case .draining: 1
        case .suspected: 2
        case .down: 3
        }
      }
    }
    /// The shard it serves.
    package var shard: Int
    /// For messages.
    package var name: String
    package fileprivate(set) var reach = Reach.down
    /// Answers it owes.
    package fileprivate(set) var owedCount = 0
    /// How many it may owe at a time.
    package fileprivate(set) var credit = Int.max

    /// A node that cannot be reached yet.
    package init(shard: Int, name: String) {
      self.shard = shard
      self.name = name
    }
  }

  private enum NeedState: Equatable, Sendable {
    /// Nobody has it; the exchange's failure is due at `deadline`.
    case unassigned(deadline: Duration)
    /// A node has it.
    case waiting(node: Int, deadline: Duration)
    /// Its answer is landing.
    case landing(node: Int)
    case answered
  }

  private struct Need: Equatable, Sendable {
    let shard: Int
    var state: NeedState
    var sendCount = 0
  }

  private struct Exchange: Equatable, Sendable {
    let sequence: UInt64
    let layer: Int
    var needs: [Need]
  }

  /// The nodes, in the order of the map.
  package private(set) var nodes: [Node]
  private var exchanges: [Exchange?]
  private var nextSequence: UInt64 = 1
  private let policy: ExchangePolicy
  /// Dispatches sent again, for metrics.
  package private(set) var resendCount = 0
  /// Answers dropped, for metrics.
  package private(set) var duplicateCount = 0

  /// A book of `slotCount` slots.
  package init(nodes: [Node], slotCount: Int, policy: ExchangePolicy) {
    self.nodes = nodes
    exchanges = Array(repeating: nil, count: slotCount)
    self.policy = policy
  }

  // MARK: The owner's wishes

  /// Begins the exchange of a slot with these shards.
  package mutating func begin(
    slot: Int, layer: Int, shards: [Int], now: Duration
  ) -> [Action] {
    precondition(exchanges[slot] == nil, "slot \(slot) is in use")
    let needs = shards.map { Need(shard: $0, state: .unassigned(deadline: now + policy.hold)) }
    exchanges[slot] = Exchange(sequence: nextSequence, layer: layer, needs: needs)
    nextSequence += 1
    if needs.isEmpty { return finish(slot) }
    return assign(now)
  }

  /// Forgets everything under way; answers that still come are dropped.
  package mutating func abandonAll() {
    for slot in exchanges.indices { drop(slot) }
  }

  /// Whether a slot's exchange is under way.
  package func isUnderWay(_ slot: Int) -> Bool { exchanges[slot] != nil }

  /// Whether a number is that of the exchange under way in a slot.
  package func isCurrent(slot: Int, sequence: UInt64) -> Bool {
    exchanges.indices.contains(slot) && exchanges[slot]?.sequence == sequence
  }

  /// The first shard that a slot still waits for, and the node that has its work.
  package func missing(_ slot: Int) -> (shard: Int, node: Int?)? {
    for need in exchanges[slot]?.needs ?? [] {
      switch need.state {
      case .answered: continue
      case .unassigned: return (need.shard, nil)
      case .waiting(let node, _), .landing(let node): return (need.shard, node)
      }
    }
    return nil
  }

  /// The first shard that no node serves now.
  package var unservedShard: Int? {
    let shards = Set(nodes.map(\.shard)).sorted()
    return shards.first { shard in
      !nodes.contains { $0.shard == shard && $0.reach != .down }
    }
  }

  // MARK: Answers

  /// An answer's head has come.
  package mutating func arrived(
    slot: Int, shard: Int, sequence: UInt64, from node: Int
  ) -> Verdict {
    guard exchanges.indices.contains(slot), let exchange = exchanges[slot],
      exchange.sequence == sequence,
      let index = exchange.needs.firstIndex(where: { $0.shard == shard })
    else {
      duplicateCount += 1
      return .drop
    }
    switch exchange.needs[index].state {
    case .landing, .answered:
      duplicateCount += 1
      return .drop
    case .waiting(let owner, _): settle(owner)
    case .unassigned: break
    }
    exchanges[slot]?.needs[index].state = .landing(node: node)
    return .take
  }

  /// A taken answer has landed.
  package mutating func landed(
    slot: Int, shard: Int, sequence: UInt64, from node: Int, now: Duration
  ) -> [Action] {
    guard let exchange = exchanges[slot], exchange.sequence == sequence,
      let index = exchange.needs.firstIndex(where: { $0.shard == shard }),
      exchange.needs[index].state == .landing(node: node)
    else { return [] }
    exchanges[slot]?.needs[index].state = .answered
    var actions: [Action] = []
    if exchanges[slot]?.needs.allSatisfy({ $0.state == .answered }) == true {
      actions = finish(slot)
    }
    return actions + assign(now)
  }

  /// A node cannot serve a dispatch.
  package mutating func refused(
    slot: Int, shard: Int, sequence: UInt64, by node: Int, reason: String, now: Duration
  ) -> [Action] {
    guard exchanges.indices.contains(slot), let exchange = exchanges[slot],
      exchange.sequence == sequence,
      let index = exchange.needs.firstIndex(where: { $0.shard == shard }),
      case .waiting(node, let deadline) = exchange.needs[index].state
    else { return [] }
    settle(node)
    let others = nodes.indices.filter { $0 != node && canServe($0, shard) }
    guard let other = others.first else {
      let error = FeedForwardError.refused(
        layer: exchange.layer, peer: nodes[node].name, reason: reason)
      drop(slot)
      return [.fail(slot: slot, error)] + assign(now)
    }
    return [give(slot, index, to: other, deadline: deadline)]
  }

  // MARK: Nodes

  /// A node can be reached.
  package mutating func nodeIsUp(_ node: Int, now: Duration) -> [Action] {
    nodes[node].reach = .up
    return assign(now)
  }

  /// A node is gone: what it owes, or was giving, others must do.
  package mutating func nodeIsDown(_ node: Int, now: Duration) -> [Action] {
    nodes[node].reach = .down
    nodes[node].owedCount = 0
    nodes[node].credit = .max
    for slot in exchanges.indices {
      guard let exchange = exchanges[slot] else { continue }
      for (index, need) in exchange.needs.enumerated() {
        switch need.state {
        case .waiting(node, _), .landing(node):
          exchanges[slot]?.needs[index].state = .unassigned(deadline: now + policy.hold)
        default: break
        }
      }
    }
    return assign(now) + advance(to: now)
  }

  /// A node has not been heard of: its work goes to replicas, if there are any; a late answer is
  /// still welcome.
  package mutating func nodeIsSuspected(_ node: Int, now: Duration) -> [Action] {
    if nodes[node].reach == .up { nodes[node].reach = .suspected }
    var actions: [Action] = []
    for slot in exchanges.indices {
      for index in exchanges[slot]?.needs.indices ?? 0..<0 {
        guard let need = exchanges[slot]?.needs[index],
          case .waiting(node, let deadline) = need.state,
          let other = replica(of: need.shard, except: node)
        else { continue }
        settle(node)
        actions.append(give(slot, index, to: other, deadline: deadline))
      }
    }
    return actions
  }

  /// A suspected node is heard again.
  package mutating func nodeIsTrusted(_ node: Int, now: Duration) -> [Action] {
    if nodes[node].reach == .suspected { nodes[node].reach = .up }
    return assign(now)
  }

  /// A node is about to leave: it gets new work only where there is no other.
  package mutating func nodeDrains(_ node: Int) {
    if nodes[node].reach != .down { nodes[node].reach = .draining }
  }

  /// How many answers a node may owe.
  package mutating func setCredit(_ credit: Int, of node: Int, now: Duration) -> [Action] {
    nodes[node].credit = max(1, credit)
    return assign(now)
  }

  // MARK: Time

  /// The next time at which something is due; nil for never.
  package var nextDeadline: Duration? {
    var next: Duration?
    for exchange in exchanges {
      for need in exchange?.needs ?? [] {
        switch need.state {
        case .unassigned(let deadline):
          let due =
            isHeldBackByCredit(need.shard) ? deadline + policy.answerDeadline : deadline
          next = min(next ?? due, due)
        case .waiting(_, let deadline): next = min(next ?? deadline, deadline)
        case .landing, .answered: break
        }
      }
    }
    return next
  }

  /// Does what is due.
  package mutating func advance(to now: Duration) -> [Action] {
    var actions: [Action] = []
    for slot in exchanges.indices { actions += advance(slot, to: now) }
    return actions
  }

  private mutating func advance(_ slot: Int, to now: Duration) -> [Action] {
    var actions: [Action] = []
    for index in exchanges[slot]?.needs.indices ?? 0..<0 {
      guard let exchange = exchanges[slot] else { break }
      let need = exchange.needs[index]
      switch need.state {
      case .unassigned(let deadline) where now >= deadline && !isHeldBackByCredit(need.shard):
        let name = nodes.first { $0.shard == need.shard }?.name ?? "shard \(need.shard)"
        drop(slot)
        return actions + [.fail(slot: slot, .peerLost(layer: exchange.layer, peer: name))]
      case .unassigned(let deadline) where now >= deadline + policy.answerDeadline:
        drop(slot)
        return actions + [
          .fail(slot: slot, .timedOut(layer: exchange.layer, microBatch: slot))
        ]
      case .waiting(let node, let deadline) where now >= deadline:
        guard let other = replica(of: need.shard, except: node), need.sendCount < 4 else {
          drop(slot)
          return actions + [
            .fail(slot: slot, .timedOut(layer: exchange.layer, microBatch: slot))
          ]
        }
        settle(node)
        actions.append(give(slot, index, to: other, deadline: now + policy.answerDeadline))
      default: break
      }
    }
    return actions
  }

  // MARK: Inside

  private func canServe(_ node: Int, _ shard: Int) -> Bool {
    nodes[node].shard == shard && nodes[node].reach == .up
      && nodes[node].owedCount < nodes[node].credit
  }

  private func isHeldBackByCredit(_ shard: Int) -> Bool {
    nodes.contains { $0.shard == shard && $0.reach != .down }
  }

  private func replica(of shard: Int, except node: Int) -> Int? {
    nodes.indices.filter { $0 != node && canServe($0, shard) }
      .min { (nodes[$0].owedCount, $0) < (nodes[$1].owedCount, $1) }
  }

  /// Gives unassigned work to nodes: the one that owes least; leaving and suspected ones only where
  /// there is no other.
  private mutating func assign(_ now: Duration) -> [Action] {
    var actions: [Action] = []
    for slot in exchanges.indices {
      for index in exchanges[slot]?.needs.indices ?? 0..<0 {
        guard let need = exchanges[slot]?.needs[index], case .unassigned = need.state else {
          continue
        }
        let able = nodes.indices.filter { node in
          nodes[node].shard == need.shard && nodes[node].owedCount < nodes[node].credit
            && nodes[node].reach != .down
        }
        let best = able.min { left, right in
          let (a, b) = (nodes[left], nodes[right])
          return (a.reach.rank, a.owedCount, left) < (b.reach.rank, b.owedCount, right)
        }
        guard let best else { continue }
        actions.append(give(slot, index, to: best, deadline: now + policy.answerDeadline))
      }
    }
    return actions
  }

  private mutating func give(
    _ slot: Int, _ index: Int, to node: Int, deadline: Duration
  ) -> Action {
    guard var exchange = exchanges[slot] else { preconditionFailure("slot \(slot) is not in use") }
    exchange.needs[index].state = .waiting(node: node, deadline: deadline)
    exchange.needs[index].sendCount += 1
    let isResend = exchange.needs[index].sendCount > 1
    exchanges[slot] = exchange
    nodes[node].owedCount += 1
    if isResend { resendCount += 1 }
    return .dispatch(
      slot: slot, shard: exchange.needs[index].shard, node: node, sequence: exchange.sequence,
      isResend: isResend)
  }

  /// A node owes one answer less.
  private mutating func settle(_ node: Int) {
    nodes[node].owedCount = max(0, nodes[node].owedCount - 1)
  }

  private mutating func finish(_ slot: Int) -> [Action] {
    exchanges[slot] = nil
    return [.complete(slot: slot)]
  }

  private mutating func drop(_ slot: Int) {
    for need in exchanges[slot]?.needs ?? [] {
      if case .waiting(let node, _) = need.state { settle(node) }
    }
    exchanges[slot] = nil
  }
}
