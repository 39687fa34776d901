import JSONScanning

/// Shares of a device's peaks that kernels reach, and the fixed parts of a step.
package struct DeviceEfficiency: Equatable, Sendable {
  /// Shares of bandwidth and of peak FLOPS that the attention core reaches.
  package var attentionBandwidth: Double
  package var attentionFlops: Double
  /// Rows a matrix tile holds; fewer query heads per stored head waste the rest.
  package var tileRows: Int
  package var linearBandwidth: Double
  package var linearFlops: Double
  /// Exponent p of the smooth maximum (a^p + b^p)^(1/p) of memory and arithmetic time.
  package var smoothing: Double
  /// Seconds per attention layer and per feed-forward layer besides bytes and FLOPs.
  package var attentionOverhead: Double
  package var feedForwardOverhead: Double
  /// Seconds per step outside the layers: output head and sampling.
  package var head: Double
  package var isCalibrated: Bool

  /// The efficiency of an ideal device: peaks reached, nothing fixed, hard maxima.
  package static let ideal = DeviceEfficiency(
    attentionBandwidth: 1, attentionFlops: 1, tileRows: 1, linearBandwidth: 1, linearFlops: 1,
    smoothing: .infinity, attentionOverhead: 0, feedForwardOverhead: 0, head: 0,
    isCalibrated: true)

  /// This efficiency with every share of a peak multiplied by `factor`.
  package func scaled(by factor: Double) -> DeviceEfficiency {
    var scaled = self
    scaled.attentionBandwidth *= factor
    scaled.attentionFlops *= factor
    scaled.linearBandwidth *= factor
    scaled.linearFlops *= factor
    return scaled
  }
}

/// Efficiencies per class of device and family of attention, fitted once (Table 9 of the report).
package struct Efficiencies: Sendable {
  /// One class of devices that share kernels.
  struct Class: Sendable {
    let name: String
    let attentionBandwidth: Double
    let tileRows: Int
    let isCalibrated: Bool
  }

  /// Shares of their nominal rates that collectives and NICs reach.
  package var scaleUpEfficiency: Double
  package var nicEfficiency: Double
  /// Share of the shorter of compute and communication that two half batches fail to hide.
  package var exposedShare: Double
  private let classes: [Class]
  private let attentionFlops: [(family: String, share: Double)]
  private let common: DeviceEfficiency
  /// When set, every device is ideal; used to check lower bounds.
  private var isIdeal = false
  /// Factor on every share of a peak, for sensitivity.
  package var scale: Double = 1

  /// The fitted efficiencies that come with the package.
  package static func builtIn() throws(CostModelError) -> Efficiencies {
    try Efficiencies(parsing: PackageResources.efficiencies_json, file: "efficiencies.json")
  }

  /// Peaks reached everywhere, links at their nominal rate, nothing fixed.
  package static func ideal() throws(CostModelError) -> Efficiencies {
    var ideal = try builtIn()
    ideal.isIdeal = true
    ideal.scaleUpEfficiency = 1
    ideal.nicEfficiency = 1
    return ideal
  }

  package init(parsing bytes: [UInt8], file: String) throws(CostModelError) {
    let document = try JSONValue(document: bytes, file: file)
    let node = try DocumentNode(
      document, file: file, place: "document",
      allowed: [
        "scaleUpEfficiency", "nicEfficiency", "headMilliseconds",
        "feedForwardOverheadMicroseconds", "expertParallelExposedShare", "linearBandwidth",
        "linearFlops", "smoothing", "attentionOverheadMicroseconds", "attentionFlops", "classes",
      ])
    scaleUpEfficiency = try node.positiveNumber("scaleUpEfficiency")
    nicEfficiency = try node.positiveNumber("nicEfficiency")
    exposedShare = try node.positiveNumber("expertParallelExposedShare")
    common = DeviceEfficiency(
      attentionBandwidth: 1, attentionFlops: 1, tileRows: 1,
      linearBandwidth: try node.positiveNumber("linearBandwidth"),
      linearFlops: try node.positiveNumber("linearFlops"),
      smoothing: try node.positiveNumber("smoothing"),
      attentionOverhead: try node.positiveNumber("attentionOverheadMicroseconds") * 1e-6,
      feedForwardOverhead: try node.positiveNumber("feedForwardOverheadMicroseconds") * 1e-6,
      head: try node.positiveNumber("headMilliseconds") * 1e-3, isCalibrated: false)
    let families = ["mfa", "mla", "gqa", "lightning"]
    let shares = try DocumentNode(
      node.value("attentionFlops") ?? .null, file: file, place: "attentionFlops",
      allowed: families)
    var attentionFlops: [(family: String, share: Double)] = []
    for family in families {
      attentionFlops.append((family, try shares.positiveNumber(family)))
    }
    self.attentionFlops = attentionFlops
    var classes: [Class] = []
    for value in try node.elements("classes") {
      let entry = try DocumentNode(
        value, file: file, place: "classes",
        allowed: ["name", "attentionBandwidth", "tileRows", "calibrated", "source"])
      classes.append(
        Class(
          name: try entry.string("name"),
          attentionBandwidth: try entry.positiveNumber("attentionBandwidth"),
          tileRows: try entry.positiveCount("tileRows"),
          isCalibrated: try entry.optionalBool("calibrated") ?? false))
    }
    self.classes = classes
  }

  /// The efficiency of `hardware` for one attention family; what it measured itself comes first.
  package func efficiency(of hardware: Hardware, family: String) -> DeviceEfficiency {
    if isIdeal { return DeviceEfficiency.ideal.scaled(by: scale) }
    var efficiency = common
    let entry = classes.first { $0.name == hardware.efficiencyClass }
    efficiency.attentionBandwidth = entry?.attentionBandwidth ?? 0.8
    efficiency.tileRows = entry?.tileRows ?? 1
    efficiency.attentionFlops = attentionFlops.first { $0.family == family }?.share ?? 0.6
    efficiency.isCalibrated = entry?.isCalibrated ?? false
    if let measured = hardware.measured {
      efficiency.attentionBandwidth = measured.attentionBandwidth ?? efficiency.attentionBandwidth
      efficiency.attentionFlops = measured.attentionFlops ?? efficiency.attentionFlops
      efficiency.linearBandwidth = measured.linearBandwidth ?? efficiency.linearBandwidth
      efficiency.linearFlops = measured.linearFlops ?? efficiency.linearFlops
      efficiency.attentionOverhead = measured.attentionOverhead ?? efficiency.attentionOverhead
      efficiency.feedForwardOverhead =
        measured.feedForwardOverhead ?? efficiency.feedForwardOverhead
      efficiency.head = measured.head ?? efficiency.head
      efficiency.isCalibrated = true
    }
    return efficiency.scaled(by: scale)
  }
}
