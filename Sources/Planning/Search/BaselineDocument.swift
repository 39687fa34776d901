package import CostModel
package import JSONScanning

/// The cheapest deployment without disaggregation, as a plan of its own.
package struct BaselineDocument: Sendable {
  /// What the search found.
  package let result: PlanResult
  /// The plan that `step3 simulate` reads.
  package let file: PlanFile
  /// What gives way when a device takes two sequences more, and by how much.
  package let binding: String
  package let bindingReason: String
  private let best: PlannedBaseline

  /// nil where no expert-parallel deployment meets the request.
  package init?(_ result: PlanResult) throws(CostModelError) {
    guard let best = result.baselines.first else { return nil }
    self.result = result
    self.best = best
    let request = result.request
    file = PlanFile(
      model: request.model, context: request.context, limit: request.limit,
      layout: .expertParallel(best.deployment), assumptions: request.assumptions)
    var larger = best.deployment
    larger.batchPerDevice += 2
    let estimate = try request.pipeline().estimate(larger)
    let batch = "\(larger.batchPerDevice) sequences per device would need "
    if !estimate.fits {
      binding = "memory"
      bindingReason = batch + percent(estimate.memory / estimate.memoryLimit) + " of memory"
    } else {
      binding =
        estimate.communication > estimate.compute ? "all-to-all network" : "arithmetic and memory"
      bindingReason =
        batch + percent(estimate.timePerOutputToken / request.limit) + " of the time per token"
    }
  }

  private var warnings: [String] {
    let hardware = best.deployment.hardware
    return hardware.doubts.map { "\(hardware.name): \($0)" }
  }

  private var notes: [String] {
    [
      "attention is data parallel, experts are spread over all devices, two half batches overlap",
      "every sequence is taken to have \(result.request.context) tokens of context; "
        + "step3 simulate takes distributions",
    ] + result.exclusions
  }

  /// The plan with predictions, the other devices and AFD beside it.
  package var document: JSONValue {
    let estimate = best.estimate
    let predicted = JSONValue.members([
      ("tpot_ms", .finite(estimate.timePerOutputToken * 1e3)),
      (
        "tokens_per_second",
        .finite(estimate.throughputPerDevice * Double(best.deployment.deviceCount))
      ), ("tokens_per_second_per_device", .finite(estimate.throughputPerDevice)),
      ("usd_per_mtok", .finite(estimate.usdPerMillionTokens)),
      ("memory_gb", .finite(estimate.memory / 1e9)),
      ("memory_limit_gb", .finite(estimate.memoryLimit / 1e9)),
      ("layer_compute_us", .finite(estimate.compute * 1e6)),
      ("layer_communication_us", .finite(estimate.communication * 1e6)),
    ])
    return .members(
      file.members + [
        ("predicted", predicted),
        (
          "binding",
          .members([("constraint", .string(binding)), ("reason", .string(bindingReason))])
        ), ("baseline", .array(result.baselines.prefix(3).map(PlanDocument.baseline))),
        ("alternatives", .array(result.pairs.prefix(10).map(PlanDocument.summary))),
        ("warnings", .strings(warnings)), ("notes", .strings(notes)),
      ])
  }

  /// The plan for people.
  package var text: String {
    let deployment = best.deployment
    let estimate = best.estimate
    return """
      \(deployment.label): \(deployment.deviceCount) x \(deployment.hardware.name), \
      \(deployment.batchPerDevice) sequences per device, no disaggregation

        time per output token  \(fixedText(estimate.timePerOutputToken * 1e3, decimals: 1)) ms of \
      \(plainNumber(result.request.limit * 1e3)) ms
        throughput             \
      \(NumberStyle.integer.shown(estimate.throughputPerDevice * Double(deployment.deviceCount))) \
      tokens/s, \(NumberStyle.integer.shown(estimate.throughputPerDevice)) per device
        price                  \(fixedText(best.price, decimals: 4)) USD per million tokens
        memory                 \(fixedText(estimate.memory / 1e9, decimals: 1)) of \
      \(fixedText(estimate.memoryLimit / 1e9, decimals: 1)) GB per device
        binding                \(binding): \(bindingReason)


      """ + PlanDocument.table(result)
        + PlanDocument.section("Warnings", warnings) + PlanDocument.section("Notes", notes)
  }
}

private func percent(_ share: Double) -> String { fixedText(share * 100, decimals: 1) + " %" }

extension PlanResult {
  /// What disaggregation saves or costs against the best deployment without it.
  package var verdict: String? {
    guard let split = best, let whole = baselines.first else { return nil }
    let share = split.price / whole.price - 1
    let size = fixedText(abs(share) * 100, decimals: 1)
    let other =
      "\(whole.deployment.label) on \(whole.deployment.hardware.name) "
      + "(\(fixedText(whole.price, decimals: 4)) USD)"
    return share < 0
      ? "pays: \(size) % cheaper than \(other)" : "does not pay: \(size) % dearer than \(other)"
  }
}
