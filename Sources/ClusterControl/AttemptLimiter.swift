/// Bounds how often strangers may knock: a bucket of attempts per address that refills with time.
package struct AttemptLimiter: Sendable {
  private struct Bucket {
    var tokens: Double
    var filledAt: Duration
  }

  private let capacity: Double
  private let perSecond: Double
  private var buckets: [String: Bucket] = [:]
  private static let addressLimit = 1024

  /// `burst` attempts at once, and `perSecond` in the long run.
  package init(burst: Int = 20, perSecond: Double = 10) {
    capacity = Double(burst)
    self.perSecond = perSecond
  }

  /// Whether `address` may try now; ports are not looked at.
  package mutating func admits(_ address: String, now: Duration) -> Bool {
    let host = address.lastIndex(of: ":").map { String(address[..<$0]) } ?? address
    if buckets.count >= Self.addressLimit, buckets[host] == nil {
      // Those that are full again say nothing; if none is, strangers share one bucket.
      buckets = buckets.filter { level($0.value, now) < capacity }
      if buckets.count >= Self.addressLimit { return take(from: "*", now) }
    }
    return take(from: host, now)
  }

  private mutating func take(from host: String, _ now: Duration) -> Bool {
    let bucket = buckets[host] ?? Bucket(tokens: capacity, filledAt: now)
    let tokens = level(bucket, now)
    guard tokens >= 1 else {
      buckets[host] = Bucket(tokens: tokens, filledAt: now)
      return false
    }
    buckets[host] = Bucket(tokens: tokens - 1, filledAt: now)
    return true
  }

  private func level(_ bucket: Bucket, _ now: Duration) -> Double {
    min(capacity, bucket.tokens + (now - bucket.filledAt) / .seconds(1) * perSecond)
  }
}
