// How grouped-query attention becomes MFA, exactly.
//
// The source has n key heads of width d; Step3 has one key head and one value head. The wide head
// of width D = n·d holds all of them side by side. Query head h of group g is its source query in
// slice g and zero elsewhere, so its scores see group g's key alone, and the output projection
// reads slice g alone of the head's value. The softmax scale D^-0.5 instead of d^-0.5 is undone by
// a factor √n on the queries.
//
// Rotary pairs: pair i of the wide head turns with frequency θ^(-2i/D). Source pair j of group g
// goes to wide pair i = n·j + g, whose standard frequency θ^(-2j/d)·θ^(-2g/D) differs from the
// wanted one by θ^(-2g/D) only; a LongRoPE factor per pair removes that constant. (The obvious
// order i = g·d/2 + j would need factors that span decades.)
//
// Queries: Step3 puts an RMSNorm between its two query matrices, which the source does not have.
// With the first matrix c·I and c so small that c²·mean(x²) is far below the norm's ε, the norm
// divides by √ε and so is linear: its relative error is (c²/2ε)·|mean(x²) − its typical value|,
// by the choice of c at most 2^-18 where mean(x²) is up to twice the typical value. The first
// matrix and the norm are powers of two, exact in every format; what is left of the factor goes
// into the second query matrix. The alternative, c near the input's size with the input norm's
// weight moved behind the inner norm, needs measured activations, is inexact where inputs are
// small, and gives keys and values outlier columns that quantise badly.

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The constants of one layer's query path.
struct QueryScales: Equatable {
  /// c: the diagonal of the first query matrix, a power of two.
  let down: Float
  /// The weight of the inner norm, the same for all channels, a power of two.
  let norm: Float
  /// What the source's query rows are multiplied by.
  let up: Double

  /// The constants for a layer whose attention norm has the weights `normWeights`.
  init(normWeights: [Float], configuration: LlamaConfiguration) {
    let epsilon = Double(configuration.normEpsilon)
    let squares = normWeights.reduce(0.0) { $0 + Double($1) * Double($1) }
    let typical = squares / Double(normWeights.count)
    let bound = typical > 0 ? (epsilon * 0x1p-17 / typical).squareRoot() : 1
    let c = exp2(min(0, max(-60, log2(bound).rounded(.down))))
    let gain = (c * c * typical + epsilon).squareRoot() / c
    let power = exp2(log2(gain).rounded())
    let factor = configuration.rotary.attentionFactor
    down = Float(c)
    norm = Float(power)
    up = Double(configuration.groupCount).squareRoot() * factor * factor * gain / power
  }
}

/// Rows of the wide projections, for one model.
struct AttentionMapping {
  let configuration: LlamaConfiguration
  let rowOrder: RotaryRowOrder

  /// For each row of a wide head: the group it belongs to, and the row within the source's head.
  var wideRows: [(group: Int, row: Int)] {
    let half = configuration.wideHeadDimension / 2
    return (0..<configuration.wideHeadDimension).map { row in
      let pair = row % half
      let source = rowOrder.row(
        pair: pair / configuration.groupCount, second: row >= half,
        headDimension: configuration.headDimension)
      return (pair % configuration.groupCount, source)
    }
  }

  /// Divisors of the wide head's standard frequencies; nil when all are 1.
  var rotaryFactors: [Double]? {
    let divisors = configuration.rotary.divisors(headDimension: configuration.headDimension)
    let groups = configuration.groupCount
    let factors = (0..<configuration.wideHeadDimension / 2).map { pair in
      let exponent = -2 * Double(pair % groups) / Double(configuration.wideHeadDimension)
      return divisors[pair / groups] * pow(configuration.rotary.theta, exponent)
    }
    return factors.allSatisfy { $0 == 1 } ? nil : factors
  }
}
