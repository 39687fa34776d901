/// The baseline without disaggregation: attention data parallel, experts spread over all devices.
package struct ExpertParallelDeployment: Equatable, Sendable {
  /// The devices, and how many of them.
  package var hardware: Hardware
  package var deviceCount: Int
  /// Sequences per device, run as two half batches.
  package var batchPerDevice: Int

  package init(hardware: Hardware, deviceCount: Int, batchPerDevice: Int) {
    self.hardware = hardware
    self.deviceCount = deviceCount
    self.batchPerDevice = batchPerDevice
  }

  /// The usual short form, such as EP128.
  package var label: String { "EP\(deviceCount)" }
}

/// What the time model says about an expert-parallel deployment.
package struct ExpertParallelEstimate: Equatable, Sendable {
  /// Seconds of both half batches' arithmetic, and of their communication, in one MoE layer.
  package let compute: Double
  package let communication: Double
  package let layer: Double
  package let stepTime: Double
  package let timePerOutputToken: Double
  package let throughputPerDevice: Double
  package let usdPerMillionTokens: Double?
  package let memory: Double
  package let memoryLimit: Double

  /// Whether weights and caches fit.
  package var fits: Bool { memory <= memoryLimit }
}

extension PipelineModel {
  /// One step of an expert-parallel system, at any load.
  package struct ExpertParallelStep: Equatable, Sendable {
    /// Arithmetic and communication of one MoE layer, that layer, and the whole step.
    package let compute: Double
    package let communication: Double
    package let layer: Double
    package let time: Double
  }

  /// Two half batches overlap arithmetic and all-to-all; a share of the shorter stays exposed.
  package func expertParallelStep(
    _ hardware: Hardware, deviceCount: Int, batchPerDevice: Double, context: Double
  ) -> ExpertParallelStep {
    let half = batchPerDevice / 2
    let queries = assumptions.speculation.queryCount
    var step = 0.0
    var slowest = (compute: 0.0, communication: 0.0, layer: 0.0)
    var head = 0.0
    for layer in classes {
      let family = layer.attention.shape.family
      let efficiency = efficiencies.efficiency(of: hardware, family: family)
      head = efficiency.head
      let attention = AttentionStageTime(
        layer.attention, hidden: model.hiddenDimension, on: hardware, efficiency: efficiency,
        samples: half, context: context, assumptions: assumptions)
      let products = expertProducts(
        layer.feedForward, on: hardware, efficiency: efficiency, deviceCount: deviceCount,
        tokens: half * queries)
      let compute = 2 * (attention.total + products + efficiency.feedForwardOverhead)
      let communication =
        layer.feedForward.isMoE
        ? 2 * half * queries * Double(layer.feedForward.topK)
          * 3 * Double(model.hiddenDimension)
          / (hardware.nicBandwidth * efficiencies.nicEfficiency) : 0
      let time =
        max(compute, communication)
        + efficiencies.exposedShare * min(compute, communication)
      step += Double(layer.layerCount) * time
      if time > slowest.layer || layer.feedForward.isMoE {
        slowest = (compute, communication, time)
      }
    }
    return ExpertParallelStep(
      compute: slowest.compute, communication: slowest.communication, layer: slowest.layer,
      time: step * draftFactor + head)
  }

  /// Everything the time model says about an expert-parallel deployment.
  package func estimate(_ deployment: ExpertParallelDeployment) -> ExpertParallelEstimate {
    let hardware = deployment.hardware
    let speculation = assumptions.speculation
    let slowest = expertParallelStep(
      hardware, deviceCount: deployment.deviceCount,
      batchPerDevice: Double(deployment.batchPerDevice), context: Double(context))
    let step = slowest.time
    let perDevice = Double(deployment.batchPerDevice) * speculation.tokensPerStep / step
    let price = try? hardware.hourlyPrice(assumptions.priceLevel)
    return ExpertParallelEstimate(
      compute: slowest.compute, communication: slowest.communication, layer: slowest.layer,
      stepTime: step, timePerOutputToken: step / speculation.tokensPerStep,
      throughputPerDevice: perDevice,
      usdPerMillionTokens: price.map { 1e6 * $0 / 3600 / perDevice },
      memory: expertParallelMemory(deployment),
      memoryLimit: assumptions.usableMemory * hardware.memoryByteCount)
  }

  /// Seconds of one half batch's expert products on one device, every device loaded alike
  /// but for the skew; the shared expert and dense layers are replicated.
  private func expertProducts(
    _ group: FeedForwardGroup, on hardware: Hardware, efficiency: DeviceEfficiency,
    deviceCount: Int, tokens: Double
  ) -> Double {
    let unit = Double(3 * model.hiddenDimension)
    let eightBit = hardware.eightBitPeak(usingInt8: assumptions.usesInt8)
    let peak =
      (assumptions.weightByteCount <= 1 ? eightBit : hardware.bf16Peak) * efficiency.linearFlops
    let bandwidth = hardware.bandwidth * efficiency.linearBandwidth
    guard group.isMoE else {
      let parameters = unit * Double(group.denseWidth)
      return max(
        parameters * assumptions.weightByteCount / bandwidth, 2 * tokens * parameters / peak)
    }
    let local = residentExperts(group, deviceCount: deviceCount)
    let arriving = tokens * Double(deviceCount)
    let touched = min(
      local,
      expectedExpertsTouched(
        expertCount: group.expertCount, topK: group.topK, tokens: arriving)
        / Double(group.expertCount) * local)
    let bytes =
      unit * (touched * Double(group.expertWidth) + Double(group.sharedWidth))
      * assumptions.weightByteCount
    let width =
      Double(group.topK * group.expertWidth) * assumptions.expertSkew + Double(group.sharedWidth)
    return smoothMaximum(
      bytes / bandwidth, 2 * tokens * unit * width / peak, exponent: efficiency.smoothing)
  }

  /// Experts a device holds, whole ones.
  private func residentExperts(_ group: FeedForwardGroup, deviceCount: Int) -> Double {
    (Double(group.expertCount) / Double(deviceCount)).rounded(.up)
  }

  private func expertParallelMemory(_ deployment: ExpertParallelDeployment) -> Double {
    let unit = Double(3 * model.hiddenDimension) * assumptions.weightByteCount
    let weights = model.feedForward.reduce(0.0) { sum, group in
      let experts =
        residentExperts(group, deviceCount: deployment.deviceCount) * Double(group.expertWidth)
      let width = group.isMoE ? experts + Double(group.sharedWidth) : Double(group.denseWidth)
      return sum + Double(group.layerCount) * unit * width
    }
    return Double(deployment.batchPerDevice) * sequenceKVByteCount + attentionWeightByteCount
      + weights * (1 + assumptions.expertRedundancy)
  }
}
