#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// A mean and the half width of its 95 % confidence interval.
package struct Estimate: Equatable, Sendable {
  /// The mean, and what it may be off by; infinite when there was too little to tell.
  package let mean: Double
  package let halfWidth: Double

  /// A mean and a half width found otherwise.
  init(mean: Double, halfWidth: Double) {
    self.mean = mean
    self.halfWidth = halfWidth
  }

  /// By batch means: parts of one run, long enough to be nearly independent.
  init(batchMeans values: [Double]) {
    let finite = values.filter(\.isFinite)
    let count = Double(finite.count)
    let mean = finite.isEmpty ? 0 : finite.reduce(0, +) / count
    self.mean = mean
    guard finite.count > 1 else {
      halfWidth = .infinity
      return
    }
    let variance = finite.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (count - 1)
    halfWidth = Self.studentQuantile(freedom: finite.count - 1) * sqrt(variance / count)
  }

  /// 97.5 % quantile of Student's t (Cornish-Fisher, within 1 % from three degrees of freedom).
  private static func studentQuantile(freedom: Int) -> Double {
    if freedom == 1 { return 12.706 }
    if freedom == 2 { return 4.303 }
    let z = 1.959_964
    let n = Double(freedom)
    let cubic = (z * z * z + z) / (4 * n)
    let quintic = (5 * pow(z, 5) + 16 * z * z * z + 3 * z) / (96 * n * n)
    return z + cubic + quintic
  }
}

/// Quantiles of positive values, two percent apart, in constant memory.
struct Histogram {
  private var counts = [UInt64](repeating: 0, count: 1600)
  private(set) var total: UInt64 = 0
  private static let least = 1e-6
  private static let base = log(1.02)

  mutating func add(_ value: Double) {
    let place = Int(log(max(value, Self.least) / Self.least) / Self.base)
    counts[min(place, counts.count - 1)] += 1
    total += 1
  }

  /// The value below which `share` of all values lie; nil without values.
  func quantile(_ share: Double) -> Double? {
    guard total > 0 else { return nil }
    let wanted = UInt64((share * Double(total)).rounded(.up))
    var seen: UInt64 = 0
    for (place, count) in counts.enumerated() {
      seen += count
      if seen >= max(1, wanted) { return Self.least * exp((Double(place) + 0.5) * Self.base) }
    }
    return nil
  }
}

/// What one part of a run adds up to.
struct BatchSums {
  var seconds = 0.0
  var tokens = 0.0
  var steps = 0.0
  var attentionBusy = 0.0
  var feedForwardBusy = 0.0
  var usage = 0.0
  var running = 0.0
  var waiting = 0.0
  var firstTokenTime = 0.0
  var firstTokens = 0.0
  var tokenTime = 0.0
  var requests = 0.0
  var onTime = 0.0
}
