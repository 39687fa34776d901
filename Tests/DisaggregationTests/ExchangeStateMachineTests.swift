import Disaggregation
import DisaggregationTestSupport
import Step3Model
import Testing

/// The book of exchanges against random peers: no transport, no model, only its promise that every
/// exchange ends once, and rightly.
@Suite("Exchange state machine")
struct ExchangeStateMachineTests {
  private typealias Machine = ExchangeStateMachine

  private func machine(
    _ shards: [Int], slots: Int = 2, hold: Duration = .zero
  ) -> ExchangeStateMachine {
    var policy = ExchangePolicy()
    policy.answerDeadline = .milliseconds(100)
    policy.hold = hold
    return ExchangeStateMachine(
      nodes: shards.enumerated().map { .init(shard: $1, name: "n\($0)") }, slotCount: slots,
      policy: policy)
  }

  @Test("an exchange with one shard is dispatched, taken once and complete")
  func plain() {
    var book = machine([0])
    #expect(book.nodeIsUp(0, now: .zero) == [])
    #expect(
      book.begin(slot: 0, layer: 5, shards: [0], now: .zero) == [
        .dispatch(slot: 0, shard: 0, node: 0, sequence: 1, isResend: false)
      ])
    #expect(book.arrived(slot: 0, shard: 0, sequence: 1, from: 0) == .take)
    #expect(book.arrived(slot: 0, shard: 0, sequence: 1, from: 0) == .drop)
    #expect(
      book.landed(slot: 0, shard: 0, sequence: 1, from: 0, now: .zero) == [.complete(slot: 0)])
    #expect(book.arrived(slot: 0, shard: 0, sequence: 1, from: 0) == .drop)
    #expect(book.nodes[0].owedCount == 0 && book.duplicateCount == 2)
  }

  @Test("a lost node's work goes to its replica, and only that shard's")
  func replica() {
    var book = machine([0, 1, 1])
    for node in 0..<3 { _ = book.nodeIsUp(node, now: .zero) }
    _ = book.begin(slot: 0, layer: 0, shards: [0, 1], now: .zero)
    #expect(
      book.nodeIsDown(1, now: .zero) == [
        .dispatch(slot: 0, shard: 1, node: 2, sequence: 1, isResend: true)
      ])
    #expect(book.arrived(slot: 0, shard: 1, sequence: 1, from: 1) == .take)
  }

  @Test("without a replica it fails at once, or after the time that it shall hold")
  func hold() {
    var book = machine([0])
    _ = book.nodeIsUp(0, now: .zero)
    _ = book.begin(slot: 1, layer: 3, shards: [0], now: .zero)
    #expect(
      book.nodeIsDown(0, now: .zero) == [.fail(slot: 1, .peerLost(layer: 3, peer: "n0"))])
    #expect(!book.isUnderWay(1))

    book = machine([0], hold: .seconds(1))
    _ = book.nodeIsUp(0, now: .zero)
    _ = book.begin(slot: 1, layer: 3, shards: [0], now: .zero)
    #expect(book.nodeIsDown(0, now: .zero) == [])
    #expect(book.nextDeadline == .seconds(1))
    #expect(
      book.nodeIsUp(0, now: .milliseconds(500)) == [
        .dispatch(slot: 1, shard: 0, node: 0, sequence: 1, isResend: true)
      ])
  }

  @Test("an answer that is late goes to a replica first, then times out")
  func deadline() {
    var book = machine([0, 0])
    _ = book.nodeIsUp(0, now: .zero)
    _ = book.begin(slot: 0, layer: 1, shards: [0], now: .zero)
    _ = book.nodeIsUp(1, now: .zero)
    #expect(
      book.advance(to: .milliseconds(100)) == [
        .dispatch(slot: 0, shard: 0, node: 1, sequence: 1, isResend: true)
      ])
    _ = book.nodeIsDown(0, now: .milliseconds(150))
    #expect(
      book.advance(to: .milliseconds(200)) == [.fail(slot: 0, .timedOut(layer: 1, microBatch: 0))])
  }

  @Test("credit bounds what a node owes, and frees the next when it answers")
  func credit() {
    var book = machine([0], slots: 2)
    _ = book.nodeIsUp(0, now: .zero)
    _ = book.setCredit(1, of: 0, now: .zero)
    #expect(book.begin(slot: 0, layer: 0, shards: [0], now: .zero).count == 1)
    #expect(book.begin(slot: 1, layer: 0, shards: [0], now: .zero) == [])
    #expect(book.advance(to: .milliseconds(50)) == [])
    #expect(book.arrived(slot: 0, shard: 0, sequence: 1, from: 0) == .take)
    #expect(
      book.landed(slot: 0, shard: 0, sequence: 1, from: 0, now: .milliseconds(60)) == [
        .complete(slot: 0),
        .dispatch(slot: 1, shard: 0, node: 0, sequence: 2, isResend: false),
      ])
  }

  @Test("random peers: every exchange ends once, complete only with every shard's answer")
  func randomSchedules() {
    for seed in 0..<3000 as Range<UInt64> {
      var world = RandomWorld(seed: seed)
      world.run()
      #expect(world.faults.isEmpty, "seed \(seed): \(world.faults)")
    }
  }
}

/// Peers that answer, repeat themselves, fall silent, die, return and leave as the seed says.
private struct RandomWorld {
  private var generator: SplitMix
  private var book: ExchangeStateMachine
  private let shardOfNode: [Int]
  private let slotCount: Int
  private var now = Duration.zero
  private var begun: [UInt64: Begun] = [:]
  private var current: [UInt64?]
  private var lastSequence: UInt64 = 0
  /// Answers on their way: (slot, shard, sequence, node).
  private var letters: [(Int, Int, UInt64, Int)] = []
  private var landing: [(Int, Int, UInt64, Int)] = []
  private(set) var faults: [String] = []

  private struct Begun {
    var slot: Int
    var shards: [Int]
    var taken: [Int] = []
    var ends = 0
  }

  init(seed: UInt64) {
    generator = SplitMix(seed: seed)
    let shardCount = Int.random(in: 1...3, using: &generator)
    var shards = Array(0..<shardCount)
    for _ in 0..<Int.random(in: 0...3, using: &generator) {
      shards.append(.random(in: 0..<shardCount, using: &generator))
    }
    shardOfNode = shards
    slotCount = .random(in: 1...4, using: &generator)
    current = Array(repeating: nil, count: slotCount)
    var policy = ExchangePolicy()
    policy.answerDeadline = .milliseconds(.random(in: 5...50, using: &generator))
    policy.hold = Bool.random(using: &generator) ? .zero : .milliseconds(20)
    book = ExchangeStateMachine(
      nodes: shards.enumerated().map { .init(shard: $1, name: "n\($0)") },
      slotCount: slotCount, policy: policy)
  }

  mutating func run() {
    for node in shardOfNode.indices { perform(book.nodeIsUp(node, now: now)) }
    for _ in 0..<80 {
      now += .microseconds(.random(in: 0...4000, using: &generator))
      perform(book.advance(to: now))
      turn()
    }
    // Time passes without peers: what is open fails by its deadlines.
    for node in shardOfNode.indices { perform(book.nodeIsDown(node, now: now)) }
    for _ in 0..<100 {
      guard let due = book.nextDeadline else { break }
      now = max(now, due)
      perform(book.advance(to: now))
    }
    landing = []
    for (sequence, exchange) in begun where exchange.ends != 1 {
      faults.append("exchange \(sequence) ended \(exchange.ends) times")
    }
    for node in book.nodes where node.owedCount != 0 { faults.append("\(node.name) owes") }
  }

  private mutating func turn() {
    let node = Int.random(in: 0..<shardOfNode.count, using: &generator)
    switch Int.random(in: 0..<20, using: &generator) {
    case 0..<7: begin()
    case 7..<13: deliver()
    case 13, 14: land()
    case 15: perform(book.nodeIsUp(node, now: now))
    case 16:
      landing.removeAll { $0.3 == node }
      perform(book.nodeIsDown(node, now: now))
    case 17:
      perform(book.nodeIsSuspected(node, now: now))
      if Bool.random(using: &generator) { perform(book.nodeIsTrusted(node, now: now)) }
    case 18:
      if Bool.random(using: &generator) {
        book.nodeDrains(node)
      } else {
        perform(book.setCredit(.random(in: 1...3, using: &generator), of: node, now: now))
      }
    default:
      guard let letter = letters.randomElement(using: &generator) else { return }
      perform(
        book.refused(
          slot: letter.0, shard: letter.1, sequence: letter.2, by: letter.3, reason: "no",
          now: now))
    }
  }

  private mutating func begin() {
    guard let slot = current.firstIndex(of: nil) else { return }
    let all = Array(Set(shardOfNode)).sorted()
    let shards = all.filter { _ in Int.random(in: 0..<4, using: &generator) > 0 }
    lastSequence += 1
    begun[lastSequence] = Begun(slot: slot, shards: shards)
    current[slot] = lastSequence
    perform(book.begin(slot: slot, layer: 0, shards: shards, now: now))
    perform(book.advance(to: now))
  }

  private mutating func deliver() {
    guard !letters.isEmpty else { return }
    let index = Int.random(in: 0..<letters.count, using: &generator)
    let letter = letters[index]
    // Some come twice, and some long after their exchange.
    if Int.random(in: 0..<4, using: &generator) > 0 { letters.remove(at: index) }
    let verdict = book.arrived(
      slot: letter.0, shard: letter.1, sequence: letter.2, from: letter.3)
    guard verdict == .take else { return }
    if current[letter.0] != letter.2 { faults.append("an old answer was taken") }
    landing.append(letter)
    if Bool.random(using: &generator) { land() }
  }

  private mutating func land() {
    guard !landing.isEmpty else { return }
    let letter = landing.removeFirst()
    let actions = book.landed(
      slot: letter.0, shard: letter.1, sequence: letter.2, from: letter.3, now: now)
    if current[letter.0] == letter.2 { begun[letter.2]?.taken.append(letter.1) }
    perform(actions)
  }

  private mutating func perform(_ actions: [ExchangeStateMachine.Action]) {
    for action in actions {
      switch action {
      case .dispatch(let slot, let shard, let node, let sequence, _):
        if shardOfNode[node] != shard { faults.append("shard \(shard) went to node \(node)") }
        if current[slot] != sequence { faults.append("slot \(slot) sent an old exchange") }
        if book.nodes[node].owedCount > book.nodes[node].credit {
          faults.append("node \(node) owes more than its credit")
        }
        letters.append((slot, shard, sequence, node))
      case .complete(let slot):
        guard let sequence = current[slot], let exchange = begun[sequence] else {
          faults.append("slot \(slot) is complete without an exchange")
          continue
        }
        if exchange.taken.sorted() != exchange.shards {
          faults.append("\(sequence) is complete with \(exchange.taken) of \(exchange.shards)")
        }
        end(slot)
      case .fail(let slot, _): end(slot)
      }
    }
  }

  private mutating func end(_ slot: Int) {
    guard let sequence = current[slot] else {
      faults.append("slot \(slot) ended twice")
      return
    }
    begun[sequence]?.ends += 1
    current[slot] = nil
    landing.removeAll { $0.2 == sequence }
  }
}
