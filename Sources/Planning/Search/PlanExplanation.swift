package import CostModel

/// Why a plan is what it is: what binds, what comes next, what would change it, how sure it is.
package struct PlanExplanation: Sendable {
  /// How much of each constraint is used up; 1 is all of it.
  package let utilisation: [(constraint: Constraint, share: Double)]
  /// The constraint that one more tile of tokens would break, and what would happen.
  package let binding: Constraint
  package let bindingReason: String
  /// Why there are not fewer servers of either kind.
  package let serverReasons: [String]
  /// What would change the choice.
  package let sensitivities: [String]
  /// Share by which the truth may lie off, and why.
  package let errorBar: Double
  package let errorReason: String
  /// What lies outside the range in which the model was compared with measurements.
  package let warnings: [String]

  /// Explains the cheapest plan of `result`; nil where there is none.
  package init?(_ result: PlanResult) throws(CostModelError) {
    guard let best = result.best else { return nil }
    let pipeline = try result.request.pipeline()
    utilisation = best.estimate.utilisation(limit: result.request.limit)
    (binding, bindingReason) = Self.binding(best, request: result.request, pipeline: pipeline)
    serverReasons = Self.serverReasons(best, request: result.request, pipeline: pipeline)
    sensitivities = try Self.sensitivities(result)
    (errorBar, errorReason) = Self.error(best, request: result.request)
    warnings = Self.warnings(best, request: result.request)
  }

  /// What gives way first when the micro-batch grows by one tile.
  private static func binding(
    _ best: PlannedDeployment, request: PlanRequest, pipeline: PipelineModel
  ) -> (Constraint, String) {
    var larger = best.deployment
    larger.microBatchTokens += request.tile
    let estimate = pipeline.estimate(larger)
    let shares = estimate.utilisation(limit: request.limit)
    let tokens = larger.microBatchTokens
    func text(_ constraint: Constraint) -> String {
      let share = shares.first { $0.constraint == constraint }?.share ?? 0
      return "\(tokens) tokens per micro-batch would need "
        + "\(fixedText(share * 100, decimals: 1)) % of \(constraint.rawValue)"
    }
    if estimate.attentionMemory > estimate.attentionMemoryLimit {
      return (.attentionMemory, text(.attentionMemory))
    }
    let timed = shares.filter {
      $0.constraint != .attentionMemory && $0.constraint != .feedForwardMemory
    }
    let worst = timed.max { $0.share < $1.share }?.constraint ?? .feedForwardTime
    if estimate.timePerOutputToken > request.limit { return (worst, text(worst)) }
    let used = best.estimate.utilisation(limit: request.limit).max { $0.share < $1.share }
    let constraint = used?.constraint ?? worst
    return (
      constraint,
      "a larger micro-batch would fit but cost more per token on whole servers; "
        + "\(constraint.rawValue) is used most"
    )
  }

  private static func serverReasons(
    _ best: PlannedDeployment, request: PlanRequest, pipeline: PipelineModel
  ) -> [String] {
    var reasons: [String] = []
    func reason(_ smaller: Deployment, _ label: String) -> String {
      let estimate = pipeline.estimate(smaller)
      let shares = estimate.utilisation(limit: request.limit)
      let broken = shares.filter { $0.share > 1 }.max { $0.share < $1.share }
      if let broken {
        return "\(label) would exceed \(broken.constraint.rawValue) at this micro-batch "
          + "(\(fixedText(broken.share * 100, decimals: 0)) %)"
      }
      return "\(label) would cost "
        + "\(fixedText(estimate.usdPerMillionTokens ?? 0, decimals: 4)) USD per million tokens"
    }
    var smaller = best.deployment
    if smaller.attentionServers > 1 {
      smaller.attentionServers -= 1
      reasons.append(reason(smaller, smaller.label))
    }
    smaller = best.deployment
    if smaller.feedForwardServers > 1 {
      smaller.feedForwardServers -= 1
      reasons.append(reason(smaller, smaller.label))
    }
    return reasons
  }

  // MARK: Sensitivity

  private static func sensitivities(_ result: PlanResult) throws(CostModelError) -> [String] {
    guard let best = result.best else { return [] }
    return priceSensitivities(result, best: best)
      + (try efficiencySensitivities(result, best: best))
  }

  /// Price changes of the winner's devices at which the runner-up becomes as cheap.
  private static func priceSensitivities(
    _ result: PlanResult, best: PlannedDeployment
  ) -> [String] {
    let rivals = result.pairs.dropFirst().prefix(6)
    var notes: [String] = []
    var told: Set<String> = []
    for side in ["attention", "FFN"] {
      let deployment = best.deployment
      let device =
        side == "attention" ? deployment.attentionHardware : deployment.feedForwardHardware
      let level = result.request.assumptions.priceLevel
      guard let price = try? device.hourlyPrice(level) else { continue }
      func share(_ plan: PlannedDeployment) -> Double {
        var devices = 0
        if plan.deployment.attentionHardware.name == device.name {
          devices += plan.deployment.attentionDevices
        }
        if plan.deployment.feedForwardHardware.name == device.name {
          devices += plan.deployment.feedForwardDevices
        }
        return Double(devices) * price / 3600 / plan.estimate.throughput * 1e6
      }
      // price(plan) = rest + share x factor; equal where the rest's lead is used up.
      let flips = rivals.compactMap { rival -> (factor: Double, rival: PlannedDeployment)? in
        let steeper = share(best) - share(rival)
        guard steeper > 1e-12 else { return nil }
        return (1 + (rival.price - best.price) / steeper, rival)
      }
      guard let first = flips.min(by: { $0.factor < $1.factor }),
        told.insert(device.name).inserted
      else { continue }
      let rival = first.rival.deployment
      notes.append(
        "\(device.name) \(fixedText((first.factor - 1) * 100, decimals: 1)) % dearer "
          + "(\(fixedText(price * first.factor, decimals: 2)) USD/h): "
          + "\(rival.attentionHardware.name) + \(rival.feedForwardHardware.name) "
          + "\(rival.label) is as cheap")
    }
    return notes
  }

  /// What the search answers with kernels 10 % better or worse, and with idle or crowded NICs.
  private static func efficiencySensitivities(
    _ result: PlanResult, best: PlannedDeployment
  ) throws(CostModelError) -> [String] {
    let contenders = result.pairs.prefix(3)
    let changes: [(String, (inout PlanRequest) -> Void)] = [
      ("kernels 10 % less efficient", { $0.efficiencies.scale = 0.9 }),
      ("kernels 10 % more efficient", { $0.efficiencies.scale = 1.1 }),
      ("NICs at 60 % instead of 80 %", { $0.efficiencies.nicEfficiency = 0.6 }),
      ("collectives overlapped", { $0.assumptions.collectives = .overlapped }),
      ("busiest experts 20 % above the mean", { $0.assumptions.expertSkew *= 1.2 }),
    ]
    var notes: [String] = []
    let others = [2, 3, 4].filter { !result.request.microBatchCounts.contains($0) }
    let counts = others.map { count -> (String, (inout PlanRequest) -> Void) in
      ("\(count) micro-batches", { $0.microBatchCounts = [count] })
    }
    for (name, change) in changes + counts {
      var request = result.request
      change(&request)
      let pipeline = try request.pipeline()
      let found = contenders.compactMap { plan in
        PairSearch(
          request, pipeline: pipeline, attention: plan.deployment.attentionHardware,
          feedForward: plan.deployment.feedForwardHardware)?.best()
      }
      guard let now = found.min(by: { $0.price < $1.price }) else {
        notes.append("\(name): no deployment meets the limit")
        continue
      }
      let devices = [
        now.deployment.attentionHardware.name, now.deployment.feedForwardHardware.name,
      ]
      let before = [
        best.deployment.attentionHardware.name, best.deployment.feedForwardHardware.name,
      ]
      let verb = devices == before ? "stays with" : "flips to"
      notes.append(
        "\(name): \(verb) \(devices[0]) + \(devices[1]), \(now.deployment.label), "
          + "\(now.deployment.microBatchTokens) tokens, "
          + "\(fixedText(now.price, decimals: 4)) USD per million")
    }
    return notes
  }

  // MARK: Confidence

  private static func error(
    _ best: PlannedDeployment, request: PlanRequest
  ) -> (Double, String) {
    guard best.estimate.isCalibrated else {
      return (0.35, "kernels of at least one device were never compared with a measurement")
    }
    let deployment = best.deployment
    let isHopper =
      deployment.attentionHardware.efficiencyClass == "hopper"
      && deployment.feedForwardHardware.efficiencyClass == "hopper"
    if deployment.attentionHardware.measured != nil, deployment.feedForwardHardware.measured != nil
    {
      return (0.15, "calibrated by measurements on these machines")
    }
    if isHopper, deployment.attentionHardware.name == deployment.feedForwardHardware.name {
      return (0.06, "interpolates between the report's measured systems")
    }
    return (0.12, "kernels are calibrated, this pair of devices was never measured together")
  }

  private static func warnings(_ best: PlannedDeployment, request: PlanRequest) -> [String] {
    var warnings: [String] = []
    let deployment = best.deployment
    if !best.estimate.isCalibrated {
      warnings.append("outside the calibrated range: no measurement of this kind of device")
    }
    if !(2048...32_768).contains(request.context) {
      warnings.append(
        "outside the calibrated range: measurements reach from 4K to 32K tokens of context")
    }
    let samples = Double(deployment.microBatchTokens) / Double(deployment.attentionDevices)
    if samples < 8 || samples > 256 {
      warnings.append(
        "outside the calibrated range: \(fixedText(samples, decimals: 1)) samples per device, "
          + "measured were 64 to 128")
    }
    for device in [deployment.attentionHardware, deployment.feedForwardHardware] {
      for doubt in device.doubts {
        let warning = "\(device.name): \(doubt)"
        if !warnings.contains(warning) { warnings.append(warning) }
      }
      if let price = device.price, price.high > price.low * 1.2 {
        let warning =
          "\(device.name): prices from \(plainNumber(price.low)) to \(plainNumber(price.high)) "
          + "USD/h were seen (\(price.date))"
        if !warnings.contains(warning) { warnings.append(warning) }
      }
    }
    return warnings
  }
}

extension PlanResult {
  /// Why nothing meets the request, with the constraint that stands in the way.
  package func impossibility() throws(CostModelError) -> String {
    let pipeline = try request.pipeline()
    var closest: (excess: Double, text: String)?
    for attention in request.attentionHardware where attention.price != nil {
      for feedForward in request.feedForwardHardware where feedForward.price != nil {
        for servers in [1, 2, 4, 8, 16, 32, 64] {
          let deployment = Deployment(
            attentionHardware: attention, feedForwardHardware: feedForward,
            attentionServers: servers, feedForwardServers: servers,
            microBatchCount: request.microBatchCounts.min() ?? 1,
            microBatchTokens: request.tile)
          let estimate = pipeline.estimate(deployment)
          guard
            let worst = estimate.utilisation(limit: request.limit).max(by: { $0.share < $1.share })
          else { continue }
          let percent = fixedText(worst.share * 100, decimals: 0)
          let text =
            "even \(request.tile) tokens per micro-batch on \(deployment.label) of "
            + "\(attention.name) + \(feedForward.name) need \(percent) % of "
            + "\(worst.constraint.rawValue)"
            + " (time per token \(fixedText(estimate.timePerOutputToken * 1e3, decimals: 1)) ms "
            + "of \(plainNumber(request.limit * 1e3)) ms)"
          if worst.share < closest?.excess ?? .infinity { closest = (worst.share, text) }
        }
      }
    }
    return "not possible, because "
      + (closest?.text ?? exclusions.first ?? "no device with a price was given")
  }
}
