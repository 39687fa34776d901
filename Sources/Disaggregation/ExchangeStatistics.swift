// What can be seen of the pipeline. All times of one record are by the attention process's clock;
// FFN nodes' stamps are moved by the clock offset that heartbeats estimate.

import Step3Model
import Tensors

/// The work of one shard on one exchange, by the attention process's clock.
package struct ShardWork: Hashable, Sendable {
  /// The node's place in the options' list, and the shard.
  package var node: Int
  /// The shard.
  package var shard: Int
  /// The dispatch had come there.
  package var received: Duration
  /// Its layer was begun.
  package var started: Duration
  /// Its layer was done.
  package var finished: Duration
  /// The answer was handed to the transport.
  package var sent: Duration
  /// The answer had come here.
  package var arrived: Duration
  /// It had landed here.
  package var answered: Duration
  /// Rows that were computed together, those of other dispatches included.
  package var jobRowCount: Int

  /// Both ways together: differences of one clock each, so that no common one is needed.
  func transferTime(since submitted: Duration) -> Duration {
    max(.zero, arrived - submitted - (sent - received))
  }
}

/// One micro-batch at one layer.
package struct ExchangeRecord: Hashable, Sendable {
  /// The step.
  package var step: UInt64 = 0
  /// The layer.
  package var layer = 0
  /// The micro-batch.
  package var slot = 0
  /// Its rows.
  package var tokenCount = 0
  /// The attention half was begun.
  package var attentionBegan = Duration.zero
  /// It was done, and packing began.
  package var submitting = Duration.zero
  /// The rows were handed to the transport.
  package var submitted = Duration.zero
  /// The result was needed.
  package var collecting = Duration.zero
  /// All answers were there.
  package var completed = Duration.zero
  /// They were added up.
  package var combined = Duration.zero
  /// The shards' work.
  package var work: [ShardWork] = []
}

/// Where the time of an attention process's steps went; the parts add up to `wall`.
package struct StepTimes: Hashable, Sendable {
  /// From the beginning of each step to its last sum.
  package var wall = Duration.zero
  /// Computing.
  package var attention = Duration.zero
  /// Packing, sending and adding up.
  package var exchange = Duration.zero
  /// Waiting while an FFN node had the work.
  package var imbalance = Duration.zero
  /// Waiting while messages were on their way.
  package var communication = Duration.zero
  /// Steps.
  package var stepCount = 0

  /// Waiting of both kinds.
  package var stall: Duration { imbalance + communication }
}

/// Traffic with one node.
package struct NodeTraffic: Hashable, Sendable {
  /// Dispatches sent.
  package var dispatchCount = 0
  /// Those sent again, to this node.
  package var resendCount = 0
  /// Answers that landed.
  package var answerCount = 0
  /// Bytes of activations.
  package var sentByteCount = 0
  /// Bytes of results.
  package var receivedByteCount = 0
  /// Time from dispatch landing to the layer's end, summed.
  package var serviceTime = Duration.zero
  /// Time that exchanges with it spent on the way, both directions, summed.
  package var transferTime = Duration.zero
}

/// The attention side's counters and its latest exchanges.
package struct ExchangeStatistics: Sendable {
  /// How many exchanges are kept.
  package static let recordLimit = 8192

  /// Where time went.
  package private(set) var times = StepTimes()
  /// By node.
  package private(set) var traffic: [NodeTraffic]
  /// Links that were lost.
  package internal(set) var lostLinkCount = 0
  /// Steps that could not be computed.
  package internal(set) var failureCount = 0
  /// Tokens that chose each expert of each layer since the start, [layer][expert].
  package private(set) var expertLoad: [[Int]]
  private var records: [ExchangeRecord] = []
  private var nextRecord = 0
  private var open: [ExchangeRecord]
  private var mark = Duration.zero
  private var stepNumber: UInt64 = 0

  init(layerCount: Int, slotCount: Int, nodeCount: Int, expertCount: Int) {
    expertLoad = Array(
      repeating: Array(repeating: 0, count: expertCount), count: layerCount)
    traffic = Array(repeating: NodeTraffic(), count: nodeCount)
    open = Array(repeating: ExchangeRecord(), count: slotCount)
  }

  /// The latest exchanges, oldest first.
  package var latest: [ExchangeRecord] {
    records.count < Self.recordLimit
      ? records : Array(records[nextRecord...] + records[..<nextRecord])
  }

  /// Forgets times, traffic and exchanges, for measurements.
  package mutating func reset() {
    times = StepTimes()
    traffic = traffic.map { _ in NodeTraffic() }
    records = []
    nextRecord = 0
  }

  mutating func beginStep(_ number: UInt64, now: Duration) {
    stepNumber = number
    mark = now
    times.stepCount += 1
  }

  mutating func submitting(layer: Int, slot: Int, now: Duration) {
    open[slot].step = stepNumber
    open[slot].layer = layer
    open[slot].slot = slot
    open[slot].attentionBegan = mark
    open[slot].submitting = now
    open[slot].work.removeAll(keepingCapacity: true)
    spend(\.attention, now)
  }

  mutating func count(_ routing: borrowing Routing, layer: Int, rowCount: Int) {
    for pair in 0..<rowCount * routing.expertsPerToken {
      expertLoad[layer][Int(routing.experts[pair])] += 1
    }
  }

  mutating func submitted(layer: Int, slot: Int, tokenCount: Int, now: Duration) {
    open[slot].tokenCount = tokenCount
    open[slot].submitted = now
    spend(\.exchange, now)
  }

  mutating func sent(node: Int, byteCount: Int, isResend: Bool) {
    traffic[node].dispatchCount += 1
    traffic[node].sentByteCount += byteCount
    if isResend { traffic[node].resendCount += 1 }
  }

  mutating func answered(
    slot: Int, node: Int, shard: Int, _ header: WireHeader, clockOffset: Int64,
    arrived: Duration, now: Duration
  ) {
    let stamps = header.stamps
    func own(_ stamp: UInt64) -> Duration {
      .nanoseconds(Int64(clamping: stamp)) - .nanoseconds(clockOffset)
    }
    let work = ShardWork(
      node: node, shard: shard, received: own(stamps.received), started: own(stamps.started),
      finished: own(stamps.finished), sent: own(stamps.sent), arrived: arrived, answered: now,
      jobRowCount: Int(header.jobRowCount))
    open[slot].work.append(work)
    traffic[node].answerCount += 1
    traffic[node].receivedByteCount += Int(header.payloadByteCount)
    traffic[node].serviceTime += max(.zero, work.sent - work.received)
    traffic[node].transferTime += work.transferTime(since: open[slot].submitted)
  }

  /// When a slot's rows were handed to the transport.
  func submitted(slot: Int) -> Duration? {
    open.indices.contains(slot) ? open[slot].submitted : nil
  }

  mutating func collecting(slot: Int, now: Duration) {
    open[slot].collecting = now
    spend(\.attention, now)
  }

  mutating func complete(slot: Int, now: Duration) {
    open[slot].completed = now
    let busy = Self.overlap(open[slot].work, open[slot].collecting, now)
    times.imbalance += busy
    times.communication += now - mark - busy
    times.wall += now - mark
    mark = now
  }

  mutating func combined(slot: Int, now: Duration) -> ExchangeRecord? {
    open[slot].combined = now
    defer { keep(open[slot]) }
    spend(\.exchange, now)
    return open[slot].work.isEmpty ? nil : open[slot]
  }

  private mutating func keep(_ record: ExchangeRecord) {
    if records.count < Self.recordLimit {
      records.append(record)
    } else {
      records[nextRecord] = record
      nextRecord = (nextRecord + 1) % Self.recordLimit
    }
  }

  private mutating func spend(_ part: WritableKeyPath<StepTimes, Duration>, _ now: Duration) {
    times[keyPath: part] += now - mark
    times.wall += now - mark
    mark = now
  }

  /// How much of a time at least one shard had the work.
  static func overlap(_ work: [ShardWork], _ began: Duration, _ ended: Duration) -> Duration {
    let spans = work.map { (max($0.received, began), min($0.finished, ended)) }
      .filter { $0.0 < $0.1 }.sorted { $0.0 < $1.0 }
    var total = Duration.zero
    var reached = began
    for (from, to) in spans where to > reached {
      total += to - max(from, reached)
      reached = to
    }
    return total
  }
}

/// A copy of the attention side's counters, to be read elsewhere.
package struct ExchangeCounters: Sendable {
  /// Where time went.
  package var times = StepTimes()
  /// By node, in the options' order.
  package var traffic: [NodeTraffic] = []
  /// Links that were lost.
  package var lostLinkCount = 0
  /// Steps that could not be computed.
  package var failureCount = 0
  /// Tokens that chose each expert of each layer, [layer][expert].
  package var expertLoad: [[Int]] = []
  /// Dispatches sent again.
  package var resendCount = 0
  /// Answers that came too late or twice.
  package var duplicateCount = 0
  /// The number of the expert map.
  package var mapEpoch: UInt32 = 0
  /// The latest round trip of a sign of life, by node.
  package var roundTrips: [Int: Duration] = [:]

  /// Nothing counted.
  package init() {}
}

/// One layer computed by an FFN node.
package struct JobRecord: Hashable, Sendable {
  /// The layer.
  package var layer: Int
  /// Its rows.
  package var rowCount: Int
  /// The dispatches that they came in.
  package var dispatchCount: Int
  /// It was begun.
  package var began: Duration
  /// It was done.
  package var ended: Duration
}

/// An FFN node's counters.
package struct WorkerStatistics: Sendable {
  /// How many jobs are kept.
  package static let recordLimit = 4096

  /// Layers computed.
  package private(set) var jobCount = 0
  /// Their rows.
  package private(set) var rowCount = 0
  /// Dispatches answered.
  package private(set) var dispatchCount = 0
  /// Dispatches refused.
  package internal(set) var refusedCount = 0
  /// Time spent computing.
  package private(set) var busyTime = Duration.zero
  /// Time that dispatches waited to be begun, summed.
  package private(set) var waitTime = Duration.zero
  /// Most dispatches that were here at a time, landed or not.
  package private(set) var mostDispatches = 0
  private var records: [JobRecord] = []
  private var nextRecord = 0

  /// The latest jobs, oldest first.
  package var latest: [JobRecord] {
    records.count < Self.recordLimit
      ? records : Array(records[nextRecord...] + records[..<nextRecord])
  }

  mutating func here(_ dispatchCount: Int) { mostDispatches = max(mostDispatches, dispatchCount) }

  mutating func job(
    layer: Int, began: Duration, ended: Duration, rowCount: Int, dispatchCount: Int,
    waited: [Duration]
  ) {
    jobCount += 1
    self.rowCount += rowCount
    self.dispatchCount += dispatchCount
    busyTime += ended - began
    for time in waited { waitTime += time }
    let record = JobRecord(
      layer: layer, rowCount: rowCount, dispatchCount: dispatchCount, began: began, ended: ended)
    if records.count < Self.recordLimit {
      records.append(record)
    } else {
      records[nextRecord] = record
      nextRecord = (nextRecord + 1) % Self.recordLimit
    }
  }
}
