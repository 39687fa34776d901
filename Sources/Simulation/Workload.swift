import CostModel
import JSONScanning

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// One request as the simulator sees it.
package struct SimulatedRequest: Equatable, Sendable {
  /// Seconds since the start, tokens of the prompt, and tokens of the answer.
  package var arrival: Double
  package var promptCount: Int
  package var outputCount: Int

  /// A request.
  package init(arrival: Double, promptCount: Int, outputCount: Int) {
    self.arrival = arrival
    self.promptCount = promptCount
    self.outputCount = outputCount
  }
}

/// Lengths in tokens: lognormal, as served traffic roughly is, or all alike.
package struct LengthDistribution: Equatable, Sendable {
  /// Mean, and deviation over mean; 0 makes all lengths equal.
  package let mean: Double
  package let variation: Double
  /// No length exceeds this.
  package let limit: Int

  /// A distribution of lengths from 1 to `limit`.
  package init(mean: Double, variation: Double, limit: Int) throws(SimulationError) {
    guard mean >= 1, mean.isFinite else {
      throw .notPositive(quantity: "a mean length", value: mean)
    }
    guard variation >= 0, variation <= 10 else {
      throw .notPositive(quantity: "the variation of lengths", value: variation)
    }
    self.mean = mean
    self.variation = variation
    self.limit = max(1, limit)
  }

  func sample(_ random: inout SeededGenerator) -> Int {
    guard variation > 0 else { return min(limit, max(1, Int(mean.rounded()))) }
    let sigma = sqrt(log(1 + variation * variation))
    let value = exp(log(mean) - sigma * sigma / 2 + sigma * random.normal())
    return min(limit, max(1, Int(value.rounded())))
  }
}

/// Where requests come from.
package enum Workload: Sendable {
  /// Poisson arrivals; `swing` makes the rate follow a daily sine around its mean.
  case random(
    requestsPerSecond: Double, prompt: LengthDistribution, output: LengthDistribution,
    swing: Double)
  /// Requests as they were.
  case trace([SimulatedRequest])
}

/// Draws one request after another from a workload.
struct RequestSource {
  private let workload: Workload
  private var random: SeededGenerator
  private var clock = 0.0
  private var position = 0

  init(_ workload: Workload, random: SeededGenerator) {
    self.workload = workload
    self.random = random
  }

  mutating func next() -> SimulatedRequest? {
    switch workload {
    case .trace(let requests):
      guard position < requests.count else { return nil }
      defer { position += 1 }
      return requests[position]
    case .random(let rate, let prompt, let output, let swing):
      // Thinning: draw at the highest rate, keep in proportion to the rate of the hour.
      repeat {
        clock += random.exponential(mean: 1 / (rate * (1 + swing)))
      } while swing > 0
        && random.unit() > (1 + swing * sin(2 * Double.pi * clock / 86_400)) / (1 + swing)
      return SimulatedRequest(
        arrival: clock, promptCount: prompt.sample(&random), outputCount: output.sample(&random))
    }
  }
}

extension Workload {
  /// Reads a trace: one JSON object per line with arrival (seconds), prompt and output tokens.
  package static func trace(
    parsing text: String, file: String
  ) throws(SimulationError) -> Workload {
    var requests: [SimulatedRequest] = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    where !line.allSatisfy(\.isWhitespace) {
      requests.append(try request(String(line), file: file, line: index + 1))
    }
    guard !requests.isEmpty else { throw .emptyTrace(file: file) }
    return .trace(requests.sorted { $0.arrival < $1.arrival })
  }

  private static func request(
    _ text: String, file: String, line: Int
  ) throws(SimulationError) -> SimulatedRequest {
    let value: JSONValue
    do {
      value = try JSONValue(parsing: text)
    } catch {
      throw .malformedTrace(file: file, line: line, fact: error.description)
    }
    func number(_ keys: [String]) throws(SimulationError) -> Double {
      for key in keys {
        if let number = value[key]?.number { return number }
      }
      throw .malformedTrace(file: file, line: line, fact: "\"\(keys[0])\" is missing")
    }
    let arrival = try number(["arrival", "arrival_time", "timestamp"])
    let prompt = try number(["prompt_tokens", "prompt", "input_length"])
    let output = try number(["output_tokens", "output", "output_length"])
    guard arrival >= 0, prompt >= 1, output >= 1, prompt < 1e9, output < 1e9 else {
      throw .malformedTrace(
        file: file, line: line, fact: "arrival must be at least 0, token counts at least 1")
    }
    return SimulatedRequest(
      arrival: arrival, promptCount: Int(prompt), outputCount: Int(output))
  }
}
