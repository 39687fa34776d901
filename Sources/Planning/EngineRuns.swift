package import CostModel
import JSONScanning

/// One measured run of our own engine, with what the model needs to predict it.
package struct EngineRun: Sendable {
  /// What was measured.
  package enum Kind: Equatable, Sendable {
    case step(EngineModel.Step)
    /// A prompt of so many tokens, in chunks.
    case prompt(tokens: Int, chunk: Int)
    /// A step of attention and FFN nodes on cores of one machine.
    case split(EngineModel.Step, EngineModel.Split)
  }

  /// How people call the run, what it was, and its seconds per step or prompt.
  package let label: String
  package let kind: Kind
  package let seconds: Double
  /// Bytes per weight and per cached element during the run.
  package let weightByteCount: Double
  package let kvByteCount: Double

  /// A run.
  package init(
    label: String, kind: Kind, seconds: Double, weightByteCount: Double, kvByteCount: Double
  ) {
    self.label = label
    self.kind = kind
    self.seconds = seconds
    self.weightByteCount = weightByteCount
    self.kvByteCount = kvByteCount
  }

  /// The runs in a file of `step3 bench decode|prefill|afd --json`.
  package static func runs(
    parsing bytes: [UInt8], file: String, weightByteCount: Double, kvByteCount: Double
  ) throws(CostModelError) -> [EngineRun] {
    let document = try JSONValue(document: bytes, file: file)
    var runs: [EngineRun] = []
    for row in document["rows"]?.array ?? [] {
      func number(_ key: String) throws(CostModelError) -> Double {
        guard let value = row[key]?.number, value >= 0 else {
          throw .malformedDocument(file: file, place: "rows", fact: "\"\(key)\" is missing")
        }
        return value
      }
      let bits = "\(plainNumber(8 * weightByteCount))-bit"
      func add(_ label: String, _ kind: Kind, _ seconds: Double) {
        runs.append(
          EngineRun(
            label: "\(label), \(bits)", kind: kind, seconds: seconds,
            weightByteCount: weightByteCount, kvByteCount: kvByteCount))
      }
      switch row["name"]?.string {
      case "decode":
        let batch = Int(try number("batch"))
        let context = Int(try number("context"))
        add(
          "decode, batch \(batch), context \(context)",
          .step(.decode(batch: batch, context: context)), try number("seconds_per_step"))
      case "prefill":
        let tokens = Int(try number("tokens"))
        add(
          "prefill, \(tokens) tokens",
          .prompt(tokens: tokens, chunk: Int(row["chunk"]?.number ?? 512)), try number("seconds"))
      case "R1", "Rm":
        // A delay put in on purpose is no property of this machine.
        guard try number("delay_us") == 0 else { continue }
        let batch = Int(try number("batch"))
        let count = Int(try number("micro_batches"))
        let context = Int(try number("context"))
        add(
          "1A1F, \(count) micro-batches, batch \(batch), context \(context)",
          .split(
            .decode(batch: batch, context: context),
            .init(attention: 1, feedForward: 1, microBatches: count)),
          try number("seconds_per_step"))
      default: continue
      }
    }
    guard !runs.isEmpty else {
      throw .malformedDocument(
        file: file, place: "rows", fact: "no row of bench decode, prefill or afd is in it")
    }
    return runs
  }
}

/// Predicted against measured runs of our own engine.
package struct EngineComparison: Sendable {
  /// The model and the machine, with its efficiencies.
  package let model: ModelArchitecture
  package let hardware: Hardware

  /// A comparison on a calibrated machine.
  package init(model: ModelArchitecture, hardware: Hardware) {
    self.model = model
    self.hardware = hardware
  }

  /// Seconds that the model gives a run.
  package func predict(
    _ run: EngineRun, efficiency: MeasuredEfficiency? = nil
  ) throws(CostModelError) -> Double {
    let measured = efficiency ?? hardware.measured ?? .unknown
    let engine = EngineModel(
      model, on: hardware, efficiency: measured, weightByteCount: run.weightByteCount,
      kvByteCount: run.kvByteCount)
    switch run.kind {
    case .step(let step): return engine.seconds(step)
    case .prompt(let tokens, let chunk):
      return stride(from: 0, to: tokens, by: max(1, chunk)).reduce(0) { sum, start in
        sum + engine.seconds(.prefill(tokens: min(chunk, tokens - start), context: start))
      }
    case .split(let step, let split): return engine.seconds(step, split: split)
    }
  }

  /// The error table: every run, then the median and the worst.
  package func report(_ runs: [EngineRun]) throws(CostModelError) -> Report {
    var rows: [[ReportCell]] = []
    var errors: [Double] = []
    for run in runs {
      let predicted = try predict(run)
      let error = predicted / run.seconds - 1
      errors.append(abs(error))
      rows.append([
        .text(run.label), .number(run.seconds * 1e3), .number(predicted * 1e3), .number(error),
      ])
    }
    let middle = median(errors) ?? 0
    let worst = errors.max() ?? 0
    func percent(_ share: Double) -> String { fixedText(share * 100, decimals: 1) + " %" }
    return Report(
      name: "truth", title: "Predicted against measured: \(model.name) on \(hardware.name)",
      columns: [
        .init("run", "run"), .init("measured_ms", "measured (ms)", .significant(4)),
        .init("predicted_ms", "predicted (ms)", .significant(4)),
        .init("error", "error", .percent(1)),
      ], rows: rows,
      notes: [
        "\(runs.count) configurations: median \(percent(middle)), worst \(percent(worst)).",
        "The goal is a median of 8 % and a worst of 15 % after one calibration.",
      ])
  }
}

extension MeasuredEfficiency {
  /// Nothing measured: every share takes its default.
  package static let unknown = MeasuredEfficiency(
    attentionBandwidth: nil, attentionFlops: nil, linearBandwidth: nil, linearFlops: nil,
    overheadPerHalfLayer: nil, head: nil)
}
