package import CostModel

/// What a plan is asked for.
package struct PlanRequest: Sendable {
  /// The model, and the context every sequence is taken to have.
  package var model: ModelArchitecture
  package var context: Int
  /// Devices to choose attention and feed-forward servers from.
  package var attentionHardware: [Hardware]
  package var feedForwardHardware: [Hardware]
  /// Seconds per output token that must not be exceeded.
  package var limit: Double
  /// What the time model takes for granted.
  package var assumptions = TimingAssumptions()
  /// The fitted efficiencies.
  package var efficiencies: Efficiencies
  /// Micro-batch counts to try; three is the report's pipeline, two leave no slack for jitter.
  package var microBatchCounts = [3]
  /// Micro-batches are multiples of this many tokens.
  package var tile = 128
  /// Most servers of one kind.
  package var serverLimit = 96
  /// Most tokens of one micro-batch.
  package var tokenLimit = 16_384

  /// A request with the usual bounds of the search.
  package init(
    model: ModelArchitecture, context: Int, hardware: [Hardware], limit: Double,
    efficiencies: Efficiencies
  ) {
    self.model = model
    self.context = context
    attentionHardware = hardware
    feedForwardHardware = hardware
    self.limit = limit
    self.efficiencies = efficiencies
  }

  /// The time model of the request.
  package func pipeline() throws(CostModelError) -> PipelineModel {
    guard limit > 0, limit.isFinite else {
      throw .notPositive(quantity: "the limit on time per output token", value: limit)
    }
    guard tile > 0, !microBatchCounts.isEmpty, microBatchCounts.allSatisfy({ $0 > 0 }) else {
      throw .notPositive(quantity: "micro-batches and their tile", value: Double(tile))
    }
    return try PipelineModel(
      model, context: context, efficiencies: efficiencies, assumptions: assumptions)
  }
}

/// One deployment with what the time model says about it.
package struct PlannedDeployment: Sendable {
  /// The deployment and its times, throughput, price and memory.
  package let deployment: Deployment
  package let estimate: DeploymentEstimate

  /// USD per million tokens; plans exist only for devices with a price.
  package var price: Double { estimate.usdPerMillionTokens ?? .infinity }
}

/// One expert-parallel deployment with what the time model says about it.
package struct PlannedBaseline: Sendable {
  /// The deployment and its times, throughput, price and memory.
  package let deployment: ExpertParallelDeployment
  package let estimate: ExpertParallelEstimate

  /// USD per million tokens.
  package var price: Double { estimate.usdPerMillionTokens ?? .infinity }
}
