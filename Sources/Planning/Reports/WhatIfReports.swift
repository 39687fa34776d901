import CostModel

// Speculative decoding, 4-bit KV, imbalance: Section 5.2 of the report with numbers.

extension ReportInputs {
  private static let studied = ["step3", "dsv3", "qwen3-235b"]

  func speculationReport() throws(CostModelError) -> Report {
    let feedForward = try hardware.hardware(named: "h800")
    var rows: [[ReportCell]] = []
    for name in Self.studied {
      let model = try models.model(named: name)
      for device in try reportDevices() {
        for kilotokens in [8, 32] {
          let context = kilotokens * kilo
          func cost(_ speculation: Speculation) throws(CostModelError) -> Double {
            try speculativeCost(
              model, attentionOn: device, feedForwardOn: feedForward, context: context,
              speculation: speculation, assumptions: assumptions)
          }
          let without = try cost(.none)
          let low = try cost(Speculation(draftCount: 1, acceptance: 0.70)) / without
          let high = try cost(Speculation(draftCount: 1, acceptance: 0.85)) / without
          rows.append([
            .text(name), .text(device.name), .number(Double(kilotokens)), .number(low),
            .number(high), .number(1 / high),
            .number(
              try breakEvenAcceptance(
                model, attentionOn: device, feedForwardOn: feedForward, context: context,
                assumptions: assumptions)),
          ])
        }
      }
    }
    return Report(
      name: "mtp", title: "One draft token per step: price relative to none, FFN on H800",
      columns: [
        .init("model", "model"), .init("hardware", "attention on"),
        .init("context_k", "context (K)", .integer), .init("ratio_70", "a = 0.70", .fixed(2)),
        .init("ratio_85", "a = 0.85", .fixed(2)), .init("speedup_85", "gain at 0.85", .fixed(2)),
        .init("break_even", "break-even a", .fixed(2)),
      ], rows: rows,
      notes: [
        "DSv3 gains least, as the report says; '+50 %' holds on H800, 'not on H20' holds; "
          + "'significant on A800' does not: there it is break-even.",
        "Price model: FFN is compute-bound. In a latency-bound regime (small batch) FFN work must "
          + "not be multiplied; step3 plan --drafts uses the time model.",
        "A break-even above 1 means that no acceptance pays.",
      ])
  }

  func fourBitReport() throws(CostModelError) -> Report {
    let feedForward = try hardware.hardware(named: "h800")
    var rows: [[ReportCell]] = []
    var halved = assumptions
    halved.kvScale = assumptions.kvScale / 2
    for name in Self.studied {
      let model = try models.model(named: name)
      for device in try reportDevices() {
        func ratio(_ kilotokens: Int) throws(CostModelError) -> Double {
          func cost(_ assumptions: CostAssumptions) throws(CostModelError) -> Double {
            try speculativeCost(
              model, attentionOn: device, feedForwardOn: feedForward, context: kilotokens * kilo,
              speculation: .none, assumptions: assumptions)
          }
          return try cost(halved) / cost(assumptions)
        }
        rows.append([
          .text(name), .text(device.name), .number(try ratio(8)), .number(try ratio(32)),
          .number(2 * model.arithmeticIntensity(count: assumptions.operationCount)),
        ])
      }
    }
    return Report(
      name: "kv4", title: "4-bit KV with 8-bit arithmetic: price relative to 8-bit, FFN on H800",
      columns: [
        .init("model", "model"), .init("hardware", "attention on"),
        .init("ratio_8k", "8K", .fixed(2)), .init("ratio_32k", "32K", .fixed(2)),
        .init("intensity", "FLOPs/byte", .integer),
      ], rows: rows, notes: ["Only KV bytes are halved; weights and arithmetic stay."])
  }

  func imbalanceReport() throws(CostModelError) -> Report {
    let cases: [(String, Int, Double)] = [
      ("DSv3 EP128, half batch of 64 per GPU", 128, 64 * 8),
      ("DSv3 EP144, half batch of 44 per GPU", 144, 44 * 8),
      ("Step-3, two FFN servers, micro-batch 2,048", 2, 2048 * 3 / 2),
      ("Step-3, four FFN servers, micro-batch 3,072", 4, 3072 * 3 / 4),
      ("Step-3, sixteen FFN servers, micro-batch 1,024", 16, 1024 * 3 / 16),
    ]
    var rows: [[ReportCell]] = cases.map { name, groups, mean in
      [
        .text(name), .number(Double(groups)), .number(mean),
        .number(gumbelMeanOfNormals(count: groups)),
        .number(statisticalImbalance(groupCount: groups, meanTokensPerGroup: mean)), .missing,
      ]
    }
    for (name, tokens) in [("DSv3", 64.0), ("DSv3", 16)] {
      rows.append([
        .text("\(name), experts touched by \(Int(tokens)) tokens"), .number(256), .number(tokens),
        .missing, .missing,
        .number(expectedExpertsTouched(expertCount: 256, topK: 8, tokens: tokens)),
      ])
    }
    rows.append([
      .text("Step-3, experts touched by 16 tokens"), .number(48), .number(16), .missing, .missing,
      .number(expectedExpertsTouched(expertCount: 48, topK: 3, tokens: 16)),
    ])
    return Report(
      name: "imbalance", title: "Load of the busiest expert group under even routing",
      columns: [
        .init("case", "case"), .init("groups", "groups", .integer),
        .init("mean", "mean tokens", .integer), .init("z", "expected maximum", .fixed(2)),
        .init("imbalance", "busiest / mean", .fixed(3)),
        .init("experts_touched", "experts touched", .fixed(1)),
      ], rows: rows,
      notes: [
        "Real skew is larger: a public large-EP system credits rebalancing with 1.49x in prefill "
          + "and 2.54x in decode (step3 plan --expert-skew)."
      ])
  }
}
