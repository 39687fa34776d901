/// Counts observations by upper bound, as Prometheus does.
struct Histogram: Sendable {
  let bounds: [Double]
  private(set) var counts: [Int]
  private(set) var sum = 0.0
  private(set) var count = 0

  init(_ bounds: [Double]) {
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count)
  }

  mutating func observe(_ value: Double) {
    if let index = bounds.firstIndex(where: { value <= $0 }) { counts[index] += 1 }
    sum += value
    count += 1
  }

  /// A histogram of what was counted elsewhere: `tallies` has one entry more than `bounds`.
  init(_ bounds: [Double], tallies: [Int], sum: Double) {
    self.bounds = bounds
    counts = Array(tallies.prefix(bounds.count))
    self.sum = sum
    count = tallies.reduce(0, +)
  }

  /// The lines of the exposition format, without the type line.
  func lines(name: String, labels: String) -> String {
    var text = ""
    var total = 0
    let separator = labels.isEmpty ? "" : ","
    for (bound, count) in zip(bounds, counts) {
      total += count
      text += "\(name)_bucket{\(labels)\(separator)le=\"\(bound.plain)\"} \(total)\n"
    }
    text += "\(name)_bucket{\(labels)\(separator)le=\"+Inf\"} \(count)\n"
    let braces = labels.isEmpty ? "" : "{\(labels)}"
    return text + "\(name)_sum\(braces) \(sum)\n\(name)_count\(braces) \(count)\n"
  }

  static let firstToken: [Double] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
    80, 160, 640, 2560,
  ]
  static let perToken: [Double] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  ]
  static let perRequest: [Double] = [
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
  ]
  static let tokenCounts: [Double] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000,
  ]
  static let choices: [Double] = [1, 2, 5, 10, 20]
  static let preemptions: [Double] = [1, 2, 3, 4, 5, 10, 20]
  static let http: [Double] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 600]
}
