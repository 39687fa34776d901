package import JSONScanning

/// A price per device-hour as it was seen: a range and a date, never one number alone.
package struct HourlyPrice: Equatable, Sendable {
  /// USD per hour, when they were seen, and whether they were computed from a purchase.
  package let low: Double
  package let mid: Double
  package let high: Double
  package let date: String
  package let isDerivedFromPurchase: Bool
}

/// What buying a device costs over its life.
package struct Purchase: Equatable, Sendable {
  /// Price of the device and years it serves.
  package let usd: Double
  package let lifeYears: Double
  /// Share of its life in which the device works for us.
  package let utilisation: Double
  package let watts: Double
  package let usdPerKWh: Double
  package let date: String

  /// USD per useful hour: capital over used hours, plus power.
  package var hourly: Double {
    usd / (lifeYears * 8760 * utilisation) + watts / 1000 * usdPerKWh
  }
}

/// Which end of a price range to use.
package enum PriceLevel: String, Sendable, CaseIterable {
  case low
  case mid
  case high
}

/// Measured shares of the peaks, where an entry brings its own instead of its class's.
package struct MeasuredEfficiency: Equatable, Sendable {
  /// Share of bandwidth that reading KV reaches.
  package let attentionBandwidth: Double?
  /// Share of peak FLOPS of the attention core.
  package let attentionFlops: Double?
  /// Share of bandwidth that reading weights reaches.
  package let linearBandwidth: Double?
  /// Share of peak FLOPS of matrix products.
  package let linearFlops: Double?
  /// Seconds per attention layer and per feed-forward layer besides bytes and FLOPs.
  package let attentionOverhead: Double?
  package let feedForwardOverhead: Double?
  /// Seconds per expert that any token chose, besides its bytes and FLOPs.
  package let expertOverhead: Double?
  /// Seconds per step outside the layers.
  package let head: Double?
  /// Seconds that activations take one way between an attention and an FFN node of this machine.
  package let exchange: Double?
  /// Bytes per second that all cores read together, where the entry is of fewer of them: nodes on
  /// one machine share it.
  package let machineBandwidth: Double?
}

/// One device: dense peaks, bandwidth, capacity, links, price. Units are SI: bytes, FLOP/s, USD/h.
package struct Hardware: Equatable, Sendable {
  /// What the device is asked for by, and how people call it.
  package let name: String
  package let title: String
  package let aliases: [String]
  /// The efficiency class the device belongs to.
  package let efficiencyClass: String
  package let memoryByteCount: Double
  package let bandwidth: Double
  package let bf16Peak: Double
  package let fp8Peak: Double?
  package let int8Peak: Double?
  package let fp4Peak: Double?
  /// Scale-up bandwidth, one way; nil where devices of a server share no fast link.
  package let scaleUpBandwidth: Double?
  /// Network bandwidth per device, one way, nominal.
  package let nicBandwidth: Double
  package let devicesPerServer: Int
  package let price: HourlyPrice?
  package let source: String
  package let doubts: [String]
  package let measured: MeasuredEfficiency?

  /// The device with another price for every level; used for what-if and user prices.
  package func priced(at usdPerHour: Double, date: String) -> Hardware {
    with(
      price: HourlyPrice(
        low: usdPerHour, mid: usdPerHour, high: usdPerHour, date: date,
        isDerivedFromPurchase: false))
  }

  private func with(price: HourlyPrice?) -> Hardware {
    Hardware(
      name: name, title: title, aliases: aliases, efficiencyClass: efficiencyClass,
      memoryByteCount: memoryByteCount, bandwidth: bandwidth, bf16Peak: bf16Peak, fp8Peak: fp8Peak,
      int8Peak: int8Peak, fp4Peak: fp4Peak, scaleUpBandwidth: scaleUpBandwidth,
      nicBandwidth: nicBandwidth, devicesPerServer: devicesPerServer, price: price,
      source: source, doubts: doubts, measured: measured)
  }

  /// USD per device-hour at `level`.
  package func hourlyPrice(_ level: PriceLevel) throws(CostModelError) -> Double {
    guard let price else { throw .noPrice(hardware: name) }
    return switch level {
    case .low: price.low
    case .mid: price.mid
    case .high: price.high
    }
  }

  /// The peak that matrix products with 8-bit storage run at.
  ///
  /// FP8 where the device has it; otherwise BF16, as the report computes the A800 and the 910B,
  /// unless INT8 arithmetic is asked for.
  package func eightBitPeak(usingInt8: Bool) -> Double {
    if let fp8Peak { return fp8Peak }
    if usingInt8, let int8Peak { return int8Peak }
    return bf16Peak
  }

  /// FLOPs per byte at which arithmetic and memory take equally long.
  package func roofline(usingInt8: Bool) -> Double {
    eightBitPeak(usingInt8: usingInt8) / bandwidth
  }
}

extension HourlyPrice {
  /// A price of one's own.
  package init(usdPerHour: Double, date: String) {
    self.init(
      low: usdPerHour, mid: usdPerHour, high: usdPerHour, date: date, isDerivedFromPurchase: false)
  }
}

extension Hardware {
  /// A machine as probes measured it; one device per server, no faster link inside.
  package init(
    measured name: String, memoryByteCount: Double, bandwidth: Double, bf16Peak: Double,
    int8Peak: Double?, nicBandwidth: Double, price: HourlyPrice?, source: String,
    doubts: [String], efficiency: MeasuredEfficiency
  ) {
    self.init(
      name: name, title: name, aliases: [], efficiencyClass: "measured",
      memoryByteCount: memoryByteCount, bandwidth: bandwidth, bf16Peak: bf16Peak, fp8Peak: nil,
      int8Peak: int8Peak, fp4Peak: nil, scaleUpBandwidth: nil, nicBandwidth: nicBandwidth,
      devicesPerServer: 1, price: price, source: source, doubts: doubts, measured: efficiency)
  }

  private static let keys = [
    "name", "title", "aliases", "class", "memoryGB", "bandwidthGBs", "scaleUpGBs", "nicGbps",
    "devicesPerServer", "bf16TFLOPS", "fp8TFLOPS", "int8TOPS", "fp4TFLOPS", "price", "purchase",
    "source", "doubts", "measured",
  ]

  /// Reads one entry of a hardware file.
  package init(_ value: JSONValue, file: String, index: Int) throws(CostModelError) {
    let named: String
    if case .string(let text)? = value["name"] { named = text } else { named = "entry \(index)" }
    let node = try DocumentNode(value, file: file, place: named, allowed: Self.keys)
    name = try node.string("name")
    title = try node.optionalString("title") ?? name
    aliases = try node.strings("aliases")
    efficiencyClass = try node.optionalString("class") ?? "none"
    memoryByteCount = try node.positiveNumber("memoryGB") * 1e9
    bandwidth = try node.positiveNumber("bandwidthGBs") * 1e9
    bf16Peak = try node.positiveNumber("bf16TFLOPS") * 1e12
    fp8Peak = try node.optionalPositiveNumber("fp8TFLOPS").map { $0 * 1e12 }
    int8Peak = try node.optionalPositiveNumber("int8TOPS").map { $0 * 1e12 }
    fp4Peak = try node.optionalPositiveNumber("fp4TFLOPS").map { $0 * 1e12 }
    scaleUpBandwidth = try node.optionalPositiveNumber("scaleUpGBs").map { $0 * 1e9 }
    nicBandwidth = try node.positiveNumber("nicGbps") / 8 * 1e9
    devicesPerServer = try node.positiveCount("devicesPerServer")
    source = try node.optionalString("source") ?? "user file"
    price = try Self.price(node, file: file)
    measured = try node.value("measured").map {
      value throws(CostModelError) in
      try MeasuredEfficiency(value, file: file, place: named)
    }
    var doubts = try node.strings("doubts")
    if price?.isDerivedFromPurchase == true {
      doubts.append("the price is derived from a purchase, with assumed life, use and power")
    }
    self.doubts = doubts
  }

  private static func price(
    _ node: DocumentNode, file: String
  ) throws(CostModelError) -> HourlyPrice? {
    if let value = node.value("price") {
      let price = try DocumentNode(
        value, file: file, place: node.place + " price",
        allowed: ["low", "mid", "high", "date"])
      let mid = try price.positiveNumber("mid")
      let low = try price.optionalPositiveNumber("low") ?? mid
      let high = try price.optionalPositiveNumber("high") ?? mid
      guard low <= mid, mid <= high else {
        throw price.failure("mid", "must lie between low and high")
      }
      return HourlyPrice(
        low: low, mid: mid, high: high, date: try price.string("date"),
        isDerivedFromPurchase: false)
    }
    guard let value = node.value("purchase") else { return nil }
    let node = try DocumentNode(
      value, file: file, place: node.place + " purchase",
      allowed: ["usd", "lifeYears", "utilisation", "watts", "usdPerKWh", "date"])
    let purchase = Purchase(
      usd: try node.positiveNumber("usd"), lifeYears: try node.positiveNumber("lifeYears"),
      utilisation: try node.positiveNumber("utilisation"), watts: try node.positiveNumber("watts"),
      usdPerKWh: try node.positiveNumber("usdPerKWh"), date: try node.string("date"))
    guard purchase.utilisation <= 1 else { throw node.failure("utilisation", "cannot exceed 1") }
    return HourlyPrice(
      low: purchase.hourly, mid: purchase.hourly, high: purchase.hourly, date: purchase.date,
      isDerivedFromPurchase: true)
  }

  /// The entry as a hardware file holds it.
  package var document: JSONValue {
    .members([
      ("name", .string(name)), ("title", .string(title)), ("aliases", .strings(aliases)),
      ("class", .string(efficiencyClass)), ("memoryGB", .finite(memoryByteCount / 1e9)),
      ("bandwidthGBs", .finite(bandwidth / 1e9)),
      ("scaleUpGBs", scaleUpBandwidth.map { .finite($0 / 1e9) }),
      ("nicGbps", .finite(nicBandwidth * 8 / 1e9)),
      ("devicesPerServer", .integer(devicesPerServer)),
      ("bf16TFLOPS", .finite(bf16Peak / 1e12)), ("fp8TFLOPS", fp8Peak.map { .finite($0 / 1e12) }),
      ("int8TOPS", int8Peak.map { .finite($0 / 1e12) }),
      ("fp4TFLOPS", fp4Peak.map { .finite($0 / 1e12) }),
      (
        "price",
        price.map {
          .members([
            ("low", .finite($0.low)), ("mid", .finite($0.mid)), ("high", .finite($0.high)),
            ("date", .string($0.date)),
          ])
        }
      ), ("measured", measured.map(\.document)), ("source", .string(source)),
      ("doubts", .strings(doubts)),
    ])
  }
}

extension MeasuredEfficiency {
  /// Shares and seconds that were measured or fitted; nil leaves a figure to its default.
  package init(
    attentionBandwidth: Double?, attentionFlops: Double?, linearBandwidth: Double?,
    linearFlops: Double?, overheadPerHalfLayer: Double?, head: Double?,
    expertOverhead: Double? = nil, exchange: Double? = nil, machineBandwidth: Double? = nil
  ) {
    self.init(
      attentionBandwidth: attentionBandwidth, attentionFlops: attentionFlops,
      linearBandwidth: linearBandwidth, linearFlops: linearFlops,
      attentionOverhead: overheadPerHalfLayer, feedForwardOverhead: overheadPerHalfLayer,
      expertOverhead: expertOverhead, head: head, exchange: exchange,
      machineBandwidth: machineBandwidth)
  }

  private static let keys = [
    "attentionBandwidth", "attentionFlops", "linearBandwidth", "linearFlops",
    "attentionOverheadMicroseconds", "feedForwardOverheadMicroseconds", "headMilliseconds",
    "expertOverheadMicroseconds", "exchangeMicroseconds", "machineBandwidthGBs",
  ]

  init(_ value: JSONValue, file: String, place: String) throws(CostModelError) {
    let node = try DocumentNode(
      value, file: file, place: place + " measured", allowed: Self.keys)
    func share(_ key: String) throws(CostModelError) -> Double? {
      guard let value = try node.optionalPositiveNumber(key) else { return nil }
      guard value <= 1.5 else { throw node.failure(key, "is a share of the peak, at most about 1") }
      return value
    }
    func duration(_ key: String, _ unit: Double) throws(CostModelError) -> Double? {
      guard let value = try node.optionalNumber(key) else { return nil }
      guard value >= 0 else { throw node.failure(key, "cannot be negative") }
      return value * unit
    }
    attentionBandwidth = try share("attentionBandwidth")
    attentionFlops = try share("attentionFlops")
    linearBandwidth = try share("linearBandwidth")
    linearFlops = try share("linearFlops")
    attentionOverhead = try duration("attentionOverheadMicroseconds", 1e-6)
    feedForwardOverhead = try duration("feedForwardOverheadMicroseconds", 1e-6)
    head = try duration("headMilliseconds", 1e-3)
    expertOverhead = try duration("expertOverheadMicroseconds", 1e-6)
    exchange = try duration("exchangeMicroseconds", 1e-6)
    machineBandwidth = try node.optionalPositiveNumber("machineBandwidthGBs").map { $0 * 1e9 }
  }

  var document: JSONValue {
    .members([
      ("attentionBandwidth", attentionBandwidth.map { .finite($0) }),
      ("attentionFlops", attentionFlops.map { .finite($0) }),
      ("linearBandwidth", linearBandwidth.map { .finite($0) }),
      ("linearFlops", linearFlops.map { .finite($0) }),
      ("attentionOverheadMicroseconds", attentionOverhead.map { .finite($0 * 1e6) }),
      ("feedForwardOverheadMicroseconds", feedForwardOverhead.map { .finite($0 * 1e6) }),
      ("headMilliseconds", head.map { .finite($0 * 1e3) }),
      ("expertOverheadMicroseconds", expertOverhead.map { .finite($0 * 1e6) }),
      ("exchangeMicroseconds", exchange.map { .finite($0 * 1e6) }),
      ("machineBandwidthGBs", machineBandwidth.map { .finite($0 / 1e9) }),
    ])
  }
}
