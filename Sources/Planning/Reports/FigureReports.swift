import CostModel

// Figures 1 to 5 of the report: their values, and charts of them.

extension ReportInputs {
  func figure1() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    var points: [Chart.Point] = []
    for model in reportModels {
      let pair = try pair(model.name, kilotokens: 8)
      rows.append([
        .text(model.name), .number(model.activeParameterCount), .number(pair.total),
        .text(pair.attention.hardware), .text(pair.feedForward.hardware),
      ])
      points.append(
        .init(
          label: model.title, x: model.activeParameterCount, y: pair.total,
          isEmphasised: model.name == "step3"))
    }
    return Report(
      name: "figure1", title: "Best theoretical decoding cost at 8K against active parameters",
      columns: [
        .init("model", "model"), .init("active_parameters", "active", .scientific(3)),
        .init("usd_per_mtok", "USD per 1M", .fixed(4)),
        .init("attention_hardware", "attention on"), .init("ffn_hardware", "FFN on"),
      ], rows: rows,
      notes: ["Cheapest attention device plus cheapest FFN device; communication is free."],
      chart: Chart(
        title: "Active parameters do not tell the price",
        subtitle:
          "Lower bound of decoding cost at 8K context, cheapest pair of H800, H20, A800, 910B",
        x: .init("active parameters per token", ticks: .billions),
        y: .init("USD per million tokens", ticks: .usd), content: .points(points)))
  }

  func figure2() throws(CostModelError) -> Report {
    let names = ["dsv3", "qwen3-235b", "qwen3-32b", "step3"]
    let devices = HardwareCatalogue.reportNames
    var rows: [[ReportCell]] = []
    var bars = [[Double?]](repeating: [], count: devices.count + 1)
    var categories: [String] = []
    for kilotokens in [8, 32] {
      for name in names {
        categories.append(try models.model(named: name).title + "\n\(kilotokens)K")
        for (index, device) in devices.enumerated() {
          let cost = try cost(name, on: device, kilotokens: kilotokens)
          bars[index].append(cost.total)
          rows.append([
            .text(name), .number(Double(kilotokens)), .text(device), .number(cost.total),
          ])
        }
        let pair = try pair(name, kilotokens: kilotokens)
        bars[devices.count].append(pair.total)
        rows.append([
          .text(name), .number(Double(kilotokens)), .text("afd"), .number(pair.total),
        ])
      }
    }
    let series = devices.map { $0.uppercased() } + ["AFD"]
    return Report(
      name: "figure2", title: "Decoding cost by model, device and context",
      columns: [
        .init("model", "model"), .init("context_k", "context (K)", .integer),
        .init("hardware", "hardware"), .init("usd_per_mtok", "USD per 1M", .fixed(4)),
      ], rows: rows,
      notes: [
        "Section 4.2 calls Qwen3 32B the dearest of the figure; on H20 DSv3 is "
          + "(0.164 against 0.107)."
      ],
      chart: Chart(
        title: "What a million tokens costs at best",
        subtitle: "USD per million decoded tokens; AFD takes the cheapest device for each half",
        x: .init(""), y: .init("USD per million tokens", ticks: .usd),
        content: .bars(
          categories: categories,
          zip(series, bars).map { Chart.Bars(name: $0, values: $1) })))
  }

  func figure3() throws(CostModelError) -> Report {
    let names = ["step3", "minimax-m1", "llama4-maverick"]
    var rows: [[ReportCell]] = []
    var lines: [Chart.Line] = []
    for name in names {
      var points: [(x: Double, y: Double)] = []
      for kilotokens in [4, 8, 16, 32, 64, 128] {
        let alone = try cost(name, on: "h800", kilotokens: kilotokens).total
        let pair = try pair(name, kilotokens: kilotokens).total
        points.append((Double(kilotokens * kilo), alone))
        let drawn: ReportCell =
          name == "llama4-maverick" && kilotokens == 128 ? .number(1.117) : .missing
        rows.append([
          .text(name), .number(Double(kilotokens)), .number(alone), .number(pair), drawn,
        ])
      }
      lines.append(.init(name: try models.model(named: name).title, points: points))
    }
    return Report(
      name: "figure3", title: "Hybrid models against Step-3 on H800",
      columns: [
        .init("model", "model"), .init("context_k", "context (K)", .integer),
        .init("usd_per_mtok", "on H800", .fixed(4)),
        .init("usd_per_mtok_afd", "cheapest pair", .fixed(4)),
        .init("drawn", "drawn differently", .fixed(3)),
      ], rows: rows,
      notes: [
        "The report draws Llama 4 at 128K at 1.117; the formula gives 1.177 (1.178 with"
          + " the unit prices as printed).",
        "With the cheapest pair the hybrids cross below Step-3: Llama 4 above about 52K, "
          + "MiniMax M1 above about 62K tokens.",
      ],
      chart: Chart(
        title: "Full-attention layers dominate hybrids on H800",
        subtitle: "USD per million decoded tokens on H800 alone",
        x: .init("context (tokens)", .binary, ticks: .kilotokens),
        y: .init("USD per million tokens", ticks: .usd), content: .lines(lines)))
  }

  func figure4() throws(CostModelError) -> Report {
    let device = try hardware.hardware(named: "910b")
    let price = try UnitPrice(device, assumptions: assumptions)
    var rows: [[ReportCell]] = []
    var bars: [Chart.Bars] = []
    for name in ["pangu-pro", "step3"] {
      let model = try models.model(named: name)
      let work = try TokenWork(model, context: 8 * kilo, assumptions: assumptions)
      let values = [
        try cost(name, on: "910b", kilotokens: 8).total,
        try cost(name, on: "910b", kilotokens: 32).total,
        3e6 * (work.attentionFlops + work.linearFlops + work.feedForwardFlops) * price.flop,
      ]
      rows.append([.text(name)] + values.map { .number($0) })
      bars.append(.init(name: model.title, values: values))
    }
    var chart = Chart(
      title: "Optimised for training is not optimised for decoding",
      subtitle: "USD per million tokens on the Ascend 910B",
      x: .init(""), y: .init("USD per million tokens", ticks: .usd),
      content: .bars(
        categories: ["decoding\n8K context", "decoding\n32K context", "training\n8K, 100 % MFU"],
        bars))
    chart.showsValues = true
    return Report(
      name: "figure4", title: "Pangu Pro and Step-3 on 910B: decoding and training",
      columns: [
        .init("model", "model"), .init("decoding_8k", "decoding 8K", .fixed(4)),
        .init("decoding_32k", "decoding 32K", .fixed(4)),
        .init("training", "training", .fixed(4)),
      ], rows: rows,
      notes: [
        "Training: 3 x (attention at full 8K, linears, FFN), not causal, without the output head.",
        "The report prints 0.078 for Step-3 at 8K here (a sum of rounded parts) and draws 0.079 "
          + "in Figure 2.",
      ], chart: chart)
  }

  func figure5() throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    var lines: [Chart.Line] = []
    var furthest = 0.0
    for name in ["dsv3", "qwen3-235b", "step3"] {
      let model = try models.model(named: name)
      var points: [(x: Double, y: Double)] = []
      for kilotokens in [8, 16, 24, 32] {
        let work = try TokenWork(model, context: kilotokens * kilo, assumptions: assumptions)
        points.append((work.kvByteCount, work.attentionFlops))
        furthest = max(furthest, work.kvByteCount)
        rows.append([
          .text(name), .number(Double(kilotokens)), .number(work.kvByteCount),
          .number(work.attentionFlops), .number(work.attentionFlops / work.kvByteCount),
        ])
      }
      lines.append(.init(name: model.title, points: points))
    }
    for device in try reportDevices() {
      let slope = device.roofline(usingInt8: assumptions.usesInt8)
      let end = min(furthest, 6e11 / slope)
      lines.append(
        .init(
          name: "\(device.name.uppercased()) roofline", points: [(0, 0), (end, end * slope)],
          isDashed: true))
      rows.append([.text(device.name), .missing, .missing, .missing, .number(slope)])
    }
    return Report(
      name: "figure5", title: "Attention work against memory traffic, 8K to 32K, and rooflines",
      columns: [
        .init("name", "name"), .init("context_k", "context (K)", .integer),
        .init("kv_bytes", "KV bytes", .scientific(3)),
        .init("attention_flops", "attention FLOPs", .scientific(3)),
        .init("flops_per_byte", "FLOPs/byte", .fixed(1)),
      ], rows: rows,
      notes: [
        "Intensities 512, 128 and 32; MLA counted exactly is 483.6.",
        "A model above a device's line is bound by arithmetic there, below it by memory.",
      ],
      chart: Chart(
        title: "MFA sits between the rooflines",
        subtitle: "Attention FLOPs against KV bytes per decoded token, context 8K to 32K",
        x: .init("KV bytes per token (GB)", ticks: .giga),
        y: .init("attention GFLOPs per token", ticks: .giga, upper: 6e11), content: .lines(lines)))
  }
}
