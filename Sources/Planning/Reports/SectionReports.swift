import CostModel

// Sections 5 and 6 of the report, and reference values beyond it.

extension ReportInputs {
  /// Cheapest pairs at four contexts.
  func pairsReport() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    var lines: [Chart.Line] = []
    for model in reportModels {
      var points: [(x: Double, y: Double)] = []
      for kilotokens in [4, 8, 32, 128] {
        let pair = try pair(model.name, kilotokens: kilotokens)
        rows.append([
          .text(model.name), .number(Double(kilotokens)), .number(pair.total),
          .text(pair.attention.hardware), .text(pair.feedForward.hardware),
        ])
      }
      for kilotokens in [4, 8, 16, 32, 64, 128] {
        points.append(
          (Double(kilotokens * kilo), try pair(model.name, kilotokens: kilotokens).total))
      }
      lines.append(.init(name: model.title, points: points))
    }
    return Report(
      name: "pairs", title: "Cheapest pair of devices, USD per million tokens",
      columns: [
        .init("model", "model"), .init("context_k", "context (K)", .integer),
        .init("usd_per_mtok", "USD per 1M", .fixed(4)),
        .init("attention_hardware", "attention on"), .init("ffn_hardware", "FFN on"),
      ], rows: rows, notes: [],
      chart: Chart(
        title: "Context decides the order",
        subtitle: "Lower bound of decoding cost with the cheapest pair of H800, H20, A800, 910B",
        x: .init("context (tokens)", .binary, ticks: .kilotokens),
        y: .init("USD per million tokens", ticks: .usd), content: .lines(lines)))
  }

  /// Sparsity of each model against what H800 servers need.
  func sparsityReport() throws(CostModelError) -> Report {
    let device = try hardware.hardware(named: "h800")
    let roofline = device.roofline(usingInt8: false)
    var rows: [[ReportCell]] = []
    for model in reportModels where model.feedForward.contains(where: \.isMoE) {
      func needed(_ network: Double) -> Double {
        minimumSparsity(
          hidden: model.hiddenDimension, layers: model.layerCount, roofline: roofline,
          serverNetwork: network, stage: 0.05 / 3, bytesPerElement: bytesPerElement)
      }
      let nominal = needed(400e9)
      rows.append([
        .text(model.name), .number(model.sparsity), .number(nominal), .number(needed(320e9)),
        .number(needed(800e9)), .number(roofline / (2 * model.sparsity)),
        .text(
          model.sparsity < nominal * 0.9
            ? "too sparse" : model.sparsity < nominal ? "marginal" : "ok"),
        .text(model.sparsity < needed(800e9) ? "too sparse" : "ok"),
      ])
    }
    return Report(
      name: "sparsity", title: "Sparsity of each model against the minimum on H800",
      columns: [
        .init("model", "model"), .init("sparsity", "S", .fixed(4)),
        .init("minimum_400g", "S min 400G", .fixed(4)),
        .init("minimum_measured", "at 40 GB/s", .fixed(4)),
        .init("minimum_800g", "800G", .fixed(4)),
        .init("compute_bound_batch", "tokens for full MFU", .integer),
        .init("verdict_400g", "400G"), .init("verdict_800g", "800G"),
      ], rows: rows,
      notes: [
        "Own hidden size and layer count, stage of exactly 50/3 ms, eight NICs.",
        "Llama 4 is counted with 48 layers; only 24 are MoE, so a budget per layer is stricter.",
        "Step-3 needs 3,620 tokens per micro-batch on H800; the system ran 2,048, so its FFN MFU "
          + "is at most 57 % and the floor of its MoE layers 1.77 x the Table 6 price.",
      ])
  }

  /// What one device can do in one stage: the rule of Section 6.
  func weakHardwareReport() throws(CostModelError) -> Report {
    let model = try models.model(named: "step3")
    let names = [
      "l20", "l40s", "rtx4090", "rtx5090", "m3-ultra", "xeon-6980p", "epyc-turin", "epyc-genoa",
      "l4", "h800",
    ]
    var rows: [[ReportCell]] = []
    for name in names {
      let device = try hardware.hardware(named: name)
      let budget = StageBudget(model, on: device, stage: 272e-6)
      let activeFlops =
        2 * (model.feedForward.first { $0.isMoE }?.activeParameterCount(hidden: 7168) ?? 0)
      let computeTokens =
        Double(budget.feedForwardDeviceCount) * 272e-6 * device.eightBitPeak(usingInt8: true)
        / activeFlops
      let networkTokens =
        272e-6 * device.nicBandwidth * 0.8 * Double(budget.feedForwardDeviceCount) / (3 * 7168)
      rows.append([
        .text(name), .number(budget.readableByteCount), .number(budget.linearByteCount),
        .number(budget.kvTokenCount), .number(budget.kvTokenCount / Double(8 * kilo)),
        .number(budget.feedForwardByteCount), .number(Double(budget.feedForwardDeviceCount)),
        .number(Double(budget.feedForwardServerCount)),
        .number(Double(8 * budget.feedForwardServerCount)), .number(computeTokens),
        .number(networkTokens),
      ])
    }
    return Report(
      name: "weak-hardware", title: "Step-3 on weaker devices: one stage of 272 us (Section 6)",
      columns: [
        .init("hardware", "hardware"), .init("readable_bytes", "readable", .scientific(3)),
        .init("linear_bytes", "linears", .scientific(3)),
        .init("kv_tokens", "KV tokens", .integer), .init("batch_8k", "batch at 8K", .fixed(1)),
        .init("ffn_bytes", "FFN bytes", .scientific(3)),
        .init("ffn_devices", "FFN devices", .integer),
        .init("ffn_servers", "servers of 8", .integer), .init("ffn_cards", "cards", .integer),
        .init("compute_tokens", "tokens by compute", .integer),
        .init("network_tokens", "tokens by network", .integer),
      ], rows: rows,
      notes: [
        "Bandwidth at its peak for attention, half of it for FFN; 300 GB of FFN weights; the "
          + "output projection split over eight devices (67 MB of linears).",
        "The report's batch of 41 takes K = 1000 (--k 1000); with 8192 it is 40.",
        "By this rule L4 needs 16 servers, 128 cards; the report's 144 is three times 48.",
        "CPU sockets qualify by bandwidth; compute and network bound the tokens per stage, summed "
          + "here over all FFN devices, so batches must stay small.",
      ])
  }

  private func budgetFacts() throws(CostModelError) -> [(String, Double, Double?, String)] {
    let step3 = try models.model(named: "step3")
    let dsv3 = try models.model(named: "dsv3")
    let qwen = try models.model(named: "qwen3-235b")
    let h800 = try hardware.hardware(named: "h800")
    func microBatch(_ network: Double) -> Double { network * 272e-6 / (3 * 7168) }
    let exactKV = dsv3.kvByteCount(context: 8192)
    func ratio(_ a: Double, _ b: Double) -> Double { a / b }
    let kvStep3 = step3.kvByteCount(context: 8192)
    return [
      ("stage, three stages of exactly 50/3 ms (us)", 0.05 / 3 / 61 * 1e6, nil, "§6"),
      ("stage, 16.6 ms (us)", 0.0166 / 61 * 1e6, 272, "§6"),
      ("stage, four stages (us)", 0.05 / 4 / 61 * 1e6, nil, "§3.1"),
      ("intensity MFA", step3.arithmeticIntensity(count: .report), 128, "§5.1"),
      ("intensity MLA", dsv3.arithmeticIntensity(count: .report), 512, "§5.1"),
      ("intensity MLA, exact count", dsv3.arithmeticIntensity(count: .exact), nil, "§5.1"),
      ("intensity GQA of Qwen3 MoE", qwen.arithmeticIntensity(count: .report), 32, "§5.1"),
      ("sparsity of Step-3", step3.sparsity, 0.08, "§5.4"),
      ("sparsity of DSv3", dsv3.sparsity, 9.0 / 256, "§5.3"),
      ("experts DSv3 would activate on H800", 257 * 0.0582, 14, "§5.4"),
      (
        "minimum sparsity with NICs at 40 GB/s",
        minimumSparsity(
          hidden: 7168, layers: 61, roofline: h800.roofline(usingInt8: false),
          serverNetwork: 320e9, stage: 11.1e-3 * 1.5), 0.073, "§5.4"
      ),
      (
        "attention FLOPs, Step-3 over DSv3",
        ratio(step3.attentionFlops(context: 8192), dsv3.attentionFlops(context: 8192)), 0.25,
        "§5.1"
      ),
      (
        "the same, MLA counted exactly",
        ratio(
          step3.attentionFlops(context: 8192), dsv3.attentionFlops(context: 8192, count: .exact)),
        nil, "§5.1"
      ),
      ("KV bytes, Step-3 over DSv3", ratio(kvStep3, exactKV), 0.9, "§5.1"),
      (
        "KV bytes, Step-3 over Qwen3 MoE", ratio(kvStep3, qwen.kvByteCount(context: 8192)),
        1.0 / 3, "§5.1"
      ),
      (
        "tokens for a compute-bound FFN on H800",
        h800.roofline(usingInt8: false) / (2 * step3.sparsity), nil, "§5.3"
      ),
      (
        "FFN MFU bound of a micro-batch of 2,048",
        2048 / (h800.roofline(usingInt8: false) / (2 * step3.sparsity)), nil, "§7.3"
      ),
      ("micro-batch the network sustains at 50 GB/s", microBatch(400e9), 3072, "§7.3"),
      ("the same at the measured 40 GB/s", microBatch(320e9), 3072, "§7.3"),
      ("attention side of 3A4F at 40 GB/s", microBatch(320e9) * 3 / 4, 3072, "§7.3"),
      ("3A4F of 3 x 3,072 at 50 ms (tokens/s/GPU)", 9216 / 0.05 / 56, 3291, "§7.3"),
      ("4A4F of 3 x 3,072 at 50 ms (tokens/s/GPU)", 9216 / 0.05 / 64, 2880, "§7.3"),
      ("samples per attention server of 3A2F", 6048 / 9, 672, "§7.3"),
      ("4A2F from 4,039 (tokens/s/GPU)", 4039 * 4 / 6, 2693, "§7.3"),
      ("16A2F from 4,039 (tokens/s/GPU)", 4039 * 4 / 18.0, 898, "§7.3"),
      ("Step-3 over DSv3", 4039 / 2324.0 - 1, 0.74, "§7.3"),
      ("BF16 below FP8 attention", 1 - 3321 / 4039.0, 0.18, "§7.3"),
    ]
  }

  /// Stage budgets and bounds of Sections 3, 5 and 6 and the switches that change them.
  func budgetReport() throws(CostModelError) -> Report {
    return Report(
      name: "budget", title: "Budgets, intensities and bounds of Sections 3 to 7",
      columns: [
        .init("quantity", "quantity"), .init("value", "computed", .significant(4)),
        .init("printed", "printed", .significant(4)), .init("section", "section"),
      ],
      rows: try budgetFacts().map { [.text($0.0), .number($0.1), .init($0.2), .text($0.3)] },
      notes: [
        "No formula of the report gives the micro-batch of 3,072; 3,036 appears if one bounds the "
          + "attention side of 3A4F at 40 GB/s."
      ])
  }
}
