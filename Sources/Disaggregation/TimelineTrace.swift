// The pipeline as a picture: the report's figure of attention, A→F, FFN and F→A over time, from a
// live run, in the trace format that Perfetto and chrome://tracing open.

package import JSONScanning

/// Writes exchanges as a trace of four tracks per attention process, and one per FFN node.
package enum TimelineTrace {
  /// The process's name and its exchanges.
  package struct Source: Sendable {
    /// The attention process.
    package var name: String
    /// Its nodes' names, in the order of its options.
    package var nodeNames: [String]
    /// Its exchanges, from `ExchangeStatistics.latest`.
    package var records: [ExchangeRecord]
    /// What to add to its times so that all sources share a clock.
    package var clockOffset: Duration

    /// A source.
    package init(
      name: String, nodeNames: [String], records: [ExchangeRecord],
      clockOffset: Duration = .zero
    ) {
      self.name = name
      self.nodeNames = nodeNames
      self.records = records
      self.clockOffset = clockOffset
    }
  }

  private static let tracks = ["attention", "A→F", "FFN", "F→A", "exchange", "waiting"]

  /// The JSON document; times are microseconds from the first event.
  package static func document(_ sources: [Source]) -> JSONValue {
    var events: [JSONValue] = []
    let origin =
      sources.flatMap { source in
        source.records.map { $0.attentionBegan + source.clockOffset }
      }.min() ?? .zero
    for (process, source) in sources.enumerated() {
      events += names(source, process: process + 1)
      var flow = process << 32
      for record in source.records {
        flow += 1
        let writer = Writer(
          process: process + 1, shift: source.clockOffset - origin, record: record)
        events += writer.events(source.nodeNames, flow: flow)
      }
    }
    return ["traceEvents": .array(events), "displayTimeUnit": "ms"]
  }

  private static func names(_ source: Source, process: Int) -> [JSONValue] {
    let title: JSONValue = [
      "ph": "M", "name": "process_name", "pid": .integer(process),
      "args": ["name": .string(source.name)],
    ]
    return [title]
      + tracks.enumerated().map { index, name in
        [
          "ph": "M", "name": "thread_name", "pid": .integer(process), "tid": .integer(index),
          "args": ["name": .string(name)],
        ]
      }
  }

  private struct Writer {
    let process: Int
    let shift: Duration
    let record: ExchangeRecord

    func events(_ nodeNames: [String], flow: Int) -> [JSONValue] {
      var events = [
        span(0, record.attentionBegan, record.submitting),
        span(4, record.submitting, record.submitted),
        span(5, record.collecting, record.completed),
        span(4, record.completed, record.combined),
      ]
      for work in record.work {
        let node =
          nodeNames.indices.contains(work.node) ? nodeNames[work.node] : "node \(work.node)"
        events += [
          span(1, record.submitted, work.received, node),
          span(2, work.started, work.finished, node),
          span(3, work.finished, work.answered, node),
          arrow("s", 0, record.submitting, flow), arrow("t", 2, work.started, flow),
          arrow("f", 5, max(record.collecting, work.answered), flow),
        ]
      }
      return events.filter { $0["ph"]?.string != "X" || ($0["dur"]?.number ?? 0) >= 0 }
    }

    private func microseconds(_ time: Duration) -> JSONValue {
      .number(Double((time + shift).nanoseconds) / 1000)
    }

    private func span(
      _ track: Int, _ from: Duration, _ to: Duration, _ node: String? = nil
    ) -> JSONValue {
      var arguments = JSONObject()
      arguments["step"] = .integer(Int(record.step))
      arguments["rows"] = .integer(record.tokenCount)
      if let node { arguments["node"] = .string(node) }
      return [
        "ph": "X", "name": .string("layer \(record.layer) · \(record.slot)"), "cat": "afd",
        "pid": .integer(process), "tid": .integer(track), "ts": microseconds(from),
        "dur": .number(Double((max(.zero, to - from)).nanoseconds) / 1000),
        "args": .object(arguments),
      ]
    }

    private func arrow(_ phase: String, _ track: Int, _ time: Duration, _ flow: Int) -> JSONValue {
      [
        "ph": .string(phase), "bp": "e", "name": "exchange", "cat": "afd",
        "id": .integer(flow), "pid": .integer(process), "tid": .integer(track),
        "ts": microseconds(time),
      ]
    }
  }
}
