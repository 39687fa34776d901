// The other side of the cut: a process that holds experts and computes for whoever dispatches to
// it. It keeps nothing between two dispatches but memory, so it may come and go. Dispatches of one
// layer that are there together, from whichever attention process, are computed together, because
// then weights are read once; results do not depend on it.

import Kernels
import ModelConfiguration
package import Step3Model
import Tensors

/// How an FFN node works.
package struct WorkerOptions: Hashable, Sendable {
  /// Most rows of one dispatch.
  package var dispatchRowLimit = 512
  /// Most rows that are computed together.
  package var jobRowLimit = 1024
  /// Dispatches that may wait here.
  package var slotLimit = 64
  /// Rows from which waiting for more gains nothing.
  package var efficientRowCount = 256
  /// The share of a layer's time that a dispatch may wait for others of its layer.
  package var mergeShare = 0.2
  /// Age from which rows of prompts are served like rows of decoding.
  package var ageingTime = Duration.milliseconds(100)
  /// When silent peers are looked into; FFN nodes only answer.
  package var timeouts = LinkTimeouts()

  /// The usual choices.
  package init() {}
}

/// A shard's weights under one map, and room for its answers.
private final class Holding<T: Transport> {
  let map: ExpertMap
  let shard: Int
  var epoch: UInt32 { map.epoch }
  var compute: ShardCompute
  var answers: SlotPool<T>

  init(
    map: ExpertMap, shard: Int, compute: consuming ShardCompute, answers: SlotPool<T>
  ) {
    self.map = map
    self.shard = shard
    self.compute = compute
    self.answers = answers
  }
}

/// A map whose experts are being read.
private struct PreparedMap {
  let map: ExpertMap
  var links: [LinkID]
  let flag: ReadyFlag
}

/// An answer on its way.
private struct SendingAnswer<T: Transport> {
  let holding: Holding<T>
  let block: Int
  let link: LinkID
  let since: Duration
}

/// A dispatch that waits to land.
private struct UnlandedDispatch {
  let link: LinkID
  let header: WireHeader
  let id: ArrivalID
  let arrived: Duration
}

/// A dispatch that has landed.
private struct WaitingDispatch<T: Transport> {
  let link: LinkID
  let header: WireHeader
  let holding: Holding<T>
  let layout: DispatchLayout
  let block: Int
  let received: Duration
  var rowCount: Int { Int(header.tokens) }
}

/// What is known of a link's habits, for merging and for who is served first.
private struct LinkHistory {
  var step: UInt64 = 0
  var stepBegan = Duration.zero
  var lastLayer = -1
  var mapEpoch: UInt32 = 0
  var lastDispatch = Duration.zero
}

/// Computes shards of feed-forward halves for attention processes.
package final class FFNWorker<T: Transport> {
  private let hub: LinkHub<T>
  private let model: FeedForwardContext
  private let options: WorkerOptions
  private var holdings: [Holding<T>] = []
  private var waiting: [WaitingDispatch<T>] = []
  private var unlanded: [UnlandedDispatch] = []
  private var landings: [ArrivalID: WaitingDispatch<T>] = [:]
  private var sending: [SendToken: SendingAnswer<T>] = [:]
  private var nextToken: UInt64 = 0
  private var landingBlocks: SlotPool<T>
  private let prepare: ExpertPreparation?
  private var preparing: [PreparedMap] = []
  private var history: [LinkID: LinkHistory] = [:]
  private var normed: Buffer<Float>
  private var routing: Routing
  /// Time of a layer, smoothed.
  private var layerTime = Duration.zero
  /// Whether it wants to leave.
  package private(set) var isDraining = false
  /// Counters.
  package private(set) var statistics: WorkerStatistics

  /// A worker that holds shard `shard` of `map`.
  ///
  /// The context's token limit is not used; the options say how many rows come at a time.
  package init(
    model: FeedForwardContext, map: ExpertMap, shard: Int, options: WorkerOptions, transport: T,
    control: any ControlPlane, prepare: ExpertPreparation? = nil
  ) throws(ExpertMapError) {
    self.model = model
    self.options = options
    self.prepare = prepare
    hub = LinkHub(
      transport: transport, control: control, timeouts: options.timeouts, watchesPeers: false)
    let columns = model.configuration.hiddenSize
    let topK = model.configuration.expertsPerToken
    let layout = DispatchLayout(
      rowCount: options.dispatchRowLimit, columns: columns, topK: topK, type: .float32)
    landingBlocks = SlotPool(
      transport: transport, byteCount: layout.byteCount, limit: options.slotLimit)
    normed = Buffer(count: options.jobRowLimit * columns)
    routing = Routing(tokenLimit: options.jobRowLimit, expertsPerToken: topK)
    statistics = WorkerStatistics()
    try hold(map, shard: shard)
    // A layer may take longer than a peer may be silent.
    model.compute.team.callBetweenChunks { [hub] in hub.pollWhileComputing() }
  }

  deinit {
    model.compute.team.callBetweenChunks(nil)
    hub.closeAll()
  }

  /// The transport, for wake-ups and the time.
  package var transport: T { hub.transport }
  /// The admitted attention processes.
  package var links: [AdmittedLink] { hub.links }

  /// Serves `shard` of another map as well. Of older maps the first stays, with which attention
  /// processes begin, the one before this, and those that peers still use.
  package func hold(_ map: ExpertMap, shard: Int) throws(ExpertMapError) {
    let hasMixtures = model.configuration.isMixtureLayer.contains(true)
    try map.check(expertCount: hasMixtures ? model.configuration.expertCount : 0)
    precondition(map.parts.indices.contains(shard), "the map has no shard \(shard)")
    let compute = ShardCompute(
      map: map, shard: shard, layers: model.layers, configuration: model.configuration,
      activation: model.activation, tokenLimit: options.jobRowLimit, compute: model.compute)
    let planeLimit = max(1, compute.planeCounts.max() ?? 1)
    let rowByteCount = 4 * model.configuration.hiddenSize
    let answers = SlotPool(
      transport: hub.transport,
      byteCount: planeLimit * options.dispatchRowLimit * rowByteCount, limit: options.slotLimit)
    holdings.append(
      Holding(map: map, shard: shard, compute: compute, answers: answers))
    let used = Set(hub.links.compactMap { history[$0.link]?.mapEpoch })
    let newest = holdings.suffix(2).map(\.epoch)
    holdings = holdings.enumerated().filter { index, holding in
      index == 0 || newest.contains(holding.epoch) || used.contains(holding.epoch)
    }.map(\.element)
  }

  /// Begins to hold a map that a peer told of, or says at once that it is held, or cannot be.
  private func begin(_ map: ExpertMap, for link: LinkID) {
    guard let own = holdings.first, map.parts.indices.contains(own.shard) else { return }
    let shard = own.shard
    if let known = holdings.first(where: { $0.epoch == map.epoch }) {
      hub.tellHeld(
        map, on: link,
        refusal: known.map == map ? nil : "expert map \(map.epoch) is another one here")
      shareRoom()
      return
    }
    if let index = preparing.firstIndex(where: { $0.map == map }) {
      preparing[index].links.append(link)
      return
    }
    let flag = ReadyFlag()
    preparing.append(PreparedMap(map: map, links: [link], flag: flag))
    if let prepare { prepare(map.parts[shard], flag) } else { flag.set() }
  }

  /// Holds the maps whose experts have been read.
  private func finishPreparing() {
    for entry in preparing where entry.flag.isSet {
      var refusal: String?
      do throws(ExpertMapError) { try hold(entry.map, shard: holdings[0].shard) } catch {
        refusal = "\(error)"
      }
      for link in entry.links { hub.tellHeld(entry.map, on: link, refusal: refusal) }
      // Links that were let in meanwhile have not heard it.
      shareRoom()
    }
    preparing.removeAll { $0.flag.isSet }
  }

  /// Shares the room for dispatches among the peers.
  private func shareRoom() {
    var header = hub.header(.credit)
    header.tokens = UInt32(max(1, options.slotLimit / max(1, hub.links.count)))
    for link in hub.links { try? transport.sendControl(header, payload: [], on: link.link) }
  }

  /// Tells the attention processes that this one wants to leave; it works on until they have
  /// turned to others or said goodbye.
  package func drain() {
    isDraining = true
    hub.sendToAll(.drain)
  }

  /// Whether nothing is under way.
  package var isIdle: Bool {
    waiting.isEmpty && landings.isEmpty && unlanded.isEmpty && sending.isEmpty
  }

  /// Blocks in use, for tests of leaks.
  package var usedBlockCount: Int {
    holdings.reduce(landingBlocks.usedCount) { $0 + $1.answers.usedCount }
  }

  /// Works until `isStopped` says so, which is asked at least every 100 ms.
  package func run(until isStopped: () -> Bool) {
    while !isStopped() {
      let due = turn()
      let now = transport.now
      if due > now { hub.wait(until: min(due, now + .milliseconds(100))) }
    }
  }

  /// Takes in what happened and computes at most one job; returns when to come again at the
  /// latest, the present if at once.
  package func turn() -> Duration {
    repeat {
      hub.poll()
      while let event = hub.nextEvent() { handle(event) }
      // What landed at once is there with the next poll.
    } while landWaiting()
    if !preparing.isEmpty { finishPreparing() }
    let now = transport.now
    switch choose(now) {
    case .nothing: return now + (preparing.isEmpty ? .seconds(1) : .milliseconds(5))
    case .later(let due): return due
    case .job(let indices): return perform(indices) ? now : now + .milliseconds(1)
    }
  }

  // MARK: Arrivals

  private func handle(_ event: LinkEvent) {
    switch event {
    case .admitted(let link, _):
      history[link] = LinkHistory()
      if isDraining {
        try? transport.sendControl(hub.header(.drain), payload: [], on: link)
      }
      shareRoom()
    case .suspected, .recovered, .adopt: break
    case .drain: drain()
    case .hold(let map, let link): begin(map, for: link)
    case .lost(let link, _, _):
      forget(link)
      shareRoom()
    case .message(let link, let header, _):
      if header.kind == .bye { hub.close(link) }
    case .arrived(let link, let header, let id, let time):
      // Credit keeps honest peers below it; one that floods must not stand for the others.
      guard header.kind == .dispatch,
        unlanded.count(where: { $0.link == link }) < options.slotLimit
      else {
        transport.discard(id)
        hub.close(link)
        return
      }
      unlanded.append(UnlandedDispatch(link: link, header: header, id: id, arrived: time))
      statistics.here(unlanded.count + landings.count + waiting.count)
    case .received(_, let header, let id): received(header, id)
    case .sent(_, let token):
      finishSending(token)
    }
  }

  private func finishSending(_ token: SendToken) {
    if let answer = sending.removeValue(forKey: token) {
      answer.holding.answers.give(answer.block)
    }
  }

  private func forget(_ link: LinkID) {
    history[link] = nil
    unlanded.removeAll { $0.link == link }
    for entry in waiting where entry.link == link { landingBlocks.give(entry.block) }
    waiting.removeAll { $0.link == link }
    for id in landings.keys.sorted(by: { $0.value < $1.value }) where landings[id]?.link == link {
      if let entry = landings.removeValue(forKey: id) { landingBlocks.give(entry.block) }
    }
    for token in sending.keys.sorted(by: { $0.value < $1.value }) where sending[token]?.link == link
    {
      finishSending(token)
    }
  }

  /// Lets arrivals land for which there is room; whether there were any.
  private func landWaiting() -> Bool {
    var hasLanded = false
    while let entry = unlanded.first {
      let (link, header, id) = (entry.link, entry.header, entry.id)
      let checked: Result<(Holding<T>, DispatchLayout), DispatchError> = check(header)
      do throws(TransportError) {
        switch checked {
        case .failure(let error):
          unlanded.removeFirst()
          transport.discard(id)
          refuse(header, on: link, error)
        case .success(let (holding, layout)):
          guard let block = try landingBlocks.take() else { return hasLanded }
          hasLanded = true
          unlanded.removeFirst()
          landings[id] = WaitingDispatch(
            link: link, header: header, holding: holding, layout: layout, block: block,
            received: entry.arrived)
          try transport.receive(id, into: landingBlocks.slice(block, layout.byteCount))
        }
      } catch {
        if let entry = landings.removeValue(forKey: id) { landingBlocks.give(entry.block) }
        hub.close(link)
        return true
      }
    }
    return hasLanded
  }

  private func check(_ header: WireHeader) -> Result<(Holding<T>, DispatchLayout), DispatchError> {
    let layer = Int(header.layer)
    guard model.layers.indices.contains(layer) else { return .failure(.noSuchLayer(layer)) }
    let ofEpoch = holdings.filter { $0.epoch == header.mapEpoch }
    if ofEpoch.isEmpty {
      return .failure(.wrongMap(found: header.mapEpoch, known: holdings.map(\.epoch)))
    }
    guard let holding = ofEpoch.last(where: { $0.shard == Int(header.shard) }) else {
      return .failure(.noSuchShard(Int(header.shard)))
    }
    let limit = min(options.dispatchRowLimit, options.jobRowLimit)
    guard (1...limit).contains(Int(header.tokens)) else {
      return .failure(.tooManyRows(found: Int(header.tokens), limit: limit))
    }
    guard let type = PackedType(header.valueType, header.scaleKind) else {
      return .failure(.wrongType)
    }
    let topK =
      model.configuration.isMixtureLayer[layer] ? model.configuration.expertsPerToken : 0
    guard Int(header.topK) == topK else {
      return .failure(.wrongChoices(found: Int(header.topK), expected: topK))
    }
    let isExact = header.flags.contains(.exactResults)
    let planes = isExact ? holding.compute.planeCounts[layer] : 1
    guard planes == Int(header.partials) else { return .failure(.noSuchShard(holding.shard)) }
    let layout = DispatchLayout(
      rowCount: Int(header.tokens), columns: model.configuration.hiddenSize, topK: topK,
      type: type)
    guard layout.byteCount == Int(header.payloadByteCount) else {
      return .failure(
        .wrongSize(found: Int(header.payloadByteCount), expected: layout.byteCount))
    }
    return .success((holding, layout))
  }

  private func received(_ header: WireHeader, _ id: ArrivalID) {
    guard let entry = landings.removeValue(forKey: id) else { return }
    let slice = landingBlocks.slice(entry.block, entry.layout.byteCount)
    do throws(DispatchError) {
      if header.flags.contains(.checksum),
        slice.withBytes({ Checksum.crc32c($0) }) != header.payloadChecksum
      {
        throw .wrongChecksum
      }
      try entry.layout.check(slice, expertCount: model.configuration.expertCount)
    } catch {
      landingBlocks.give(entry.block)
      refuse(header, on: entry.link, error)
      return
    }
    note(entry)
    waiting.append(entry)
  }

  private func note(_ entry: WaitingDispatch<T>) {
    var link = history[entry.link] ?? LinkHistory()
    if link.step != entry.header.step {
      link.step = entry.header.step
      link.stepBegan = entry.received
    }
    link.lastLayer = Int(entry.header.layer)
    link.mapEpoch = entry.header.mapEpoch
    link.lastDispatch = entry.received
    history[entry.link] = link
  }

  private func refuse(_ header: WireHeader, on link: LinkID, _ error: DispatchError) {
    statistics.refusedCount += 1
    var answer = hub.header(.error)
    answer.shard = header.shard
    answer.slot = header.slot
    answer.layer = header.layer
    answer.sequence = header.sequence
    let text = Array("\(error)".utf8)
    answer.payloadByteCount = UInt32(text.count)
    try? transport.sendControl(answer, payload: text, on: link)
  }

  // MARK: Jobs

  private enum Choice {
    case nothing
    case later(Duration)
    case job([Int])
  }

  /// The dispatches to compute together next: rows of decoding first, of those the oldest step's
  /// deepest layer, and whatever else waits for the same layer.
  private func choose(_ now: Duration) -> Choice {
    let first = waiting.indices.min { left, right in
      rank(waiting[left], now) < rank(waiting[right], now)
    }
    guard let first else { return .nothing }
    let head = waiting[first]
    var indices: [Int] = []
    var rowCount = 0
    for index in [first] + waiting.indices.filter({ $0 != first && isAlike(waiting[$0], head) })
    where rowCount + waiting[index].rowCount <= options.jobRowLimit {
      indices.append(index)
      rowCount += waiting[index].rowCount
    }
    let oldest = indices.map { waiting[$0].received }.min() ?? now
    let slack = Duration.microseconds(Int64(head.header.deadlineMicroseconds)) / 2
    let window = min(layerTime * options.mergeShare, slack)
    let due = oldest + window
    if now < due && rowCount < options.efficientRowCount && isMoreExpected(head, indices, now) {
      return .later(due)
    }
    return .job(indices)
  }

  private func rank(_ entry: WaitingDispatch<T>, _ now: Duration) -> (Int, Duration, Int, Duration)
  {
    let mayWait =
      entry.header.flags.contains(.prefill) && now - entry.received < options.ageingTime
    return (
      mayWait ? 1 : 0, history[entry.link]?.stepBegan ?? entry.received,
      -Int(entry.header.layer), entry.received
    )
  }

  private func isAlike(_ left: WaitingDispatch<T>, _ right: WaitingDispatch<T>) -> Bool {
    left.header.layer == right.header.layer && left.holding === right.holding
      && left.header.flags.contains(.exactResults) == right.header.flags.contains(.exactResults)
  }

  /// Whether another attention process is about to dispatch to the same layer.
  private func isMoreExpected(
    _ head: WaitingDispatch<T>, _ indices: [Int], _ now: Duration
  ) -> Bool {
    let there = indices.map { waiting[$0].link }
    return hub.links.contains { link in
      guard !there.contains(link.link), let known = history[link.link] else { return false }
      return known.lastLayer == Int(head.header.layer) - 1
        && now - known.lastDispatch < layerTime * 4
    }
  }

  /// Computes and answers; false when there is no room for answers yet.
  private func perform(_ indices: [Int]) -> Bool {
    var entries = indices.map { waiting[$0] }
    let answered = takeAnswerBlocks(&entries)
    if entries.isEmpty { return false }
    let taken = Set(entries.map(\.block))
    waiting.removeAll { taken.contains($0.block) }

    let began = transport.now
    var rowCount = 0
    var parts: [ShardCompute.Part] = []
    let head = entries[0]
    let layer = Int(head.header.layer)
    let isExact = head.header.flags.contains(.exactResults)
    let results = isExact ? PackedType.float32 : .bfloat16
    for (entry, answer) in zip(entries, answered) {
      let slice = landingBlocks.slice(entry.block, entry.layout.byteCount)
      entry.layout.read(slice, into: &normed, &routing, at: rowCount)
      landingBlocks.give(entry.block)
      let byteCount = answerByteCount(entry, results)
      parts.append(
        ShardCompute.Part(
          firstRow: rowCount, rowCount: entry.rowCount,
          target: entry.holding.answers.slice(answer, byteCount)))
      rowCount += entry.rowCount
    }
    let transport = transport
    head.holding.compute.run(
      layer: layer, normed, routing, tokenCount: rowCount, results: results, parts: parts
    ) { transport.progress() }
    let ended = transport.now
    let spent = ended - began
    layerTime = layerTime == .zero ? spent : (layerTime * 7 + spent) / 8
    statistics.job(
      layer: layer, began: began, ended: ended, rowCount: rowCount,
      dispatchCount: entries.count, waited: entries.map { began - $0.received })
    for (index, entry) in entries.enumerated() {
      reply(
        entry, parts[index].target, answered[index], results, jobRowCount: rowCount, began, ended)
    }
    return true
  }

  private func answerByteCount(_ entry: WaitingDispatch<T>, _ results: PackedType) -> Int {
    Int(entry.header.partials) * entry.rowCount
      * results.rowByteCount(model.configuration.hiddenSize)
  }

  /// A block for each entry's answer; entries without one wait on.
  private func takeAnswerBlocks(_ entries: inout [WaitingDispatch<T>]) -> [Int] {
    var blocks: [Int] = []
    for entry in entries {
      guard let block = try? entry.holding.answers.take() else { break }
      blocks.append(block)
    }
    entries.removeLast(entries.count - blocks.count)
    if blocks.isEmpty, let oldest = sending.min(by: { $0.key.value < $1.key.value })?.value,
      transport.now - oldest.since > options.timeouts.dead
    {
      // A peer that takes none of its answers holds up the others.
      hub.close(oldest.link)
    }
    return blocks
  }

  private func reply(
    _ entry: WaitingDispatch<T>, _ slice: RegisteredSlice, _ block: Int, _ results: PackedType,
    jobRowCount: Int, _ began: Duration, _ ended: Duration
  ) {
    var header = hub.header(.combine)
    header.jobRowCount = UInt32(jobRowCount)
    header.mapEpoch = entry.header.mapEpoch
    header.shard = entry.header.shard
    header.layer = entry.header.layer
    header.slot = entry.header.slot
    header.tokens = entry.header.tokens
    header.valueType = results.exchangeType
    header.partials = entry.header.partials
    header.sequence = entry.header.sequence
    header.step = entry.header.step
    header.payloadByteCount = UInt32(slice.byteCount)
    header.stamps.received = LinkHub<T>.stamp(entry.received)
    header.stamps.started = LinkHub<T>.stamp(began)
    header.stamps.finished = LinkHub<T>.stamp(ended)
    header.stamps.sent = LinkHub<T>.stamp(transport.now)
    if entry.header.flags.contains(.checksum) {
      header.flags.insert(.checksum)
      header.payloadChecksum = slice.withBytes { Checksum.crc32c($0) }
    }
    nextToken += 1
    let token = SendToken(nextToken)
    do throws(TransportError) {
      try transport.send(header, payload: slice, on: entry.link, token: token)
      sending[token] = SendingAnswer(
        holding: entry.holding, block: block, link: entry.link, since: transport.now)
    } catch {
      entry.holding.answers.give(block)
    }
  }
}
