import CostModel

// The claims of the announcement, checked by the formulas and the time model.

extension ReportInputs {
  func claimReport() throws(CostModelError) -> Report {
    let rows = try costClaims() + deploymentClaims()
    return Report(
      name: "claims", title: "Claims of the announcement, checked",
      columns: [
        .init("claim", "claim"), .init("claimed", "claimed", .significant(4)),
        .init("computed", "computed", .significant(4)), .init("verdict", "verdict"),
      ], rows: rows,
      notes: ["Claims are quoted from summaries; the announcement itself was not read."])
  }

  private func row(
    _ claim: String, _ claimed: Double?, _ computed: Double, _ verdict: String
  ) -> [ReportCell] {
    [.text(claim), .init(claimed), .number(computed), .text(verdict)]
  }

  private func costClaims() throws(CostModelError) -> [[ReportCell]] {
    let step3 = try models.model(named: "step3")
    let dsv3 = try models.model(named: "dsv3")
    let qwen = try models.model(named: "qwen3-235b")
    func total(_ name: String, _ kilotokens: Int) throws(CostModelError) -> Double {
      try pair(name, kilotokens: kilotokens).total
    }
    func withA800(_ kilotokens: Int) throws(CostModelError) -> Double {
      try cost("step3", on: "a800", kilotokens: kilotokens).attention
        + cost("step3", on: "h800", kilotokens: kilotokens).feedForward
        - total("step3", kilotokens)
    }
    func allA800(_ kilotokens: Int) throws(CostModelError) -> Double {
      try cost("step3", on: "a800", kilotokens: kilotokens).total - total("step3", kilotokens)
    }
    let holds = "holds for A800 attention with H800 FFN"
    return [
      row("USD per 1M at 32K: DSv3", 0.211, try total("dsv3", 32), "holds"),
      row("USD per 1M at 32K: Qwen3 MoE", 0.193, try total("qwen3-235b", 32), "holds"),
      row("USD per 1M at 32K: Step-3", 0.129, try total("step3", 32), "holds"),
      row(
        "attention FLOPs over DSv3", 0.25,
        step3.attentionFlops(context: 8192) / dsv3.attentionFlops(context: 8192), "holds"),
      row(
        "KV over DSv3", 0.9, step3.kvByteCount(context: 8192) / dsv3.kvByteCount(context: 8192),
        "holds"),
      row(
        "KV over Qwen3 MoE", 1.0 / 3,
        step3.kvByteCount(context: 8192) / qwen.kvByteCount(context: 8192), "holds"),
      row("A800 costs 0.01 more: 8K", 0.01, try withA800(8), holds),
      row("A800 costs 0.01 more: 32K", 0.01, try withA800(32), holds),
      row("A800 costs 0.01 more: 128K", 0.01, try withA800(128), "does not hold"),
      row("all on A800: 8K", 0.01, try allA800(8), "does not hold"),
      row("all on A800: 32K", 0.01, try allA800(32), "does not hold"),
      row(
        "40 % cheaper than both: Qwen3 MoE at 32K", 0.4,
        1 - (try total("step3", 32)) / (try total("qwen3-235b", 32)), "33 %, at 8K 11 %"),
    ]
  }

  private func deploymentClaims() throws(CostModelError) -> [[ReportCell]] {
    let step3 = try models.model(named: "step3")
    let h100 = try hardware.hardware(named: "h100")
    let h200 = try hardware.hardware(named: "h200")
    let moe = step3.feedForward.first { $0.isMoE }
    let layerBytes = (moe?.parameterCount(hidden: 7168) ?? 0) / 8
    let small = try pipeline(context: 4096)
    var tokens = 64
    func estimate(_ tokens: Int) -> DeploymentEstimate {
      small.estimate(deployment(h200, 1, 1, tokens: tokens))
    }
    while estimate(tokens + 64).timePerOutputToken <= 0.05, estimate(tokens + 64).fits {
      tokens += 64
    }
    let two = try pipeline(context: 4096).estimate(deployment(h100, 2, 2, tokens: 2048))
    let twoBF16 = try pipeline(context: 4096) { $0.kvScale = 2 }
    let bf16 = twoBF16.estimate(deployment(h100, 2, 2, tokens: 2016))
    let bf16Memory = twoBF16.sequenceKVByteCount * 6144 / 16
    return [
      row(
        "smallest deployment is 32 GPUs: bytes one FFN server's GPU reads per layer", nil,
        layerBytes, "not a memory limit: it follows from the SLA"),
      row(
        "the same in us at 85 % of H100 bandwidth, of a 272 us stage", nil,
        layerBytes / (h100.bandwidth * 0.85) * 1e6, "so 1F cannot meet 50 ms on 80 GB Hopper"),
      row(
        "1A1F on H200 (16 GPUs), micro-batch 1,024 (tokens/s/GPU)", nil,
        estimate(1024).throughputPerDevice, "meets 50 ms"),
      row(
        "the same in ms", nil, estimate(1024).timePerOutputToken * 1e3, "of 50"),
      row(
        "1A1F on H200, largest micro-batch within 50 ms (tokens/s/GPU)", nil,
        estimate(tokens).throughputPerDevice, "meets 50 ms"),
      row(
        "KV per attention GPU of 2A2F at 4K (GB)", nil,
        small.sequenceKVByteCount * 6144 / 16 / 1e9, "fits with linears in 80 GB"),
      row("linears per attention GPU (GB)", nil, step3.linearParameterCount / 1e9, ""),
      row("FFN weights per FFN GPU (GB)", nil, two.feedForwardMemory / 1e9, ""),
      row("BF16 KV per attention GPU with 2A (GB)", nil, bf16Memory / 1e9, "3A is forced"),
      row(
        "attention stage of 2A with BF16 KV (us), of 272", nil,
        (bf16.layers.first { $0.isMoE }?.attention.total ?? 0) * 1e6, "3A is forced by time too"),
      row("FP8 weights with vision in BF16 (GB)", 326, (321e9 + 5e9) / 1e9, "8 x H20 hold them"),
      row("BF16 weights (GB)", 642, 2 * 321, "16 x H20 hold them"),
      row("74 % faster than DSv3", 0.74, 4039 / 2324.0 - 1, "arithmetic holds, comparison not"),
      row("measured over theory: Step-3 at 4K, 2 USD/h", nil, try overTheory("step3", 4039), ""),
      row("measured over theory: DSv3 at 4K, 2 USD/h", nil, try overTheory("dsv3", 2324), ""),
      row("Step-3 measured (USD per 1M)", nil, 2 / 4039.0 / 3600 * 1e6, ""),
      row("DSv3 measured (USD per 1M)", nil, 2 / 2324.0 / 3600 * 1e6, ""),
    ]
  }

  private func overTheory(_ name: String, _ throughput: Double) throws(CostModelError) -> Double {
    2 / throughput / 3600 * 1e6 / (try pair(name, kilotokens: 4).total)
  }
}
