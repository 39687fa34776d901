package import CostModel
package import JSONScanning

/// Costs of every chosen model on every chosen device at every chosen context, and of pairs.
package struct CostTable: Sendable {
  /// One device at a time.
  package let rows: [DecodingCost]
  /// Cheapest pairs.
  package let pairs: [DisaggregatedCost]
  /// What the numbers take for granted, and what is doubtful about their inputs.
  package let assumptions: [String]

  /// - Parameter skipsUnpriced: leaves devices without a price out instead of refusing them.
  package init(
    models: [ModelArchitecture], hardware: [Hardware], contexts: [Int],
    assumptions: CostAssumptions, skipsUnpriced: Bool = false
  ) throws(CostModelError) {
    let priced = skipsUnpriced ? hardware.filter { $0.price != nil } : hardware
    var rows: [DecodingCost] = []
    var pairs: [DisaggregatedCost] = []
    for model in models {
      for context in contexts {
        for device in priced {
          rows.append(
            try DecodingCost(model, on: device, context: context, assumptions: assumptions))
        }
        pairs.append(
          try DisaggregatedCost(model, among: priced, context: context, assumptions: assumptions))
      }
    }
    self.rows = rows
    self.pairs = pairs
    self.assumptions = Self.notes(
      models: models, hardware: priced, contexts: contexts, assumptions: assumptions,
      skipped: hardware.filter { $0.price == nil && skipsUnpriced })
  }

  private static func notes(
    models: [ModelArchitecture], hardware: [Hardware], contexts: [Int],
    assumptions: CostAssumptions, skipped: [Hardware]
  ) -> [String] {
    var notes = [
      "theoretical lower bound: peaks reached, communication free, every cached token attended; "
        + "measured systems cost 3.3x (Step-3) to 5.5x (DSv3) of it",
      "2 FLOPs per multiply-add; router, embedding, output head and MTP layers left out",
    ]
    let hasMLA = models.contains { $0.attention.contains { $0.shape.family == "mla" } }
    if hasMLA, assumptions.operationCount == .report {
      notes.append(
        "MLA counted as in the report, 576 in both products, 5.9 % above what the kernel does "
          + "(--mla exact)")
    }
    if let batch = assumptions.feedForwardBatch {
      notes.append("FFN by roofline at \(plainNumber(batch)) tokens per batch")
    } else {
      notes.append("FFN taken as compute-bound whatever the batch (--ffn-batch N lifts this)")
    }
    let withoutFP8 = hardware.filter { $0.fp8Peak == nil }.map(\.name)
    if !withoutFP8.isEmpty {
      notes.append(
        "8-bit storage with \(assumptions.usesInt8 ? "INT8" : "BF16") compute on "
          + withoutFP8.joined(separator: ", "))
    }
    if assumptions.kvScale != 1 {
      notes.append("KV bytes scaled by \(plainNumber(assumptions.kvScale))")
    }
    for model in models {
      if let trained = model.trainedContext, let longest = contexts.max(), longest > trained {
        notes.append("\(model.name): contexts above \(trained) lie beyond its configuration")
      }
      notes += model.doubts.map { "\(model.name): \($0)" }
    }
    let dates = hardware.compactMap { device in
      device.price.map { price in
        "\(device.name) \(plainNumber(price.mid)) USD/h (\(price.date), "
          + "\(plainNumber(price.low))-\(plainNumber(price.high)))"
      }
    }
    notes.append("prices, \(assumptions.priceLevel.rawValue): " + dates.joined(separator: "; "))
    for device in hardware {
      notes += device.doubts.map { "\(device.name): \($0)" }
    }
    for device in skipped { notes.append("\(device.name) left out: no price is known") }
    return notes
  }
}

extension CostTable {
  /// The document of `step3 cost --format json`.
  package var document: JSONValue {
    .members([
      (
        "rows",
        .array(
          rows.map { row in
            .members([
              ("model", .string(row.model)), ("hardware", .string(row.hardware)),
              ("context", .integer(row.context)), ("kv_bytes", .finite(row.work.kvByteCount)),
              ("attention_flops", .finite(row.work.attentionFlops)),
              ("linear_flops", .finite(row.work.linearFlops)),
              ("ffn_flops", .finite(row.work.feedForwardFlops)),
              ("attention_usd_per_mtok", .finite(row.attention)),
              ("ffn_usd_per_mtok", .finite(row.feedForward)),
              ("total_usd_per_mtok", .finite(row.total)),
            ])
          })
      ),
      (
        "afd",
        .array(
          pairs.map { pair in
            .members([
              ("model", .string(pair.model)), ("context", .integer(pair.context)),
              ("attention_hardware", .string(pair.attention.hardware)),
              ("ffn_hardware", .string(pair.feedForward.hardware)),
              ("usd_per_mtok", .finite(pair.total)),
            ])
          })
      ), ("assumptions", .strings(assumptions)),
    ])
  }

  /// The rows as CSV; pairs are rows whose hardware is `attention+ffn`.
  package var csv: String {
    var out = CSV.line([
      "model", "hardware", "context", "kv_bytes", "attention_flops", "linear_flops", "ffn_flops",
      "attention_usd_per_mtok", "ffn_usd_per_mtok", "total_usd_per_mtok",
    ])
    func add(_ cost: DecodingCost, hardware: String, feedForward: Double) {
      let numbers = [
        cost.work.kvByteCount, cost.work.attentionFlops, cost.work.linearFlops,
        cost.work.feedForwardFlops, cost.attention, feedForward, cost.attention + feedForward,
      ]
      out += CSV.line(
        [cost.model, hardware, String(cost.context)] + numbers.map { plainNumber($0) })
    }
    for row in rows { add(row, hardware: row.hardware, feedForward: row.feedForward) }
    for pair in pairs {
      add(
        pair.attention, hardware: pair.attention.hardware + "+" + pair.feedForward.hardware,
        feedForward: pair.feedForward.feedForward)
    }
    return out
  }

  /// The table for people.
  package var text: String {
    func shown(_ value: Double) -> String { NumberStyle.fixed(4).shown(value) }
    let single = TextTable(
      headings: [
        "model", "hardware", "context", "KV bytes", "attn FLOPs", "linear", "FFN", "attention $",
        "FFN $", "total $/1M",
      ],
      rows: rows.map { row in
        let style = NumberStyle.scientific(3)
        return [
          row.model, row.hardware, NumberStyle.integer.shown(Double(row.context)),
          style.shown(row.work.kvByteCount), style.shown(row.work.attentionFlops),
          style.shown(row.work.linearFlops), style.shown(row.work.feedForwardFlops),
          shown(row.attention), shown(row.feedForward), shown(row.total),
        ]
      }, alignments: [.left, .left] + [TextTable.Alignment](repeating: .right, count: 8))
    let pairTable = TextTable(
      headings: ["model", "context", "attention on", "FFN on", "total $/1M"],
      rows: pairs.map { pair in
        [
          pair.model, NumberStyle.integer.shown(Double(pair.context)), pair.attention.hardware,
          pair.feedForward.hardware, shown(pair.total),
        ]
      }, alignments: [.left, .right, .left, .left, .right])
    return "Decoding cost, USD per million tokens\n\n" + single.text
      + "\nCheapest attention and FFN hardware (AFD)\n\n" + pairTable.text + "\nAssumptions\n"
      + assumptions.map { "* \($0)\n" }.joined()
  }

  /// The totals as grouped bars: models and contexts by device, pairs last.
  package var chart: Chart {
    let hardware = rows.reduce(into: [String]()) { names, row in
      if !names.contains(row.hardware) { names.append(row.hardware) }
    }
    var bars = hardware.map { name in
      Chart.Bars(
        name: name,
        values: pairs.map { pair in
          rows.first {
            $0.hardware == name && $0.model == pair.model && $0.context == pair.context
          }?.total
        })
    }
    if hardware.count > 1 {
      bars.append(Chart.Bars(name: "AFD", values: pairs.map { Optional($0.total) }))
    }
    var chart = Chart(
      title: "Decoding cost",
      subtitle: "USD per million tokens, theoretical lower bound",
      x: .init(""), y: .init("USD per million tokens", ticks: .usd),
      content: .bars(
        categories: pairs.map { pair in
          let kilo = pair.context % 1024 == 0 ? "\(pair.context / 1024)K" : "\(pair.context)"
          return pair.model + "\n" + kilo
        }, bars))
    chart.showsValues = true
    return chart
  }
}
