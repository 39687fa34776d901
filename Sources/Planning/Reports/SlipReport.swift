import CostModel

// Where the report contradicts itself or its own formulas: what it says, what follows.

/// One statement next to what the formulas give.
private struct Slip {
  let item: Int
  let quantity: String
  let printed: Double?
  let computed: Double
}

extension ReportInputs {
  /// Contexts at which a hybrid's cheapest pair becomes cheaper than Step-3's, in tokens.
  func crossing(_ hybrid: String) throws(CostModelError) -> Int {
    let model = try models.model(named: hybrid)
    let step3 = try models.model(named: "step3")
    let devices = try reportDevices()
    var low = 4096
    var high = 131_072
    while high - low > 1 {
      let middle = (low + high) / 2
      let theirs = try DisaggregatedCost(
        model, among: devices, context: middle, assumptions: assumptions)
      let ours = try DisaggregatedCost(
        step3, among: devices, context: middle, assumptions: assumptions)
      if theirs.total < ours.total { high = middle } else { low = middle }
    }
    return high
  }

  func slipReport() throws(CostModelError) -> Report {
    let slips = try countSlips() + costSlips() + hybridSlips() + systemSlips() + networkSlips()
    return Report(
      name: "slips", title: "Where the report's statements do not follow from its formulas",
      columns: [
        .init("item", "item", .integer), .init("quantity", "quantity"),
        .init("printed", "report says", .significant(4)),
        .init("computed", "follows", .significant(4)),
      ],
      rows: slips.map {
        [.number(Double($0.item)), .text($0.quantity), .init($0.printed), .number($0.computed)]
      },
      notes: [
        "Items are numbered as in docs/cost-model.md.",
        "The report's MiniMax M1 has 8 full layers in Section 5.2 and 10 in Section 4.3; 10 is "
          + "right (item 7).",
        "Section 3.2 compares with 320 GPUs, Table 8 with 144 and 128 (item 17).",
      ])
  }

  private func countSlips() throws(CostModelError) -> [Slip] {
    let dsv3 = try models.model(named: "dsv3")
    let h800 = try hardware.hardware(named: "h800")
    let unit = try UnitPrice(h800, assumptions: CostAssumptions())
    var exact = CostAssumptions()
    exact.operationCount = .exact
    var slips = [
      Slip(
        item: 1, quantity: "DSv3 attention FLOPs at 8K, exact MLA count", printed: 1.47e11,
        computed: dsv3.attentionFlops(context: 8192, count: .exact)),
      Slip(
        item: 1, quantity: "MLA intensity, exact count", printed: 512,
        computed: dsv3.arithmeticIntensity(count: .exact)),
    ]
    for device in try reportDevices() {
      slips.append(
        Slip(
          item: 1, quantity: "DSv3 attention on \(device.name) at 8K, exact MLA count (USD)",
          printed: try DecodingCost(dsv3, on: device, context: 8192).attention,
          computed: try DecodingCost(dsv3, on: device, context: 8192, assumptions: exact)
            .attention))
    }
    slips += [
      Slip(item: 2, quantity: "H800 USD per FLOP", printed: 2.80e-19, computed: unit.flop),
      Slip(item: 7, quantity: "full-attention layers of MiniMax M1", printed: 8, computed: 10),
      Slip(item: 12, quantity: "sparsity of DSv3", printed: 9.0 / 256, computed: 9.0 / 257),
    ]
    return slips
  }

  private func costSlips() throws(CostModelError) -> [Slip] {
    func total(_ model: String, _ device: String, _ kilotokens: Int) throws(CostModelError)
      -> Double
    {
      try cost(model, on: device, kilotokens: kilotokens).total
    }
    func reduction(_ other: String, _ kilotokens: Int) throws(CostModelError) -> Double {
      let ours = try pair("step3", kilotokens: kilotokens).total
      return 1 - ours / (try pair(other, kilotokens: kilotokens).total)
    }
    let cheaper = "Qwen3 MoE below DSv3 (share): "
    func below(_ kilotokens: Int) throws(CostModelError) -> Double {
      1 - (try total("qwen3-235b", "h20", kilotokens)) / (try total("dsv3", "h800", kilotokens))
    }
    let pairBelow =
      1 - (try pair("qwen3-235b", kilotokens: 8).total) / (try pair("dsv3", kilotokens: 8).total)
    return [
      Slip(
        item: 3, quantity: cheaper + "H20 against H800 at 8K", printed: 0.10, computed: try below(8)
      ),
      Slip(
        item: 3, quantity: cheaper + "H20 against H800 at 32K", printed: nil,
        computed: try below(32)),
      Slip(
        item: 3, quantity: cheaper + "cheapest pairs at 8K", printed: nil, computed: pairBelow),
      Slip(
        item: 4, quantity: "Step-3 below DSv3 at 32K (share)", printed: 0.4,
        computed: try reduction("dsv3", 32)),
      Slip(
        item: 4, quantity: "Step-3 below Qwen3 MoE at 32K (share)", printed: 0.4,
        computed: try reduction("qwen3-235b", 32)),
      Slip(
        item: 4, quantity: "Step-3 below DSv3 at 8K (share)", printed: 0.4,
        computed: try reduction("dsv3", 8)),
      Slip(
        item: 4, quantity: "Step-3 below Qwen3 MoE at 8K (share)", printed: 0.4,
        computed: try reduction("qwen3-235b", 8)),
      Slip(
        item: 6, quantity: "Qwen3 32B on H20 at 8K (USD), 'highest of Figure 2'", printed: nil,
        computed: try total("qwen3-32b", "h20", 8)),
      Slip(
        item: 6, quantity: "DSv3 on H20 at 8K (USD)", printed: nil,
        computed: try total("dsv3", "h20", 8)),
      Slip(
        item: 9, quantity: "Figure 3, Llama 4 at 128K on H800 (USD)", printed: 1.117,
        computed: try total("llama4-maverick", "h800", 128)),
      Slip(
        item: 10, quantity: "Figure 4, Step-3 at 8K on 910B (USD)", printed: 0.078,
        computed: try total("step3", "910b", 8)),
    ]
  }

  private func hybridSlips() throws(CostModelError) -> [Slip] {
    func advantage(_ hybrid: String) throws(CostModelError) -> Double {
      1 - (try pair(hybrid, kilotokens: 128).total) / (try pair("step3", kilotokens: 128).total)
    }
    return [
      Slip(
        item: 5, quantity: "MiniMax M1 cheaper than Step-3 from (tokens)", printed: nil,
        computed: Double(try crossing("minimax-m1"))),
      Slip(
        item: 5, quantity: "Llama 4 cheaper than Step-3 from (tokens)", printed: nil,
        computed: Double(try crossing("llama4-maverick"))),
      Slip(
        item: 5, quantity: "MiniMax M1 below Step-3 at 128K (share)", printed: nil,
        computed: try advantage("minimax-m1")),
      Slip(
        item: 5, quantity: "Llama 4 below Step-3 at 128K (share)", printed: nil,
        computed: try advantage("llama4-maverick")),
      Slip(
        item: 5, quantity: "Llama 4 on H20 alone at 8K (USD)", printed: nil,
        computed: try cost("llama4-maverick", on: "h20", kilotokens: 8).total),
      Slip(
        item: 5, quantity: "Step-3 on H20 alone at 8K (USD)", printed: nil,
        computed: try cost("step3", on: "h20", kilotokens: 8).total),
    ]
  }

  private func systemSlips() throws(CostModelError) -> [Slip] {
    let h800 = try hardware.hardware(named: "h800")
    func step3(_ collectives: CollectiveMode, kvScale: Double, attention: Int, tokens: Int)
      throws(CostModelError) -> Double
    {
      try pipeline(context: 4096) {
        $0.collectives = collectives
        $0.kvScale = kvScale
      }.estimate(deployment(h800, attention, 2, tokens: tokens)).throughputPerDevice
    }
    let expertParallel = try pipeline("dsv3", context: 4096) { $0.kvScale = 2 }
      .estimate(ExpertParallelDeployment(hardware: h800, deviceCount: 128, batchPerDevice: 112))
    return [
      Slip(
        item: 8, quantity: "4A2F (tokens/s/GPU): Table 8 against 4039 x 4 / 6", printed: 2643,
        computed: 4039 * 4 / 6),
      Slip(
        item: 13, quantity: "TPOT of the DSv3 profile, 128 per GPU (ms)", printed: 50,
        computed: 128 / 2324 * 1e3),
      Slip(
        item: 13, quantity: "tokens/s per user of the DSv3 profile", printed: 20,
        computed: 2324 / 128),
      Slip(
        item: 13, quantity: "DSv3 EP128 with 112 per GPU, near 50 ms (tokens/s/GPU, model)",
        printed: 2324, computed: expertParallel.throughputPerDevice),
      Slip(
        item: 14, quantity: "Step-3 over DSv3, both BF16 attention (share)", printed: 0.74,
        computed: 3321 / 2324.0 - 1),
      Slip(
        item: 14, quantity: "2A2F on H800, serial collectives (tokens/s/GPU, model)",
        printed: 4039, computed: try step3(.serial, kvScale: 1, attention: 2, tokens: 2048)),
      Slip(
        item: 14, quantity: "2A2F on H800, overlapped collectives (tokens/s/GPU, model)",
        printed: 4039, computed: try step3(.overlapped, kvScale: 1, attention: 2, tokens: 2048)),
      Slip(
        item: 14, quantity: "3A2F BF16 on H800, overlapped (tokens/s/GPU, model)", printed: 3321,
        computed: try step3(.overlapped, kvScale: 2, attention: 3, tokens: 2016)),
    ]
  }

  private func networkSlips() throws(CostModelError) -> [Slip] {
    let step3 = try models.model(named: "step3")
    let h800 = try hardware.hardware(named: "h800")
    let l4 = try hardware.hardware(named: "l4")
    let needed = h800.roofline(usingInt8: false) / (2 * step3.sparsity)
    let a800 = try hardware.hardware(named: "a800")
    let ratio =
      try speculativeCost(
        step3, attentionOn: a800, feedForwardOn: h800, context: 8192,
        speculation: Speculation(draftCount: 1, acceptance: 0.85))
      / speculativeCost(
        step3, attentionOn: a800, feedForwardOn: h800, context: 8192, speculation: .none)
    return [
      Slip(
        item: 11, quantity: "L4 cards for the FFN, rule of Section 6", printed: 144,
        computed: Double(8 * StageBudget(step3, on: l4, stage: 272e-6).feedForwardServerCount)),
      Slip(
        item: 15, quantity: "tokens per micro-batch for a compute-bound FFN on H800",
        printed: 2048, computed: needed),
      Slip(
        item: 15, quantity: "FFN MFU bound at 2,048 (share)", printed: 1, computed: 2048 / needed),
      Slip(
        item: 15, quantity: "floor of the MoE price over Table 6 at 2,048", printed: 1,
        computed: needed / 2048),
      Slip(
        item: 16, quantity: "micro-batch the network sustains, 50 GB/s", printed: 3072,
        computed: 400e9 * 272e-6 / (3 * 7168)),
      Slip(
        item: 16, quantity: "micro-batch the network sustains, 40 GB/s", printed: 3072,
        computed: 320e9 * 272e-6 / (3 * 7168)),
      Slip(
        item: 16, quantity: "attention side of 3A4F, 40 GB/s", printed: 3072,
        computed: 320e9 * 272e-6 / (3 * 7168) * 3 / 4),
      Slip(
        item: 18, quantity: "MTP on A800 at 8K, price ratio at acceptance 0.85", printed: nil,
        computed: ratio),
    ]
  }
}
