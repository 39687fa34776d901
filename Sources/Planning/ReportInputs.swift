package import CostModel

/// What every report computes from: catalogues, the fit, and the reader's switches.
package struct ReportInputs: Sendable {
  /// Known models.
  package var models: ModelCatalogue
  /// Known devices.
  package var hardware: HardwareCatalogue
  /// Fitted efficiencies.
  package var efficiencies: Efficiencies
  /// Switches of the price model.
  package var assumptions = CostAssumptions()
  /// Tokens in "1K": 1024, or 1000 as in Section 6 of the report.
  package var kilo = 1024
  /// Whether a stage is the report's 16.6 ms (and its 2/3 11.1 ms) or exactly 50/3 ms.
  package var stageIsTruncated = true
  /// Whether both directions of a link share it: 3 bytes per element, or 2 with full duplex.
  package var duplex: Duplex = .half
  /// What the report prints.
  package let published: PublishedReport

  /// The catalogues that come with the package.
  package init() throws(CostModelError) {
    models = try ModelCatalogue.builtIn()
    hardware = try HardwareCatalogue.builtIn()
    efficiencies = try Efficiencies.builtIn()
    published = try PublishedReport.builtIn()
  }

  /// The report's nine models, in its order.
  var reportModels: [ModelArchitecture] { Array(models.models.prefix(9)) }

  /// The report's four devices, in its order.
  func reportDevices() throws(CostModelError) -> [Hardware] {
    var devices: [Hardware] = []
    for name in HardwareCatalogue.reportNames { devices.append(try hardware.hardware(named: name)) }
    return devices
  }

  func cost(
    _ model: String, on device: String, kilotokens: Int
  ) throws(CostModelError) -> DecodingCost {
    try DecodingCost(
      models.model(named: model), on: hardware.hardware(named: device),
      context: kilotokens * kilo, assumptions: assumptions)
  }

  func pair(_ model: String, kilotokens: Int) throws(CostModelError) -> DisaggregatedCost {
    try DisaggregatedCost(
      models.model(named: model), among: reportDevices(), context: kilotokens * kilo,
      assumptions: assumptions)
  }

  /// Bytes per element that the busier direction of a link carries.
  var bytesPerElement: Double { duplex == .half ? 3 : 2 }

  /// Seconds all layers may spend in one stage, as the sparsity rule takes them.
  var sparsityStage: Double { stageIsTruncated ? 11.1e-3 * 1.5 : 0.05 / 3 }

  /// The time model of `model`, with the fit.
  func pipeline(
    _ model: String = "step3", context: Int,
    _ change: (inout TimingAssumptions) -> Void = { _ in }
  ) throws(CostModelError) -> PipelineModel {
    var timing = TimingAssumptions()
    change(&timing)
    return try PipelineModel(
      models.model(named: model), context: context, efficiencies: efficiencies,
      assumptions: timing)
  }

  /// A deployment of one kind of device on both sides.
  func deployment(
    _ device: Hardware, _ attention: Int, _ feedForward: Int, tokens: Int, microBatches: Int = 3
  ) -> Deployment {
    Deployment(
      attentionHardware: device, feedForwardHardware: device, attentionServers: attention,
      feedForwardServers: feedForward, microBatchCount: microBatches, microBatchTokens: tokens)
  }
}
