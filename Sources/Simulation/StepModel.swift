package import CostModel

/// What is simulated: servers that decode together, timed by the cost model.
package struct SimulatedSystem: Sendable {
  /// How the devices are arranged.
  package enum Layout: Sendable {
    case disaggregated(Deployment)
    case expertParallel(ExpertParallelDeployment)
  }

  /// The arrangement, and how many servers batch requests on their own.
  package let layout: Layout
  package let serverCount: Int
  /// Devices, and USD per hour for all of them where prices are known.
  package let deviceCount: Int
  package let hourlyPrice: Double?
  /// The time model; contexts are taken from the simulated load.
  package let pipeline: PipelineModel
  let limits: ServerLimits
  private let prepared: PreparedPipeline?

  /// A system with the caches and places that its layout gives each server.
  package init(_ layout: Layout, pipeline: PipelineModel) throws(SimulationError) {
    self.layout = layout
    self.pipeline = pipeline
    let perToken = pipeline.sequenceKVByteCount / Double(pipeline.context)
    let usable = pipeline.assumptions.usableMemory
    let room: Double
    let places: Int
    switch layout {
    case .disaggregated(let deployment):
      serverCount = deployment.attentionServers
      deviceCount = deployment.deviceCount
      hourlyPrice = pipeline.hourlyPrice(deployment)
      prepared = pipeline.prepared(
        attention: deployment.attentionHardware, feedForward: deployment.feedForwardHardware)
      let device = deployment.attentionHardware
      room =
        (usable * device.memoryByteCount - pipeline.attentionWeightByteCount)
        * Double(device.devicesPerServer)
      places = (deployment.batch + serverCount - 1) / serverCount
    case .expertParallel(let deployment):
      serverCount = deployment.deviceCount
      deviceCount = deployment.deviceCount
      let price = try? deployment.hardware.hourlyPrice(pipeline.assumptions.priceLevel)
      hourlyPrice = price.map { $0 * Double(deployment.deviceCount) }
      prepared = nil
      let empty = ExpertParallelDeployment(
        hardware: deployment.hardware, deviceCount: deployment.deviceCount, batchPerDevice: 0)
      room = usable * deployment.hardware.memoryByteCount - pipeline.estimate(empty).memory
      places = deployment.batchPerDevice
    }
    let capacity = Int(min(room / perToken, 1e15))
    guard capacity >= ServerLimits.blockSize else {
      throw .noMemoryForCaches(hardware: "\(deviceCount) devices")
    }
    limits = ServerLimits(sequenceCount: max(1, places), tokenCapacity: capacity)
  }

  /// The busiest server of a step and what all servers hold together.
  struct Load {
    var busiestSequences = 0.0
    var busiestContext = 0.0
    var sequences = 0.0
  }

  /// Seconds of one step, and how long each side works in it.
  struct Step {
    let time: Double
    let attentionBusy: Double
    let feedForwardBusy: Double
  }

  /// - Parameters:
  ///   - attentionFactor: slowness of the slowest attention server, 1 for none.
  ///   - feedForwardFactor: slowness of the slowest feed-forward server.
  func step(_ load: Load, attentionFactor: Double, feedForwardFactor: Double) -> Step {
    switch layout {
    case .disaggregated(let deployment):
      guard let prepared else { preconditionFailure("a disaggregated system is prepared") }
      let m = Double(deployment.microBatchCount)
      let timing = prepared.step(
        deployment, microBatchTokens: load.sequences / m,
        samplesPerDevice: load.busiestSequences / m
          / Double(deployment.attentionHardware.devicesPerServer),
        context: load.busiestContext, attentionFactor: attentionFactor,
        feedForwardFactor: feedForwardFactor)
      return Step(
        time: timing.time, attentionBusy: timing.attentionBusy,
        feedForwardBusy: timing.feedForwardBusy)
    case .expertParallel(let deployment):
      let step = pipeline.expertParallelStep(
        deployment.hardware, deviceCount: deployment.deviceCount,
        batchPerDevice: max(1, load.busiestSequences), context: load.busiestContext)
      let time = step.time * max(attentionFactor, feedForwardFactor)
      return Step(time: time, attentionBusy: time, feedForwardBusy: time)
    }
  }
}
