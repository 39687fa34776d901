package import CostModel
package import JSONScanning
package import Simulation

/// A plan as a file: everything needed to compute or simulate it again, nothing looked up.
package struct PlanFile: Sendable {
  /// What is deployed: attention and feed-forward servers, or expert-parallel devices.
  package enum Layout: Sendable {
    case disaggregated(Deployment)
    case expertParallel(ExpertParallelDeployment)
  }

  /// The model, the context it was planned for, and seconds per token it must meet.
  package let model: ModelArchitecture
  package let context: Int
  package let limit: Double
  package let layout: Layout
  package let assumptions: TimingAssumptions

  /// A plan to be written.
  package init(
    model: ModelArchitecture, context: Int, limit: Double, layout: Layout,
    assumptions: TimingAssumptions
  ) {
    self.model = model
    self.context = context
    self.limit = limit
    self.layout = layout
    self.assumptions = assumptions
  }

  private static let format = "step3-plan"

  /// The members every plan file has.
  package var members: [(String, JSONValue?)] {
    [
      ("format", .string(Self.format)), ("version", .integer(1)), ("model", model.document),
      ("context", .integer(context)), ("tpot_limit_ms", .finite(limit * 1e3)),
      ("assumptions", assumptions.document), ("deployment", layoutDocument),
    ]
  }

  private var layoutDocument: JSONValue {
    switch layout {
    case .disaggregated(let deployment):
      .members([
        ("kind", .string("afd")), ("label", .string(deployment.label)),
        ("attention_servers", .integer(deployment.attentionServers)),
        ("ffn_servers", .integer(deployment.feedForwardServers)),
        ("micro_batches", .integer(deployment.microBatchCount)),
        ("micro_batch_tokens", .integer(deployment.microBatchTokens)),
        ("devices", .integer(deployment.deviceCount)),
        ("attention_hardware", deployment.attentionHardware.document),
        ("ffn_hardware", deployment.feedForwardHardware.document),
      ])
    case .expertParallel(let deployment):
      .members([
        ("kind", .string("ep")), ("label", .string(deployment.label)),
        ("devices", .integer(deployment.deviceCount)),
        ("batch_per_device", .integer(deployment.batchPerDevice)),
        ("hardware", deployment.hardware.document),
      ])
    }
  }

  /// Reads a plan; what a search added beside the plan itself is not needed.
  package init(document: JSONValue, file: String) throws(CostModelError) {
    let node = try DocumentNode(
      document, file: file, place: "plan",
      allowed: [
        "format", "version", "model", "context", "tpot_limit_ms", "assumptions", "deployment",
        "predicted", "constraints", "binding", "runner_up", "alternatives", "baseline",
        "verdict", "sensitivity", "error", "warnings", "notes",
      ])
    guard try node.string("format") == Self.format, try node.count("version") == 1 else {
      throw node.failure("format", "must be \"\(Self.format)\" of version 1")
    }
    model = try ModelArchitecture(node.value("model") ?? .null, file: file, index: 0)
    context = try node.positiveCount("context")
    limit = try node.positiveNumber("tpot_limit_ms") / 1e3
    assumptions = try TimingAssumptions(node.value("assumptions") ?? .null, file: file)
    layout = try Self.layout(node.value("deployment") ?? .null, file: file)
    try model.validate(context: context)
  }

  private static func layout(
    _ value: JSONValue, file: String
  ) throws(CostModelError) -> Layout {
    let node = try DocumentNode(
      value, file: file, place: "deployment",
      allowed: [
        "kind", "label", "devices", "attention_servers", "ffn_servers", "micro_batches",
        "micro_batch_tokens", "attention_hardware", "ffn_hardware", "batch_per_device", "hardware",
      ])
    switch try node.string("kind") {
    case "afd":
      return .disaggregated(
        Deployment(
          attentionHardware: try Hardware(
            node.value("attention_hardware") ?? .null, file: file, index: 0),
          feedForwardHardware: try Hardware(
            node.value("ffn_hardware") ?? .null, file: file, index: 1),
          attentionServers: try node.positiveCount("attention_servers"),
          feedForwardServers: try node.positiveCount("ffn_servers"),
          microBatchCount: try node.positiveCount("micro_batches"),
          microBatchTokens: try node.positiveCount("micro_batch_tokens")))
    case "ep":
      return .expertParallel(
        ExpertParallelDeployment(
          hardware: try Hardware(node.value("hardware") ?? .null, file: file, index: 0),
          deviceCount: try node.positiveCount("devices"),
          batchPerDevice: try node.positiveCount("batch_per_device")))
    default:
      throw node.failure("kind", "must be afd or ep")
    }
  }
}

extension TimingAssumptions {
  /// The assumptions as a plan file holds them.
  package var document: JSONValue {
    .members([
      ("kv_scale", .finite(kvScale)), ("weight_bytes", .finite(weightByteCount)),
      ("mla", .string(operationCount.rawValue)), ("int8", .boolean(usesInt8)),
      ("duplex", .string(duplex.rawValue)), ("dispatch", .string(dispatch.rawValue)),
      ("collectives", .string(collectives.rawValue)), ("expert_skew", .finite(expertSkew)),
      ("expert_redundancy", .finite(expertRedundancy)),
      ("usable_memory", .finite(usableMemory)),
      ("drafts", .integer(speculation.draftCount)),
      ("acceptance", .finite(speculation.acceptance)),
      ("price_level", .string(priceLevel.rawValue)),
    ])
  }

  /// Reads the assumptions of a plan file.
  package init(_ value: JSONValue, file: String) throws(CostModelError) {
    self.init()
    let node = try DocumentNode(
      value, file: file, place: "assumptions",
      allowed: [
        "kv_scale", "weight_bytes", "mla", "int8", "duplex", "dispatch", "collectives",
        "expert_skew", "expert_redundancy", "usable_memory", "drafts", "acceptance", "price_level",
      ])
    func choice<Choice: RawRepresentable<String>>(
      _ key: String, _ standard: Choice
    ) throws(CostModelError) -> Choice {
      guard let text = try node.optionalString(key) else { return standard }
      guard let choice = Choice(rawValue: text) else {
        throw node.failure(key, "cannot be \"\(text)\"")
      }
      return choice
    }
    kvScale = try node.optionalPositiveNumber("kv_scale") ?? kvScale
    weightByteCount = try node.optionalPositiveNumber("weight_bytes") ?? weightByteCount
    operationCount = try choice("mla", operationCount)
    usesInt8 = try node.optionalBool("int8") ?? usesInt8
    duplex = try choice("duplex", duplex)
    dispatch = try choice("dispatch", dispatch)
    collectives = try choice("collectives", collectives)
    expertSkew = try node.optionalPositiveNumber("expert_skew") ?? expertSkew
    expertRedundancy = try node.optionalNumber("expert_redundancy") ?? expertRedundancy
    usableMemory = try node.optionalPositiveNumber("usable_memory") ?? usableMemory
    speculation = try Speculation(
      draftCount: node.optionalCount("drafts") ?? 0,
      acceptance: node.optionalNumber("acceptance") ?? 0)
    priceLevel = try choice("price_level", priceLevel)
    try validate()
  }
}

extension PlanFile {
  /// Tokens per second that the plan's time model gives its full batch.
  package func throughput(_ pipeline: PipelineModel) -> Double {
    switch layout {
    case .disaggregated(let deployment): pipeline.estimate(deployment).throughput
    case .expertParallel(let deployment):
      pipeline.estimate(deployment).throughputPerDevice * Double(deployment.deviceCount)
    }
  }

  /// The layout as the simulator takes it.
  package var simulatedLayout: SimulatedSystem.Layout {
    switch layout {
    case .disaggregated(let deployment): .disaggregated(deployment)
    case .expertParallel(let deployment): .expertParallel(deployment)
    }
  }
}
