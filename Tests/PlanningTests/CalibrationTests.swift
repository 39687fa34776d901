import CostModel
import JSONScanning
import Planning
import Testing

@Suite("Calibration and prediction of our own engine")
struct CalibrationTests {
  private static let model = """
    {"models": [{"name": "small", "layers": 30, "hidden": 576, "vocabulary": 49152,
     "contextLimit": 8192,
     "attention": [{"layers": "rest", "kind": "mfa", "heads": 9, "headDimension": 192,
                    "queryRank": 576, "kvBytes": 2}],
     "feedForward": [{"layers": "rest", "kind": "dense", "intermediate": 1536}]}]}
    """

  private func architecture() throws -> ModelArchitecture {
    try ModelCatalogue(parsing: Array(Self.model.utf8), file: "small.json").model(named: "small")
  }

  private func machine(_ efficiency: MeasuredEfficiency) -> Hardware {
    Hardware(
      measured: "here", memoryByteCount: 16e9, bandwidth: 32e9, bf16Peak: 450e9, int8Peak: 900e9,
      nicBandwidth: 1e9, price: nil, source: "test", doubts: [], efficiency: efficiency)
  }

  private func runs(
    _ seconds: (EngineRun.Kind) throws -> Double, _ count: Int
  ) throws -> [EngineRun] {
    var kinds: [EngineRun.Kind] = []
    for batch in [1, 4, 16, 32] {
      for context in [0, 512, 4096] {
        kinds.append(.step(.decode(batch: batch, context: context)))
      }
    }
    for tokens in [64, 512, 2048] { kinds.append(.prompt(tokens: tokens, chunk: 512)) }
    return try kinds.prefix(count).map {
      EngineRun(
        label: "\($0)", kind: $0, seconds: try seconds($0), weightByteCount: 2, kvByteCount: 2)
    }
  }

  @Test("a fit to runs of a known machine predicts its other runs")
  func recovers() throws {
    let truth = MeasuredEfficiency(
      attentionBandwidth: 0.55, attentionFlops: 0.22, linearBandwidth: 0.91, linearFlops: 0.63,
      overheadPerHalfLayer: 4e-6, head: 8e-6)
    let guess = MeasuredEfficiency(
      attentionBandwidth: 0.8, attentionFlops: 0.4, linearBandwidth: 0.8, linearFlops: 0.8,
      overheadPerHalfLayer: 0, head: 0)
    let model = try architecture()
    let real = EngineComparison(model: model, hardware: machine(truth))
    func seconds(_ kind: EngineRun.Kind) throws -> Double {
      try real.predict(
        EngineRun(label: "", kind: kind, seconds: 1, weightByteCount: 2, kvByteCount: 2))
    }
    let all = try runs(seconds, 15)
    let chosen = [0, 2, 5, 9, 11, 13].map { all[$0] }
    let fitted = try Calibration.fit(chosen, model: model, hardware: machine(guess))
    let report = try EngineComparison(model: model, hardware: machine(fitted)).report(all)
    #expect(report.rows.count == 15)
    for row in report.rows {
      guard case .number(let error) = row[3] else { continue }
      #expect(abs(error) < 0.08, "\(row)")
    }
  }

  @Test("a split step takes its busiest side, and never beats half of one machine's time")
  func split() throws {
    let model = try architecture()
    let step = EngineModel.Step.decode(batch: 16, context: 4096)
    func engine(exchange: Double = 0, machineBandwidth: Double? = nil) -> EngineModel {
      EngineModel(
        model, on: machine(.unknown),
        efficiency: MeasuredEfficiency(
          attentionBandwidth: nil, attentionFlops: nil, linearBandwidth: nil, linearFlops: nil,
          overheadPerHalfLayer: nil, head: nil, exchange: exchange,
          machineBandwidth: machineBandwidth), weightByteCount: 2, kvByteCount: 2)
    }
    let unshared = engine()
    let together = unshared.seconds(step)
    func apart(_ count: Int, _ engine: EngineModel? = nil) -> Double {
      (engine ?? unshared).seconds(
        step, split: .init(attention: 1, feedForward: 1, microBatches: count))
    }
    // One micro-batch gains nothing: the sides wait for each other.
    #expect(abs(apart(1) / together - 1) < 1e-9)
    for count in 1...4 { #expect(apart(count) >= together / 2) }
    #expect(apart(2) < together)
    #expect(apart(2, engine(exchange: 1)) > 30)
    // Sides that share a machine's bandwidth gain less; one micro-batch has it to itself.
    #expect(apart(2, engine(machineBandwidth: 64e9)) == apart(2))
    let crowded = engine(machineBandwidth: 40e9)
    #expect(apart(2, crowded) > apart(2))
    #expect(apart(1, crowded) == apart(1))
  }

  @Test("runs are read from benchmark files, and a probe becomes an entry")
  func files() throws {
    let text = """
      {"benchmark": "bench decode", "rows": [
        {"name": "decode", "context": 512, "batch": 4, "seconds_per_step": 0.02},
        {"name": "prefill", "tokens": 512, "seconds": 0.5},
        {"name": "R1", "delay_us": 0, "micro_batches": 1, "batch": 6, "context": 64,
         "seconds_per_step": 0.02},
        {"name": "Rm", "delay_us": 0, "micro_batches": 3, "batch": 6, "context": 64,
         "seconds_per_step": 0.01},
        {"name": "Rm", "delay_us": 100, "micro_batches": 3, "batch": 6, "context": 64,
         "seconds_per_step": 0.01}]}
      """
    let runs = try EngineRun.runs(
      parsing: Array(text.utf8), file: "runs.json", weightByteCount: 2, kvByteCount: 2)
    #expect(runs.count == 4)
    #expect(runs[0].label == "decode, batch 4, context 512, 16-bit")
    let probe = MachineProbe(
      name: "here", memoryByteCount: 16e9, bandwidth: 32e9, bf16Peak: 450e9, int8Peak: nil,
      nicBandwidth: 1.25e9, isNICMeasured: false, linearBandwidth: 0.9, linearFlops: 0.6,
      attentionBandwidth: 0.7, attentionFlops: 0.3, price: 0.5, date: "2026-11-23")
    let entry = probe.hardware().document.documentText
    let read = try HardwareCatalogue(parsing: Array(entry.utf8), file: "hardware.json").entries[0]
    #expect(read.measured?.linearBandwidth == 0.9)
    #expect(try read.hourlyPrice(.mid) == 0.5)
    let impossible = MeasuredEfficiency(
      attentionBandwidth: 0.9, attentionFlops: 1.2, linearBandwidth: 0.9, linearFlops: 0.6,
      overheadPerHalfLayer: 0, head: 0)
    #expect(probe.hardware(efficiency: impossible).doubts.count == 2)
    #expect(probe.hardware(efficiency: read.measured).doubts.count == 1)
    let report = try EngineComparison(model: architecture(), hardware: read).report(runs)
    #expect(report.notes[0].hasPrefix("4 configurations"))
    #expect(throws: CostModelError.self) {
      try EngineRun.runs(
        parsing: Array("{\"rows\": []}".utf8), file: "runs.json", weightByteCount: 2,
        kvByteCount: 2)
    }
  }
}
