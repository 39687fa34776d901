import CommandLineInterface
import Disaggregation
import Foundation
import JSONScanning

/// What `step3 bench afd` measured for one batch and context, with what the model says of it.
struct DisaggregationTable {
  /// Steps of one kind.
  struct Row {
    var microBatches = 1
    /// Of every step.
    var seconds: [Double] = []
    /// Where the attention side's time went, in seconds; they add up to its wall time.
    var attention = 0.0
    var exchange = 0.0
    var imbalance = 0.0
    var communication = 0.0
    /// On the way, both directions, all exchanges.
    var transfer = 0.0
    var exchangeCount = 0
    var byteCount = 0
    /// Of both sides, looking for messages included.
    var attentionProcessor = 0.0
    var feedForwardProcessor = 0.0

    /// The median step.
    var median: Double { quantile(0.5) }

    func quantile(_ share: Double) -> Double {
      let sorted = seconds.sorted()
      return sorted.isEmpty ? 0 : sorted[Int((Double(sorted.count - 1) * share).rounded())]
    }

    mutating func add(_ statistics: ExchangeStatistics) {
      let times = statistics.times
      attention += times.attention.inSeconds
      exchange += times.exchange.inSeconds
      imbalance += times.imbalance.inSeconds
      communication += times.communication.inSeconds
      for node in statistics.traffic {
        transfer += node.transferTime.inSeconds
        exchangeCount += node.answerCount
        byteCount += node.sentByteCount + node.receivedByteCount
      }
    }

    /// The share of the messages' time for which nobody waited.
    var hiddenShare: Double { transfer > 0 ? 1 - min(1, communication / transfer) : 1 }
  }

  /// Rows with one delay.
  struct Group {
    let delay: Int
    var fixed: [Row]
    var chosen = Row()
    /// What the program learned from its own choices.
    var choosing = PipelinePlanner()
    /// What all numbers of micro-batches taught.
    var stages = PipelinePlanner()

    init(delay: Int, counts: [Int]) {
      self.delay = delay
      fixed = counts.map { Row(microBatches: $0) }
    }
  }

  let batch: Int
  let context: Int
  let layerCount: Int
  var groups: [Group]
  var together = Row()
  var alone = Row()

  /// Writes the rows, those apart against the one with all cores.
  func write(to report: inout BenchReport) {
    report.add(
      text: "\nbatch \(batch), context \(context)\n" + Self.heading(report), row: .null)
    plain(&report, "Rc", "one process, all cores", together)
    plain(&report, "R0", "one process, one core", alone)
    for group in groups {
      for row in group.fixed {
        apart(&report, row.microBatches == 1 ? "R1" : "Rm", group, row, first(row.microBatches))
      }
      apart(&report, "R*", group, group.chosen, nil)
      let best = group.fixed.min { $0.median < $1.median }
      if let best {
        report.add(
          text: "    fastest m \(best.microBatches), chosen \(group.chosen.microBatches)",
          row: [
            "name": "choice", "batch": .integer(batch), "context": .integer(context),
            "delay_us": .integer(group.delay), "fastest": .integer(best.microBatches),
            "chosen": .integer(group.chosen.microBatches),
          ])
      }
    }
  }

  /// The row of the first delay with as many micro-batches.
  private func first(_ count: Int) -> Row? {
    groups.first?.fixed.first { $0.microBatches == count }
  }

  private static let columns = [
    ("", 4), ("delay", 6), ("m", 3), ("ms/step", 9), ("p99", 9), ("of Rc", 8), ("model", 9),
    ("error", 7), ("attend", 8), ("exchange", 9), ("imbalance", 10), ("exposed", 8), ("hidden", 7),
    ("CPU A", 7), ("CPU F", 7),
  ]

  private static func heading(_ report: BenchReport) -> String {
    columns.map { report.pad($0.0, $0.1) }.joined()
  }

  private func line(_ report: BenchReport, _ cells: [String]) -> String {
    zip(cells, Self.columns).map { report.pad($0, $1.1) }.joined()
  }

  private func plain(_ report: inout BenchReport, _ name: String, _ what: String, _ row: Row) {
    let text = line(
      report,
      [
        name, "", "", number(row.median * 1e3), number(row.quantile(0.99) * 1e3),
        percent(together.median / row.median), what,
      ])
    report.add(
      text: text,
      row: [
        "name": .string(name), "batch": .integer(batch), "context": .integer(context),
        "seconds_per_step": .number(row.median), "p99": .number(row.quantile(0.99)),
        "max": .number(row.quantile(1)), "of_rc": .number(together.median / row.median),
      ])
  }

  private func apart(
    _ report: inout BenchReport, _ name: String, _ group: Group, _ row: Row, _ undelayed: Row?
  ) {
    let steps = Double(max(1, row.seconds.count))
    let wall = row.attention + row.exchange + row.imbalance + row.communication
    // The head is no part of the exchange: the model does not know it.
    let outside = max(0, row.seconds.reduce(0, +) - wall) / steps
    let model =
      group.stages.stepTime(
        rowCount: batch, microBatchCount: row.microBatches, layerCount: layerCount) + outside
    let error = model / row.median - 1
    let text = line(
      report,
      [
        name, "\(group.delay)", "\(row.microBatches)", number(row.median * 1e3),
        number(row.quantile(0.99) * 1e3), percent(together.median / row.median),
        number(model * 1e3), percent(error), percent(row.attention / wall),
        percent(row.exchange / wall), percent(row.imbalance / wall),
        percent(row.communication / wall), percent(row.hiddenShare),
        number(row.attentionProcessor / steps * 1e3),
        number(row.feedForwardProcessor / steps * 1e3),
      ])
    var json = JSONObject()
    json["name"] = .string(name)
    for (key, value) in [
      ("batch", batch), ("context", context), ("delay_us", group.delay),
      ("micro_batches", row.microBatches),
      ("bytes_per_exchange", row.byteCount / max(1, row.exchangeCount)),
    ] { json[key] = .integer(value) }
    for (key, value) in [
      ("seconds_per_step", row.median), ("p99", row.quantile(0.99)), ("max", row.quantile(1)),
      ("of_rc", together.median / row.median), ("predicted", model), ("prediction_error", error),
      ("attention", row.attention / steps), ("exchange", row.exchange / steps),
      ("imbalance", row.imbalance / steps), ("exposed_communication", row.communication / steps),
      ("outside", outside), ("transfer", row.transfer / steps),
      ("hidden_share", row.hiddenShare), ("processor_attention", row.attentionProcessor / steps),
      ("processor_feed_forward", row.feedForwardProcessor / steps),
    ] as [(String, Double)] { json[key] = .number(value) }
    if let undelayed, group.delay > 0, let serial = group.fixed.first, serial.microBatches == 1,
      let serialUndelayed = first(1)
    {
      // Of what the delay costs without a pipeline, the part that it does not cost here.
      let cost = serial.median - serialUndelayed.median
      json["hidden_of_delay"] = .number(1 - (row.median - undelayed.median) / cost)
    }
    report.add(text: text, row: .object(json))
  }

  private func number(_ value: Double) -> String { ByteSize.decimal(value, digits: 1) }
  private func percent(_ share: Double) -> String { number(share * 100) + "%" }
}

/// What the machine and this process have done.
enum MachineLoad {
  /// Of the last one, five and fifteen minutes.
  static var average: String {
    let text = (try? String(contentsOfFile: "/proc/loadavg", encoding: .utf8)) ?? ""
    return text.split(separator: " ").prefix(3).joined(separator: " ")
  }

  /// Processor time of the calling thread, which is the one that computes.
  static var ownProcessorSeconds: Double { processorSeconds("thread-self") }

  /// Processor time of all threads of another process.
  static func processorSeconds(of process: Int32) -> Double {
    let tasks = "/proc/\(process)/task"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: tasks)) ?? []
    return names.reduce(0) { $0 + processorSeconds("\(process)/task/\($1)") }
  }

  private static func processorSeconds(_ path: String) -> Double {
    let text = (try? String(contentsOfFile: "/proc/\(path)/schedstat", encoding: .utf8)) ?? ""
    return text.split(separator: " ").first.flatMap { Double($0) }.map { $0 / 1e9 } ?? 0
  }
}
