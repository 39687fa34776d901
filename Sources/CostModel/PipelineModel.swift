/// The time model: model, efficiencies and assumptions bound together.
package struct PipelineModel: Sendable {
  /// What is timed, and with which assumptions.
  package let model: ModelArchitecture
  package let efficiencies: Efficiencies
  package let assumptions: TimingAssumptions
  package let context: Int
  let classes: [LayerClass]
  private let residentKV: Double

  package init(
    _ model: ModelArchitecture, context: Int, efficiencies: Efficiencies,
    assumptions: TimingAssumptions
  ) throws(CostModelError) {
    try model.validate(context: context)
    try assumptions.validate()
    self.model = model
    self.context = context
    self.efficiencies = efficiencies
    self.assumptions = assumptions
    classes = model.layerClasses
    residentKV = model.residentKVByteCount(context: Double(context)) * assumptions.kvScale
  }

  /// Draft layers cost one layer each, per step.
  var draftFactor: Double {
    1 + Double(assumptions.speculation.draftCount) / Double(model.layerCount)
  }

  /// This model with two kinds of devices, their efficiencies looked up once.
  package func prepared(attention: Hardware, feedForward: Hardware) -> PreparedPipeline {
    PreparedPipeline(self, attention: attention, feedForward: feedForward)
  }

  /// Everything the time model says about `deployment`.
  package func estimate(_ deployment: Deployment) -> DeploymentEstimate {
    prepared(
      attention: deployment.attentionHardware, feedForward: deployment.feedForwardHardware
    ).estimate(deployment)
  }

  /// USD per hour of the whole deployment, nil where a price is missing.
  package func hourlyPrice(_ deployment: Deployment) -> Double? {
    guard let a = try? deployment.attentionHardware.hourlyPrice(assumptions.priceLevel),
      let f = try? deployment.feedForwardHardware.hourlyPrice(assumptions.priceLevel)
    else { return nil }
    return Double(deployment.attentionDevices) * a + Double(deployment.feedForwardDevices) * f
  }

  /// KV bytes one sequence keeps at the planned context, all layers.
  package var sequenceKVByteCount: Double { residentKV }

  /// Bytes an attention device keeps besides KV: projections, embeddings and output head.
  package var attentionWeightByteCount: Double {
    (model.linearParameterCount + model.vocabularyParameterCount) * assumptions.weightByteCount
  }

  /// Bytes one attention device holds.
  package func attentionMemory(_ deployment: Deployment) -> Double {
    Double(deployment.batch) * residentKV / Double(deployment.attentionDevices)
      + attentionWeightByteCount
  }

  /// Bytes one feed-forward device holds.
  package func feedForwardMemory(devices: Int) -> Double {
    model.feedForwardParameterCount * assumptions.weightByteCount
      * (1 + assumptions.expertRedundancy) / Double(devices)
  }
}

/// A time model with two kinds of devices; the form in which many deployments are tried.
package struct PreparedPipeline: Sendable {
  private struct Entry: Sendable {
    let layer: LayerClass
    let attention: DeviceEfficiency
    let feedForward: DeviceEfficiency
  }

  /// The time model and the devices.
  package let pipeline: PipelineModel
  package let attentionHardware: Hardware
  package let feedForwardHardware: Hardware
  private let entries: [Entry]
  private let head: Double

  init(_ pipeline: PipelineModel, attention: Hardware, feedForward: Hardware) {
    self.pipeline = pipeline
    attentionHardware = attention
    feedForwardHardware = feedForward
    entries = pipeline.classes.map { layer in
      let family = layer.attention.shape.family
      return Entry(
        layer: layer,
        attention: pipeline.efficiencies.efficiency(of: attention, family: family),
        feedForward: pipeline.efficiencies.efficiency(of: feedForward, family: family))
    }
    head = entries.first?.attention.head ?? 0
  }

  private func timing(
    _ entry: Entry, attentionServers x: Int, feedForwardServers y: Int, microBatches m: Int,
    tokens: Double, samples: Double? = nil, context: Double
  ) -> LayerTiming {
    let assumptions = pipeline.assumptions
    let hidden = pipeline.model.hiddenDimension
    let layer = entry.layer
    let reach = NetworkStageTime.reach(
      layer.feedForward, serverCount: y, mode: assumptions.dispatch)
    return LayerTiming(
      layerCount: layer.layerCount, isMoE: layer.feedForward.isMoE,
      attention: AttentionStageTime(
        layer.attention, hidden: hidden, on: attentionHardware, efficiency: entry.attention,
        samples: samples ?? tokens / Double(x * attentionHardware.devicesPerServer),
        context: context, assumptions: assumptions),
      feedForward: FeedForwardStageTime(
        layer.feedForward, hidden: hidden, on: feedForwardHardware, efficiency: entry.feedForward,
        tokens: tokens, serverCount: y, reach: reach,
        scaleUpEfficiency: pipeline.efficiencies.scaleUpEfficiency, assumptions: assumptions),
      network: NetworkStageTime(
        hidden: hidden, tokens: tokens, attentionServers: x, feedForwardServers: y, reach: reach,
        attentionHardware: attentionHardware, feedForwardHardware: feedForwardHardware,
        nicEfficiency: pipeline.efficiencies.nicEfficiency, assumptions: assumptions),
      microBatchCount: m)
  }

  /// Stage times of every class of layers, at the planned context or another one.
  package func layerTimings(_ deployment: Deployment, context: Double? = nil) -> [LayerTiming] {
    entries.map { entry in
      timing(
        entry, attentionServers: deployment.attentionServers,
        feedForwardServers: deployment.feedForwardServers,
        microBatches: deployment.microBatchCount, tokens: Double(deployment.microBatchTokens),
        context: context ?? Double(pipeline.context))
    }
  }

  /// Seconds per emitted token; what a search asks for most often.
  package func timePerOutputToken(
    attentionServers x: Int, feedForwardServers y: Int, microBatches m: Int, tokens: Int
  ) -> Double {
    var sum = 0.0
    for entry in entries {
      let timing = timing(
        entry, attentionServers: x, feedForwardServers: y, microBatches: m,
        tokens: Double(tokens), context: Double(pipeline.context))
      sum += Double(timing.layerCount) * timing.period
    }
    return (sum * pipeline.draftFactor + head) / pipeline.assumptions.speculation.tokensPerStep
  }

  /// Seconds of one step under an uneven load, and how long each side works in it.
  package struct StepTime: Equatable, Sendable {
    /// The step, and the busy time of the slowest attention and feed-forward servers.
    package let time: Double
    package let attentionBusy: Double
    package let feedForwardBusy: Double
  }

  /// One step as a simulator sees it.
  ///
  /// - Parameters:
  ///   - microBatchTokens: tokens of one micro-batch, system wide.
  ///   - samplesPerDevice: sequences per micro-batch on a device of the busiest attention server.
  ///   - context: their mean context.
  ///   - attentionFactor: slowness of the slowest attention server, 1 for none.
  ///   - feedForwardFactor: slowness of the slowest feed-forward server.
  package func step(
    _ deployment: Deployment, microBatchTokens: Double, samplesPerDevice: Double, context: Double,
    attentionFactor: Double, feedForwardFactor: Double
  ) -> StepTime {
    var time = 0.0
    var attentionBusy = 0.0
    var feedForwardBusy = 0.0
    let m = Double(deployment.microBatchCount)
    for entry in entries {
      let layer = timing(
        entry, attentionServers: deployment.attentionServers,
        feedForwardServers: deployment.feedForwardServers, microBatches: deployment.microBatchCount,
        tokens: microBatchTokens, samples: samplesPerDevice, context: context)
      let attention = layer.attention.total * attentionFactor
      let feedForward = layer.feedForward.total * feedForwardFactor
      let bottleneck = max(attention, feedForward, layer.network.busiest)
      let passage = attention + feedForward + layer.network.roundTrip
      let count = Double(layer.layerCount) * pipeline.draftFactor
      time += count * max(m * bottleneck, passage)
      attentionBusy += count * m * attention
      feedForwardBusy += count * m * feedForward
    }
    return StepTime(
      time: time + head, attentionBusy: attentionBusy + head, feedForwardBusy: feedForwardBusy)
  }

  /// Everything the time model says about `deployment`, which must be of these devices.
  package func estimate(_ deployment: Deployment) -> DeploymentEstimate {
    let layers = layerTimings(deployment)
    let assumptions = pipeline.assumptions
    let tokensPerStep = assumptions.speculation.tokensPerStep
    let inLayers = layers.reduce(0) { $0 + Double($1.layerCount) * $1.period }
    let stepTime = inLayers * pipeline.draftFactor + head
    let throughput = Double(deployment.batch) * tokensPerStep / stepTime
    return DeploymentEstimate(
      layers: layers, head: head, tokensPerStep: tokensPerStep, stepTime: stepTime,
      throughput: throughput, throughputPerDevice: throughput / Double(deployment.deviceCount),
      usdPerMillionTokens: pipeline.hourlyPrice(deployment).map { 1e6 * $0 / 3600 / throughput },
      attentionMemory: pipeline.attentionMemory(deployment),
      attentionMemoryLimit: assumptions.usableMemory * attentionHardware.memoryByteCount,
      feedForwardMemory: pipeline.feedForwardMemory(devices: deployment.feedForwardDevices),
      feedForwardMemoryLimit: assumptions.usableMemory * feedForwardHardware.memoryByteCount,
      isCalibrated: entries.allSatisfy { $0.attention.isCalibrated && $0.feedForward.isCalibrated },
      draftFactor: pipeline.draftFactor)
  }
}
