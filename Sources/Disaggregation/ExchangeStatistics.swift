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
  /// Waiting while an FFN node had work of this process.
  package var imbalance = Duration.zero
  /// Waiting while all of it was on its way.
  package var communication = Duration.zero
  /// Steps.
  package var stepCount = 0

  /// No time at all.
  package init() {}

  /// Waiting of both kinds.
  package var stall: Duration { imbalance + communication }
}

/// From one time to another.
package struct TimeSpan: Hashable, Sendable {
  /// Its beginning.
  package var began: Duration
  /// Its end.
  package var ended: Duration

  /// A span.
  package init(began: Duration, ended: Duration) {
    self.began = began
    self.ended = ended
  }
}

extension StepTimes {
  /// Splits waits, in order and apart, by whether anybody had work meanwhile.
  package mutating func addWaits(_ waits: [TimeSpan], work: [TimeSpan]) {
    var busy: [TimeSpan] = []
    for span in work.sorted(by: { $0.began < $1.began }) where span.began < span.ended {
      if let last = busy.last, span.began <= last.ended {
        busy[busy.count - 1].ended = max(last.ended, span.ended)
      } else {
        busy.append(span)
      }
    }
    var first = 0
    for wait in waits {
      while first < busy.count, busy[first].ended <= wait.began { first += 1 }
      var index = first
      var shared = Duration.zero
      while index < busy.count, busy[index].began < wait.ended {
        shared += min(busy[index].ended, wait.ended) - max(busy[index].began, wait.began)
        index += 1
      }
      imbalance += shared
      communication += wait.ended - wait.began - shared
      wall += wait.ended - wait.began
    }
  }
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
  package var times: StepTimes {
    var times = settled
    times.addWaits(waits, work: work)
    return times
  }
  /// Without the waits below.
  private var settled = StepTimes()
  /// The step's waits, and when nodes had its work: what a node did during a wait is known only
  /// when the answer of another micro-batch has come.
  private var waits: [TimeSpan] = []
  private var work: [TimeSpan] = []
  /// By node.
  package private(set) var traffic: [NodeTraffic]
  /// Links that were lost.
  package internal(set) var lostLinkCount = 0
  /// Steps that could not be computed.
  package internal(set) var failureCount = 0
  private var records: [ExchangeRecord] = []
  private var nextRecord = 0
  private var open: [ExchangeRecord]
  private var mark = Duration.zero
  private var stepNumber: UInt64 = 0

  init(slotCount: Int, nodeCount: Int) {
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
    settled = StepTimes()
    waits = []
    work = []
    traffic = traffic.map { _ in NodeTraffic() }
    records = []
    nextRecord = 0
  }

  mutating func beginStep(_ number: UInt64, now: Duration) {
    stepNumber = number
    mark = now
    settled = times
    waits.removeAll(keepingCapacity: true)
    work.removeAll(keepingCapacity: true)
    settled.stepCount += 1
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
    self.work.append(TimeSpan(began: work.received, ended: work.finished))
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
    waits.append(TimeSpan(began: mark, ended: now))
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
    settled[keyPath: part] += now - mark
    settled.wall += now - mark
    mark = now
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
