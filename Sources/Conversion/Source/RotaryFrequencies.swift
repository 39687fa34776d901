#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The rotary embedding of the source: a base and a scaling, as one divisor per pair.
package struct RotaryFrequencies: Equatable, Sendable {
  /// How the standard frequencies are stretched for longer contexts.
  package enum Scaling: Equatable, Sendable {
    case none
    case linear(factor: Double)
    case llama3(
      factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double,
      originalContext: Double)
    case yarn(
      factor: Double, originalContext: Double, betaFast: Double, betaSlow: Double,
      truncates: Bool, attentionFactor: Double)
    /// One divisor per pair, as the source states them.
    case divisors([Double])
  }

  /// The base of the geometric series, and what is done to it.
  package var theta: Double
  package var scaling: Scaling

  package init(theta: Double, scaling: Scaling) {
    self.theta = theta
    self.scaling = scaling
  }

  /// Refuses values that give no finite frequency.
  func validate(path: String, pairCount: Int) throws(ConversionError) {
    guard theta > 1, theta.isFinite else {
      throw .invalidConfiguration(
        path: path, field: "the rotary base", value: "\(theta)", expected: "a number above 1")
    }
    if case .divisors(let values) = scaling, values.count != pairCount {
      throw .invalidConfiguration(
        path: path, field: "the rotary frequency factors", value: "\(values.count) values",
        expected: "\(pairCount)")
    }
    guard divisors(headDimension: 2 * pairCount).allSatisfy({ $0 > 0 && $0.isFinite }),
      attentionFactor > 0, attentionFactor.isFinite
    else {
      throw .invalidConfiguration(
        path: path, field: "the rotary scaling", value: "\(scaling)",
        expected: "positive finite factors")
    }
  }

  /// What the cosines and sines are multiplied by (YaRN); scores grow by its square.
  package var attentionFactor: Double {
    if case .yarn(_, _, _, _, _, let factor) = scaling { factor } else { 1 }
  }

  /// The attention factor that YaRN takes where none is given.
  static func yarnAttentionFactor(_ factor: Double) -> Double {
    factor > 1 ? 0.1 * log(factor) + 1 : 1
  }

  /// Divisor of each pair's standard frequency `theta^(-2j/headDimension)`.
  ///
  /// - Source: `modeling_rope_utils` of transformers for linear, llama3 and yarn.
  package func divisors(headDimension: Int) -> [Double] {
    let pairs = 0..<headDimension / 2
    func frequency(_ j: Int) -> Double { pow(theta, -2 * Double(j) / Double(headDimension)) }
    switch scaling {
    case .none: return pairs.map { _ in 1 }
    case .linear(let factor): return pairs.map { _ in factor }
    case .divisors(let values): return values
    case .llama3(let factor, let low, let high, let context):
      return pairs.map { j in
        let length = 2 * Double.pi / frequency(j)
        if length > context / low { return factor }
        if length < context / high { return 1 }
        let smooth = (context / length - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)
      }
    case .yarn(let factor, let context, let fast, let slow, let truncates, _):
      func dimension(_ rotations: Double) -> Double {
        Double(headDimension) * log(context / (rotations * 2 * Double.pi)) / (2 * log(theta))
      }
      let bounds = (dimension(fast), dimension(slow))
      let first = max(0, truncates ? bounds.0.rounded(.down) : bounds.0)
      let last = min(
        Double(headDimension - 1), truncates ? bounds.1.rounded(.up) : bounds.1)
      let width = first == last ? 0.001 : last - first
      return pairs.map { j in
        let ramp = min(1, max(0, (Double(j) - first) / width))
        return 1 / (ramp / factor + (1 - ramp))
      }
    }
  }
}
