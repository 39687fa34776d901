package import CostModel
package import Simulation

/// A simulation's result for people, and its pictures.
package struct SimulationSummary: Sendable {
  private let result: SimulationResult
  private let plan: PlanFile
  private let planned: (timePerOutputToken: Double, throughput: Double, price: Double?)

  /// The result of simulating `plan`, compared with what the plan's time model says.
  package init(
    _ result: SimulationResult, plan: PlanFile, pipeline: PipelineModel
  ) {
    self.result = result
    self.plan = plan
    switch plan.layout {
    case .disaggregated(let deployment):
      let estimate = pipeline.estimate(deployment)
      planned = (
        estimate.timePerOutputToken, estimate.throughput, estimate.usdPerMillionTokens
      )
    case .expertParallel(let deployment):
      let estimate = pipeline.estimate(deployment)
      planned = (
        estimate.timePerOutputToken,
        estimate.throughputPerDevice * Double(deployment.deviceCount), estimate.usdPerMillionTokens
      )
    }
  }

  private var label: String {
    switch plan.layout {
    case .disaggregated(let deployment): deployment.label
    case .expertParallel(let deployment): deployment.label
    }
  }

  /// The result as text.
  package var text: String {
    func shown(_ value: Estimate, _ unit: Double, _ decimals: Int) -> [String] {
      let style = NumberStyle.fixed(decimals)
      return [style.shown(value.mean * unit), "+-" + style.shown(value.halfWidth * unit)]
    }
    let full = "at a full batch of \(plan.context) tokens each"
    var rows: [[String]] = [
      ["tokens per second"] + shown(result.throughput, 1, 0)
        + [NumberStyle.integer.shown(planned.throughput)],
      ["tokens per second and device"] + shown(result.throughputPerDevice, 1, 0) + [""],
      ["time per output token (ms)"] + shown(result.timePerOutputToken, 1e3, 2)
        + [fixedText(planned.timePerOutputToken * 1e3, decimals: 2)],
      ["time to first token, decode side (ms)"] + shown(result.timeToFirstToken, 1e3, 1) + [""],
      ["attention busy (%)"] + shown(result.attentionBusy, 100, 1) + [""],
      ["FFN busy (%)"] + shown(result.feedForwardBusy, 100, 1) + [""],
      ["KV cache used (%)"] + shown(result.cacheUsage, 100, 1) + [""],
      ["sequences decoding"] + shown(result.runningSequences, 1, 0) + [""],
      ["requests within the TPOT limit (%)"] + shown(result.onTimeShare, 100, 2) + [""],
    ]
    if let price = result.usdPerMillionTokens {
      rows.append(
        ["USD per million tokens"] + shown(price, 1, 4)
          + [planned.price.map { fixedText($0, decimals: 4) } ?? ""])
    }
    func quantiles(_ values: [(share: Double, seconds: Double)]) -> String {
      values.map {
        "p\(Int(($0.share * 100).rounded())) \(fixedText($0.seconds * 1e3, decimals: 1)) ms"
      }.joined(separator: ", ")
    }
    let method =
      result.fidelity == .scheduler
      ? "the server's scheduler, step by step"
      : "the scheduler's rules on counts, \(result.stepsPerAdvance) steps at a time"
    return """
      \(label): \(NumberStyle.integer.shown(result.duration)) s simulated, \
      \(NumberStyle.integer.shown(Double(result.arrivedCount))) requests, \
      \(NumberStyle.integer.shown(Double(result.finishedCount))) finished; \(method); \
      seed \(result.seed)


      """
        + TextTable(
          headings: ["", "mean", "95 %", "plan (\(full))"], rows: rows,
          alignments: [.left, .right, .right, .right]
        ).text + """

          time per output token  \(quantiles(result.tokenTimeQuantiles))
          time to first token    \(quantiles(result.firstTokenQuantiles))
          preemptions \(result.preemptionCount), failures \(result.failureCount)

          """
  }

  /// Load and latency over the run.
  package var loadChart: Chart {
    let samples = result.samples
    return Chart(
      title: "\(plan.model.title) \(label): load over time",
      subtitle: "Shares of the KV cache in use and of the TPOT limit",
      x: .init("time (hours)"), y: .init("share", ticks: .percent),
      content: .lines([
        .init(
          name: "KV cache used", points: samples.map { ($0.time / 3600, $0.cacheUsage) }),
        .init(
          name: "step time over the TPOT limit",
          points: samples.map { ($0.time / 3600, $0.timePerOutputToken / plan.limit) }),
      ]))
  }

  /// What attention, links and FFN do in a few layers of one step.
  ///
  /// - Parameter layerCount: layers shown, from the first MoE layer on.
  package static func timeline(
    _ deployment: Deployment, pipeline: PipelineModel, layerCount: Int
  ) -> Chart {
    let timings = pipeline.prepared(
      attention: deployment.attentionHardware, feedForward: deployment.feedForwardHardware
    ).layerTimings(deployment)
    let shown = timings.first { $0.isMoE } ?? timings[0]
    let timeline = PipelineTimeline(
      layers: [LayerTiming](repeating: shown, count: layerCount),
      microBatches: deployment.microBatchCount, duplex: pipeline.assumptions.duplex)
    let spans = timeline.spans.map { span in
      Chart.Span(
        track: span.stage.rawValue, start: span.start * 1e3, end: span.end * 1e3,
        series: span.microBatch, label: "\(span.layer + 1)")
    }
    let period = timeline.steadyPeriod * 1e6
    return Chart.timeline(
      title: "\(pipeline.model.title) \(deployment.label): \(layerCount) layers of one step",
      subtitle: "Numbers are layers; \(NumberStyle.integer.shown(period)) us per layer in stride",
      tracks: ["attention", "A to F", "FFN", "F to A"],
      series: (1...deployment.microBatchCount).map { "micro-batch \($0)" }, spans: spans)
  }
}
