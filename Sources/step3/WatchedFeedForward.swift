import ClusterControl
import Disaggregation
import JSONScanning
import Serving
import Step3Model
import Synchronization

/// A remote feed-forward half whose steps may be recorded and whose counters others may read.
final class WatchedFeedForward<T: Transport>: FeedForwardService {
  private var remote: RemoteFeedForward<T>
  private let desk: TraceDesk
  private let exchange: ExchangeDesk
  private var nextNote = Duration.zero

  init(_ remote: RemoteFeedForward<T>, _ desk: TraceDesk, _ exchange: ExchangeDesk) {
    self.remote = remote
    self.desk = desk
    self.exchange = exchange
  }

  func beginStep() {
    desk.beginStep { remote.statistics.latest }
    note()
    remote.beginStep()
  }

  func idle() {
    note()
    remote.idle()
  }

  /// Shows the counters, ten times a second at most.
  private func note() {
    let now = remote.transport.now
    guard now >= nextNote else { return }
    nextNote = now + .milliseconds(100)
    exchange.note(remote.counters)
  }

  var missingPeers: [String] { remote.missingPeers }

  func microBatchCount(rowCount: Int, limit: Int) -> Int {
    remote.microBatchCount(rowCount: rowCount, limit: limit)
  }

  func submit(
    _ layer: LayerIndex, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) {
    try remote.submit(layer, microBatch)
  }

  func collect(
    _ layer: LayerIndex, into microBatch: inout MicroBatch
  ) throws(FeedForwardError) {
    try remote.collect(layer, into: &microBatch)
  }

  func progress() { remote.progress() }
}

/// The latest counters of the exchange, readable from any thread.
final class ExchangeDesk: Sendable {
  private let state = Mutex<ExchangeCounters?>(nil)
  private let nodeNames: [String]

  /// A desk for the nodes of a layout, in its order.
  init(_ layout: ClusterLayout) { nodeNames = layout.holders.flatMap { $0 } }

  func note(_ counters: ExchangeCounters) { state.withLock { $0 = counters } }

  /// For `/cluster/status`.
  var members: [(String, JSONValue)] {
    guard let counters = state.withLock({ $0 }) else { return [] }
    let times = counters.times
    return [
      (
        "exchange",
        [
          "steps": .integer(times.stepCount), "wall": .number(times.wall.seconds),
          "attention": .number(times.attention.seconds),
          "exchange": .number(times.exchange.seconds),
          "imbalance": .number(times.imbalance.seconds),
          "communication": .number(times.communication.seconds),
        ]
      )
    ]
  }

  /// For `/metrics`, together with what the ffn nodes told of themselves.
  func metrics(_ reports: [String: JSONValue]) -> [ClusterMetric] {
    guard let counters = state.withLock({ $0 }) else { return [] }
    return Self.stepMetrics(counters) + trafficMetrics(counters) + Self.nodeMetrics(reports)
  }

  private static func stepMetrics(_ counters: ExchangeCounters) -> [ClusterMetric] {
    let times = counters.times
    let parts = [
      ("attention", times.attention), ("exchange", times.exchange),
      ("imbalance", times.imbalance), ("communication", times.communication),
    ]
    return [
      ClusterMetric("afd_steps_total", "counter", [.init("", Double(times.stepCount))]),
      ClusterMetric("afd_wall_seconds_total", "counter", [.init("", times.wall.seconds)]),
      ClusterMetric(
        "afd_seconds_total", "counter",
        parts.map { .init("part=\"\($0)\"", $1.seconds) }),
      ClusterMetric(
        "afd_lost_links_total", "counter", [.init("", Double(counters.lostLinkCount))]),
      ClusterMetric(
        "afd_failed_steps_total", "counter", [.init("", Double(counters.failureCount))]),
      ClusterMetric(
        "afd_resent_dispatches_total", "counter", [.init("", Double(counters.resendCount))]),
      ClusterMetric(
        "afd_dropped_answers_total", "counter", [.init("", Double(counters.duplicateCount))]),
      ClusterMetric("afd_expert_map_epoch", "gauge", [.init("", Double(counters.mapEpoch))]),
    ]
  }

  private func trafficMetrics(_ counters: ExchangeCounters) -> [ClusterMetric] {
    func samples(_ value: (NodeTraffic) -> Double) -> [ClusterMetric.Sample] {
      zip(nodeNames, counters.traffic).map { .init("node=\"\($0)\"", value($1)) }
    }
    let trips = counters.roundTrips.sorted { $0.key < $1.key }.map { node, time in
      ClusterMetric.Sample("node=\"\(nodeNames[node])\"", time.seconds)
    }
    return [
      ClusterMetric("afd_dispatches_total", "counter", samples { Double($0.dispatchCount) }),
      ClusterMetric("afd_answers_total", "counter", samples { Double($0.answerCount) }),
      ClusterMetric("afd_sent_bytes_total", "counter", samples { Double($0.sentByteCount) }),
      ClusterMetric(
        "afd_received_bytes_total", "counter", samples { Double($0.receivedByteCount) }),
      ClusterMetric(
        "afd_service_seconds_total", "counter", samples { $0.serviceTime.seconds }),
      ClusterMetric(
        "afd_transfer_seconds_total", "counter", samples { $0.transferTime.seconds }),
      ClusterMetric("afd_round_trip_seconds", "gauge", trips),
    ]
  }

  private static func nodeMetrics(_ reports: [String: JSONValue]) -> [ClusterMetric] {
    [
      ("jobs", "ffn_jobs_total"), ("rows", "ffn_rows_total"),
      ("dispatches", "ffn_dispatches_total"), ("refused", "ffn_refused_dispatches_total"),
      ("busy", "ffn_busy_seconds_total"), ("wait", "ffn_wait_seconds_total"),
      ("uptime", "ffn_uptime_seconds_total"), ("most_dispatches", "ffn_most_dispatches"),
    ].map { key, name in
      ClusterMetric(
        name, name.hasSuffix("_total") ? "counter" : "gauge",
        reports.sorted { $0.key < $1.key }.compactMap { id, report in
          report[key]?.number.map { .init("node=\"\(id)\"", $0) }
        })
    }
  }
}
