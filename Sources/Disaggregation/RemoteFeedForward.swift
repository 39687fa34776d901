// The attention side of the cut. `submit` packs the rows for each shard and posts them; `collect`
// lets the transport work until every shard has answered, and adds what they sent. What is under
// way, what goes to whom again and what fails is decided by `ExchangeStateMachine`; this class
// moves the bytes and minds who owns which memory.

import Kernels
import ModelConfiguration
package import Step3Model
import Tensors

/// A node that serves a shard.
package struct ServingNode: Hashable, Sendable {
  /// Its number in the cluster.
  package var number: UInt16
  /// Its name, for messages.
  package var name: String
  /// The shard that it serves; several nodes may serve one.
  package var shard: Int

  /// A node.
  package init(number: UInt16, name: String, shard: Int) {
    self.number = number
    self.name = name
    self.shard = shard
  }
}

/// Which shards get a token.
package enum DispatchMode: String, Hashable, Sendable {
  /// Those that hold something for it.
  case selected
  /// All of them.
  case broadcast
}

/// How an attention process uses FFN processes.
package struct RemoteOptions: Sendable {
  /// Who holds what.
  package var map: ExpertMap
  /// Who serves which shard.
  package var nodes: [ServingNode]
  /// Shards that this process computes itself.
  package var localShards: [Int] = []
  /// How values travel.
  package var format: ExchangeFormat
  /// Which shards get a token.
  package var dispatch = DispatchMode.selected
  /// How long exchanges wait.
  package var policy = ExchangePolicy()
  /// When silent peers are suspected.
  package var timeouts = LinkTimeouts()
  /// Whether payloads carry a checksum.
  package var checksPayloads = false

  /// Choices for a map and its nodes.
  package init(map: ExpertMap, nodes: [ServingNode], format: ExchangeFormat) {
    self.map = map
    self.nodes = nodes
    self.format = format
  }
}

/// The feed-forward half computed by other processes.
package final class RemoteFeedForward<T: Transport> {
  /// What is under way for one slot.
  struct Outgoing {
    var layer: Int
    var tokenCount: Int
    var isPrefill: Bool
    /// By shard: which rows it gets, and the block they lie in.
    var packed: [Int: Packed] = [:]
    var answers: [ShardAnswer?]
    var copies: CopyChoice
    var answerBlocks: [Int] = []
    var outcome: Outcome?
  }

  enum Outcome {
    case complete
    case failed(FeedForwardError)
  }

  struct Packed {
    var block: Int
    var rowCount: Int
    var rows: [Int32]?
  }

  struct Landing {
    var link: LinkID
    var node: Int
    var shard: Int
    var slot: Int
    var sequence: UInt64
    var block: Int
    var byteCount: Int
    /// When its head came.
    var arrived: Duration
  }

  let hub: LinkHub<T>
  /// Its choices; the map is the one in use.
  package private(set) var options: RemoteOptions
  let context: FeedForwardContext
  private(set) var shares: [[[ShareKey]]]
  /// The holders of experts that have several.
  private(set) var copies: [Int: [Int]]
  private(set) var plans: [CombinationPlan]
  private var nextMap: ExpertMap?
  var machine: ExchangeStateMachine
  /// The link of each node, where it is admitted.
  var linkOfNode: [LinkID?]
  var outgoing: [Outgoing?]
  var sendBlocks: SlotPool<T>
  var answerBlocks: SlotPool<T>
  /// Who still needs a block of rows: its exchange, and sends that the transport has not finished.
  var blockUses: [Int: Int] = [:]
  var sending: [SendToken: (block: Int, link: LinkID)] = [:]
  var landings: [ArrivalID: Landing] = [:]
  var nextToken: UInt64 = 0
  var local: [LocalShard]
  private var combiner: Combiner
  /// What the stages take.
  package var planner = PipelinePlanner()
  /// The step's number, for who is served first.
  var step: UInt64 = 0
  /// Counters and stamps.
  package internal(set) var statistics: ExchangeStatistics

  /// A shard that this process computes.
  final class LocalShard {
    let shard: Int
    var compute: ShardCompute
    init(shard: Int, compute: consuming ShardCompute) {
      self.shard = shard
      self.compute = compute
    }
  }

  /// Prepares everything but connections, which the control plane makes.
  package init(
    context: FeedForwardContext, options: RemoteOptions, transport: T, control: any ControlPlane
  ) throws(ExpertMapError) {
    let hasMixtures = context.configuration.isMixtureLayer.contains(true)
    try options.map.check(expertCount: hasMixtures ? context.configuration.expertCount : 0)
    self.context = context
    self.options = options
    hub = LinkHub(
      transport: transport, control: control, timeouts: options.timeouts, watchesPeers: true)
    let isExact = options.format.isExact
    shares = context.layers.map { options.map.shares(of: $0) }
    copies = options.map.copies
    plans = zip(context.layers, shares).map {
      CombinationPlan(layer: $0, shares: $1, isExact: isExact)
    }
    machine = ExchangeStateMachine(
      nodes: options.nodes.map { .init(shard: $0.shard, name: $0.name) },
      slotCount: context.microBatchLimit, policy: options.policy)
    linkOfNode = options.nodes.map { _ in nil }
    outgoing = (0..<context.microBatchLimit).map { _ in nil }
    let columns = context.configuration.hiddenSize
    let largest = DispatchLayout(
      rowCount: context.tokenLimit, columns: columns,
      topK: context.configuration.expertsPerToken, type: options.format.activations)
    let planeLimit = plans.flatMap(\.planeCounts).max() ?? 1
    let blockLimit = 4 * context.microBatchLimit * (options.map.parts.count + 1)
    sendBlocks = SlotPool(
      transport: transport, byteCount: largest.byteCount, limit: blockLimit)
    answerBlocks = SlotPool(
      transport: transport,
      byteCount: planeLimit * context.tokenLimit * options.format.results.rowByteCount(columns),
      limit: blockLimit)
    combiner = Combiner(columns: columns)
    local = options.localShards.map { shard in
      LocalShard(
        shard: shard,
        compute: ShardCompute(
          map: options.map, shard: shard, layers: context.layers,
          configuration: context.configuration, activation: context.activation,
          tokenLimit: context.tokenLimit, compute: context.compute))
    }
    statistics = ExchangeStatistics(
      slotCount: context.microBatchLimit, nodeCount: options.nodes.count)
    hub.poll()
    context.compute.team.callBetweenChunks { [hub] in hub.pollWhileComputing() }
  }

  deinit {
    context.compute.team.callBetweenChunks(nil)
    hub.closeAll()
  }

  /// Its transport, for wake-ups and the time.
  package var transport: T { hub.transport }
  /// The admitted FFN processes.
  package var links: [AdmittedLink] { hub.links }

  /// Names of shards' nodes that are needed and not there.
  package var missingPeers: [String] {
    let shards = Set(options.nodes.map(\.shard)).sorted()
    return shards.flatMap { shard -> [String] in
      let nodes = machine.nodes.filter { $0.shard == shard }
      return nodes.contains { $0.reach != .down } ? [] : nodes.map(\.name)
    }
  }

  /// Uses another map from the next step on; every node must hold its shard of it by then. The
  /// shards keep their numbers, and those that this process computes their parts.
  package func adopt(_ map: ExpertMap) throws(ExpertMapError) {
    let hasMixtures = context.configuration.isMixtureLayer.contains(true)
    try map.check(expertCount: hasMixtures ? context.configuration.expertCount : 0)
    precondition(
      map.parts.count == options.map.parts.count
        && options.localShards.allSatisfy { map.parts[$0] == options.map.parts[$0] }
        && map.copies.values.allSatisfy { Set($0).isDisjoint(with: options.localShards) },
      "a map of other shards")
    nextMap = map
  }

  private func take(_ map: ExpertMap) {
    nextMap = nil
    options.map = map
    shares = context.layers.map { map.shares(of: $0) }
    copies = map.copies
    let isExact = options.format.isExact
    plans = zip(context.layers, shares).map {
      CombinationPlan(layer: $0, shares: $1, isExact: isExact)
    }
    answerBlocks.grow(toHold: answerByteCount)
  }

  /// Bytes of the largest answer.
  private var answerByteCount: Int {
    (plans.flatMap(\.planeCounts).max() ?? 1) * context.tokenLimit
      * options.format.results.rowByteCount(context.configuration.hiddenSize)
  }

  /// Forgets times and exchanges, for measurements.
  package func resetStatistics() { statistics.reset() }

  /// Lets the transport work until every shard is served or it is `deadline`.
  package func connect(until deadline: Duration) -> Bool {
    while !missingPeers.isEmpty {
      if transport.now >= deadline { return false }
      hub.wait(until: deadline)
      pump()
    }
    return true
  }

  // MARK: The loop

  /// Lets the transport work and takes in what happened.
  func pump() {
    hub.poll()
    while let event = hub.nextEvent() { handle(event) }
    perform(machine.advance(to: transport.now))
  }

  private func handle(_ event: LinkEvent) {
    let now = transport.now
    switch event {
    case .admitted(let link, let peer): admitted(link, peer, now)
    case .suspected(let link):
      if let node = node(of: link) { perform(machine.nodeIsSuspected(node, now: now)) }
    case .recovered(let link):
      if let node = node(of: link) { perform(machine.nodeIsTrusted(node, now: now)) }
    case .lost(let link, _, _): lost(link, now)
    case .message(let link, let header, let payload): message(link, header, payload, now)
    case .arrived(let link, let header, let id, let time): arrived(link, header, id, at: time)
    case .received(_, let header, let id): received(header, id, now)
    case .sent(_, let token):
      if let (block, _) = sending.removeValue(forKey: token) { release(block) }
    case .adopt(let map):
      // Checked where it was proposed.
      try? adopt(map)
    case .drain, .hold: break
    }
  }

  func node(of link: LinkID) -> Int? { linkOfNode.firstIndex(of: link) }

  private func admitted(_ link: LinkID, _ peer: PeerNode, _ now: Duration) {
    guard let node = options.nodes.firstIndex(where: { $0.number == peer.number }) else {
      hub.close(link)
      return
    }
    if let old = linkOfNode[node] {
      // It has come back before its old link was found dead.
      lost(old, now)
      hub.close(old)
    }
    linkOfNode[node] = link
    perform(machine.nodeIsUp(node, now: now))
  }

  private func lost(_ link: LinkID, _ now: Duration) {
    for token in sending.filter({ $0.value.link == link }).keys.sorted(by: { $0.value < $1.value })
    {
      if let (block, _) = sending.removeValue(forKey: token) { release(block) }
    }
    for id in landings.filter({ $0.value.link == link }).keys.sorted(by: { $0.value < $1.value }) {
      if let landing = landings.removeValue(forKey: id) { answerBlocks.give(landing.block) }
    }
    guard let node = node(of: link) else { return }
    linkOfNode[node] = nil
    statistics.lostLinkCount += 1
    perform(machine.nodeIsDown(node, now: now))
  }

  private func message(
    _ link: LinkID, _ header: WireHeader, _ payload: [UInt8], _ now: Duration
  ) {
    guard let node = node(of: link) else { return }
    switch header.kind {
    case .credit:
      perform(machine.setCredit(Int(header.tokens), of: node, now: now))
    case .drain: machine.nodeDrains(node)
    case .error:
      perform(
        machine.refused(
          slot: Int(header.slot), shard: Int(header.shard), sequence: header.sequence, by: node,
          reason: String(decoding: payload.prefix(300), as: UTF8.self), now: now))
    case .bye: hub.close(link)
    default: break
    }
  }

  func perform(_ actions: [ExchangeStateMachine.Action]) {
    for action in actions {
      switch action {
      case .dispatch(let slot, let shard, let node, let sequence, let isResend):
        send(slot, shard, node, sequence, isResend: isResend)
      case .complete(let slot): outgoing[slot]?.outcome = .complete
      case .fail(let slot, let error): outgoing[slot]?.outcome = .failed(error)
      }
    }
  }

  // MARK: Out

  private func send(
    _ slot: Int, _ shard: Int, _ node: Int, _ sequence: UInt64, isResend: Bool
  ) {
    guard let link = linkOfNode[node], let current = outgoing[slot],
      let packed = current.packed[shard]
    else { return }
    let layout = layout(layer: current.layer, rowCount: packed.rowCount)
    var header = hub.header(.dispatch)
    header.mapEpoch = options.map.epoch
    header.shard = UInt16(shard)
    header.layer = UInt16(current.layer)
    header.slot = UInt16(slot)
    header.tokens = UInt32(packed.rowCount)
    header.valueType = layout.type.exchangeType
    header.scaleKind = layout.type.scaleKind
    header.topK = UInt8(layout.topK)
    // What the answer shall be: the number of partial sums says whether it is exact.
    header.partials = UInt8(plans[current.layer].planeCounts[shard])
    header.sequence = sequence
    header.step = step
    header.deadlineMicroseconds = UInt32(
      clamping: options.policy.answerDeadline.nanoseconds / 1000)
    header.payloadByteCount = UInt32(layout.byteCount)
    if options.format.results == .float32 { header.flags.insert(.exactResults) }
    if current.isPrefill { header.flags.insert(.prefill) }
    if isResend { header.flags.insert(.resend) }
    if current.layer == context.layers.count - 1 { header.flags.insert(.lastLayer) }
    let slice = sendBlocks.slice(packed.block, layout.byteCount)
    if options.checksPayloads {
      header.flags.insert(.checksum)
      header.payloadChecksum = slice.withBytes { Checksum.crc32c($0) }
    }
    nextToken += 1
    let token = SendToken(nextToken)
    do throws(TransportError) {
      try transport.send(header, payload: slice, on: link, token: token)
      sending[token] = (packed.block, link)
      blockUses[packed.block, default: 0] += 1
      statistics.sent(node: node, byteCount: layout.byteCount, isResend: isResend)
    } catch {
      // The link is over; its loss comes with the next events and gives the work to others.
    }
  }

  private func layout(layer: Int, rowCount: Int) -> DispatchLayout {
    DispatchLayout(
      rowCount: rowCount, columns: context.configuration.hiddenSize,
      topK: context.configuration.isMixtureLayer[layer]
        ? context.configuration.expertsPerToken : 0,
      type: options.format.activations)
  }

  /// One use of a block of rows is over.
  private func release(_ block: Int) {
    guard let uses = blockUses[block] else { preconditionFailure("block \(block) is free") }
    if uses > 1 {
      blockUses[block] = uses - 1
    } else {
      blockUses[block] = nil
      sendBlocks.give(block)
    }
  }

  /// A block to pack rows into; when the peers hold all of them, the links of those that are
  /// silent are closed.
  private func takeSendBlock() throws(FeedForwardError) -> Int {
    while true {
      do throws(TransportError) {
        if let block = try sendBlocks.take() { return block }
      } catch { throw .outOfSlots(reason: "\(error)") }
      guard let stuck = sending.min(by: { $0.key.value < $1.key.value })?.value.link else {
        throw .outOfSlots(reason: "every block of rows is in use")
      }
      hub.close(stuck)
      hub.wait(until: transport.now + .milliseconds(10))
      pump()
    }
  }

  private func pack(
    _ slot: Int, _ layer: Int, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) -> [Int] {
    let tokenCount = microBatch.tokens.count
    var shards: [Int] = []
    var whole: Int?
    let choice = outgoing[slot]?.copies ?? CopyChoice()
    for shard in options.map.parts.indices where !shares[layer][shard].isEmpty {
      let rows = rows(for: shard, layer, microBatch, choice)
      if let rows, rows.isEmpty { continue }
      if options.localShards.contains(shard) { continue }
      shards.append(shard)
      let rowCount = rows?.count ?? tokenCount
      // Where shards hold copies, each is told what to leave to the others.
      if rows == nil, copies.isEmpty, let block = whole {
        blockUses[block, default: 0] += 1
        outgoing[slot]?.packed[shard] = Packed(block: block, rowCount: rowCount, rows: nil)
        continue
      }
      let block = try takeSendBlock()
      blockUses[block] = 1
      if rows == nil { whole = block }
      let layout = layout(layer: layer, rowCount: rowCount)
      layout.write(
        microBatch.normed, microBatch.routing, rows: rows, for: shard, choice,
        to: sendBlocks.slice(block, layout.byteCount))
      outgoing[slot]?.packed[shard] = Packed(block: block, rowCount: rowCount, rows: rows)
    }
    return shards
  }

  /// Frees what a slot holds.
  private func clear(_ slot: Int) {
    guard let current = outgoing[slot] else { return }
    for shard in current.packed.keys.sorted() {
      if let packed = current.packed[shard] { release(packed.block) }
    }
    for block in current.answerBlocks { answerBlocks.give(block) }
    outgoing[slot] = nil
  }
}

// MARK: - The cut

extension RemoteFeedForward: FeedForwardService {
  /// Counts the steps, and takes on a new map.
  package func beginStep() {
    step += 1
    if let map = nextMap { take(map) }
    statistics.beginStep(step, now: transport.now)
  }

  /// Sends the micro-batch's rows to the shards that hold something for them.
  package func submit(
    _ layer: LayerIndex, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) {
    let (slot, index) = (microBatch.index, layer.value)
    precondition(outgoing[slot] == nil, "micro-batch \(slot) is under way")
    statistics.submitting(layer: index, slot: slot, now: transport.now)
    pump()
    outgoing[slot] = Outgoing(
      layer: index, tokenCount: microBatch.tokens.count, isPrefill: microBatch.isPrefill,
      answers: options.map.parts.map { _ in nil },
      copies: copyChoice(index, microBatch))
    do throws(FeedForwardError) {
      let shards = try pack(slot, index, microBatch)
      perform(
        machine.begin(slot: slot, layer: index, shards: shards, now: transport.now))
      try runLocalShards(slot, index, microBatch)
    } catch {
      abandonAll()
      throw error
    }
    hub.transport.progress()
    statistics.submitted(
      layer: index, slot: slot, tokenCount: microBatch.tokens.count, now: transport.now)
  }

  /// Waits for the shards' answers and adds them.
  package func collect(
    _ layer: LayerIndex, into microBatch: inout MicroBatch
  ) throws(FeedForwardError) {
    let slot = microBatch.index
    statistics.collecting(slot: slot, now: transport.now)
    pump()
    while true {
      guard let current = outgoing[slot] else {
        preconditionFailure("micro-batch \(slot) was not submitted")
      }
      precondition(current.layer == layer.value, "layer \(layer.value) was not submitted")
      switch current.outcome {
      case .complete:
        statistics.complete(slot: slot, now: transport.now)
        combiner.combine(
          plans[layer.value], current.answers, microBatch.routing, current.copies,
          tokenCount: current.tokenCount, into: &microBatch.feedForwardOutput)
        clear(slot)
        if let record = statistics.combined(slot: slot, now: transport.now) { learn(record) }
        return
      case .failed(let error):
        statistics.failureCount += 1
        abandonAll()
        throw error
      case nil:
        let now = transport.now
        hub.wait(until: min(machine.nextDeadline ?? .seconds(1 << 30), now + .seconds(1)))
        pump()
      }
    }
  }

  /// Moves bytes.
  package func progress() { hub.transport.progress() }

  /// Follows links and heartbeats while there are no requests.
  package func idle() { pump() }

  private func runLocalShards(
    _ slot: Int, _ layer: Int, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) {
    for shard in local where !shares[layer][shard.shard].isEmpty {
      let tokenCount = microBatch.tokens.count
      let results = options.format.results
      let planeCount = plans[layer].planeCounts[shard.shard]
      let byteCount =
        planeCount * tokenCount * results.rowByteCount(context.configuration.hiddenSize)
      let found: Int?
      do throws(TransportError) {
        found = try answerBlocks.take()
      } catch { throw .outOfSlots(reason: "\(error)") }
      guard let block = found else {
        throw .outOfSlots(reason: "every block of answers is in use")
      }
      let slice = answerBlocks.slice(block, byteCount)
      outgoing[slot]?.answerBlocks.append(block)
      shard.compute.run(
        layer: layer, microBatch.normed, microBatch.routing, tokenCount: tokenCount,
        results: results,
        parts: [ShardCompute.Part(firstRow: 0, rowCount: tokenCount, target: slice)])
      outgoing[slot]?.answers[shard.shard] = ShardAnswer(
        memory: slice, type: results, rowCount: tokenCount, rowOfToken: nil)
    }
  }

  /// Gives up everything under way; what still comes is dropped.
  private func abandonAll() {
    machine.abandonAll()
    for slot in outgoing.indices { clear(slot) }
  }
}
