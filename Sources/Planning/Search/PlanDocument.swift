package import CostModel
package import JSONScanning

/// A plan with its reasons, in the forms people and programs read.
package struct PlanDocument: Sendable {
  /// What the search found, and why.
  package let result: PlanResult
  package let explanation: PlanExplanation
  private let best: PlannedDeployment

  /// nil where nothing meets the request.
  package init?(_ result: PlanResult) throws(CostModelError) {
    guard let best = result.best, let explanation = try PlanExplanation(result) else { return nil }
    self.result = result
    self.best = best
    self.explanation = explanation
  }

  /// The plan itself, as `step3 simulate` reads it.
  package var file: PlanFile {
    PlanFile(
      model: result.request.model, context: result.request.context, limit: result.request.limit,
      layout: .disaggregated(best.deployment), assumptions: result.request.assumptions)
  }

  private var definitions: [String] {
    [
      "time per output token (TPOT) is the time of one decoding step, output head included, "
        + "time to first token excluded"
        + (best.estimate.tokensPerStep > 1
          ? ", divided by \(fixedText(best.estimate.tokensPerStep, decimals: 2)) tokens per step"
          : ""),
      "every sequence is taken to have \(result.request.context) tokens of context; "
        + "step3 simulate takes distributions",
    ] + result.exclusions
  }
}

// MARK: JSON

extension PlanDocument {
  /// The plan with predictions, reasons, alternatives and warnings.
  package var document: JSONValue {
    .members(
      file.members + [
        ("predicted", Self.predicted(best.estimate)),
        (
          "constraints",
          .array(
            explanation.utilisation.map {
              .members([
                ("constraint", .string($0.constraint.rawValue)), ("share", .finite($0.share)),
              ])
            })
        ),
        (
          "binding",
          .members([
            ("constraint", .string(explanation.binding.rawValue)),
            ("reason", .string(explanation.bindingReason)),
            ("servers", .strings(explanation.serverReasons)),
          ])
        ),
        ("runner_up", result.pairs.dropFirst().first.map(Self.summary)),
        ("alternatives", .array(result.pairs.dropFirst(2).prefix(10).map(Self.summary))),
        ("baseline", .array(result.baselines.prefix(3).map(Self.baseline))),
        ("verdict", result.verdict.map(JSONValue.string)),
        ("sensitivity", .strings(explanation.sensitivities)),
        (
          "error",
          .members([
            ("share", .finite(explanation.errorBar)), ("reason", .string(explanation.errorReason)),
          ])
        ), ("warnings", .strings(explanation.warnings)), ("notes", .strings(definitions)),
      ])
  }

  private static func predicted(_ estimate: DeploymentEstimate) -> JSONValue {
    .members([
      ("tpot_ms", .finite(estimate.timePerOutputToken * 1e3)),
      ("tokens_per_second", .finite(estimate.throughput)),
      ("tokens_per_second_per_device", .finite(estimate.throughputPerDevice)),
      ("usd_per_mtok", .finite(estimate.usdPerMillionTokens)),
      ("attention_memory_gb", .finite(estimate.attentionMemory / 1e9)),
      ("attention_memory_limit_gb", .finite(estimate.attentionMemoryLimit / 1e9)),
      ("ffn_memory_gb", .finite(estimate.feedForwardMemory / 1e9)),
      ("ffn_memory_limit_gb", .finite(estimate.feedForwardMemoryLimit / 1e9)),
      (
        "layers",
        .array(
          estimate.layers.map { layer in
            .members([
              ("layers", .integer(layer.layerCount)), ("moe", .boolean(layer.isMoE)),
              ("attention_us", .finite(layer.attention.total * 1e6)),
              ("ffn_us", .finite(layer.feedForward.total * 1e6)),
              ("network_us", .finite(layer.network.busiest * 1e6)),
              ("period_us", .finite(layer.period * 1e6)),
            ])
          })
      ),
    ])
  }

  /// One deployment in short.
  static func summary(_ plan: PlannedDeployment) -> JSONValue {
    let deployment = plan.deployment
    return .members([
      ("attention_hardware", .string(deployment.attentionHardware.name)),
      ("ffn_hardware", .string(deployment.feedForwardHardware.name)),
      ("label", .string(deployment.label)), ("devices", .integer(deployment.deviceCount)),
      ("micro_batches", .integer(deployment.microBatchCount)),
      ("micro_batch_tokens", .integer(deployment.microBatchTokens)),
      ("tpot_ms", .finite(plan.estimate.timePerOutputToken * 1e3)),
      ("tokens_per_second_per_device", .finite(plan.estimate.throughputPerDevice)),
      ("usd_per_mtok", .finite(plan.price)),
    ])
  }

  /// One expert-parallel deployment in short.
  static func baseline(_ plan: PlannedBaseline) -> JSONValue {
    .members([
      ("hardware", .string(plan.deployment.hardware.name)),
      ("label", .string(plan.deployment.label)),
      ("devices", .integer(plan.deployment.deviceCount)),
      ("batch_per_device", .integer(plan.deployment.batchPerDevice)),
      ("tpot_ms", .finite(plan.estimate.timePerOutputToken * 1e3)),
      ("tokens_per_second_per_device", .finite(plan.estimate.throughputPerDevice)),
      ("usd_per_mtok", .finite(plan.price)),
    ])
  }
}

// MARK: Text

extension PlanDocument {
  /// The plan for people.
  package var text: String {
    let deployment = best.deployment
    let estimate = best.estimate
    func percent(_ share: Double) -> String { fixedText(share * 100, decimals: 1) + " %" }
    var out = """
      \(deployment.label): \(deployment.attentionDevices) x \
      \(deployment.attentionHardware.name) for attention, \(deployment.feedForwardDevices) x \
      \(deployment.feedForwardHardware.name) for FFN, \(deployment.microBatchCount) micro-batches \
      of \(deployment.microBatchTokens) tokens

        time per output token  \(fixedText(estimate.timePerOutputToken * 1e3, decimals: 1)) ms of \
      \(plainNumber(result.request.limit * 1e3)) ms
        throughput             \(NumberStyle.integer.shown(estimate.throughput)) tokens/s, \
      \(NumberStyle.integer.shown(estimate.throughputPerDevice)) per device
        price                  \(fixedText(best.price, decimals: 4)) USD per million tokens, \
      +-\(fixedText(explanation.errorBar * 100, decimals: 0)) % (\(explanation.errorReason))
        binding                \(explanation.binding.rawValue): \(explanation.bindingReason)
        disaggregation         \(result.verdict ?? "was compared with nothing")


      """
    let rows = explanation.utilisation.map { [$0.constraint.rawValue, percent($0.share)] }
    out +=
      TextTable(
        headings: ["constraint", "used"], rows: rows, alignments: [.left, .right]
      ).text
    out += "\n" + Self.table(result)
    out += Self.section("Servers", explanation.serverReasons)
    out += Self.section("What would change the choice", explanation.sensitivities)
    out += Self.section("Warnings", explanation.warnings)
    out += Self.section("Notes", definitions)
    return out
  }

  /// The cheapest deployments of both kinds.
  static func table(_ result: PlanResult) -> String {
    func row(_ plan: PlannedDeployment) -> [String] {
      let deployment = plan.deployment
      return [
        deployment.attentionHardware.name, deployment.feedForwardHardware.name, deployment.label,
        "\(deployment.microBatchCount) x \(deployment.microBatchTokens)",
        "\(deployment.deviceCount)",
        fixedText(plan.estimate.timePerOutputToken * 1e3, decimals: 1),
        NumberStyle.integer.shown(plan.estimate.throughputPerDevice),
        fixedText(plan.price, decimals: 4),
      ]
    }
    let rows =
      result.pairs.prefix(6).map(row)
      + result.baselines.prefix(2).map { plan in
        [
          plan.deployment.hardware.name, "", plan.deployment.label,
          "\(plan.deployment.batchPerDevice) per device", "\(plan.deployment.deviceCount)",
          fixedText(plan.estimate.timePerOutputToken * 1e3, decimals: 1),
          NumberStyle.integer.shown(plan.estimate.throughputPerDevice),
          fixedText(plan.price, decimals: 4),
        ]
      }
    return TextTable(
      headings: [
        "attention", "FFN", "layout", "micro-batches", "devices", "TPOT ms", "tokens/s/device",
        "$/1M",
      ], rows: rows,
      alignments: [.left, .left, .left, .right, .right, .right, .right, .right]
    ).text
  }

  /// A titled list, or nothing.
  static func section(_ title: String, _ lines: [String]) -> String {
    lines.isEmpty ? "" : "\n\(title)\n" + lines.map { "* \($0)\n" }.joined()
  }

  /// Prices of the cheapest plans and of expert parallelism, as bars.
  package var chart: Chart {
    let plans = result.pairs.prefix(8).map { plan in
      (
        "\(plan.deployment.attentionHardware.name)+\(plan.deployment.feedForwardHardware.name)"
          + "\n\(plan.deployment.label)", plan.price
      )
    }
    let baselines = result.baselines.prefix(2).map {
      ("\($0.deployment.hardware.name)\n\($0.deployment.label)", $0.price)
    }
    let all = plans + baselines
    var chart = Chart(
      title: "\(result.request.model.title): cheapest deployments within "
        + "\(plainNumber(result.request.limit * 1e3)) ms per token",
      subtitle: "USD per million tokens at \(result.request.context) tokens of context, time model",
      x: .init(""), y: .init("USD per million tokens", ticks: .usd),
      content: .bars(
        categories: all.map(\.0), [Chart.Bars(name: "USD per 1M", values: all.map { $0.1 })]))
    chart.showsValues = true
    return chart
  }
}
