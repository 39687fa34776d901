/// Whether the two directions of a link share one resource.
package enum Duplex: String, Sendable, CaseIterable {
  /// Both transfers occupy the link one after the other: 3 x hidden bytes per token.
  case half
  /// Each direction has the link for itself; the combine, 2 x hidden bytes, dominates.
  case full
}

/// How tokens travel to feed-forward servers.
package enum DispatchMode: String, Sendable, CaseIterable {
  /// Every server receives every token, as the report's system does.
  case broadcast
  /// A server receives the tokens that chose one of its experts.
  case routed
}

/// Whether tensor-parallel collectives inside a server hide behind arithmetic.
package enum CollectiveMode: String, Sendable, CaseIterable {
  case serial
  case overlapped
}

/// Speculative decoding: draft tokens per step and how likely each is accepted.
package struct Speculation: Equatable, Sendable {
  /// Drafts per step and the probability that one is accepted.
  package let draftCount: Int
  package let acceptance: Double

  /// No drafts.
  package static let none = Speculation(unchecked: 0, acceptance: 0)

  private init(unchecked draftCount: Int, acceptance: Double) {
    self.draftCount = draftCount
    self.acceptance = acceptance
  }

  package init(draftCount: Int, acceptance: Double) throws(CostModelError) {
    guard (0...16).contains(draftCount) else {
      throw .outOfRange(
        quantity: "draft tokens", value: Double(draftCount), lower: 0, upper: 16)
    }
    guard (0...1).contains(acceptance) else {
      throw .outOfRange(quantity: "acceptance", value: acceptance, lower: 0, upper: 1)
    }
    self.init(unchecked: draftCount, acceptance: acceptance)
  }

  /// Tokens one step yields: 1 + a + a^2 + ... + a^n.
  package var tokensPerStep: Double {
    var sum = 1.0
    var power = 1.0
    for _ in 0..<draftCount {
      power *= acceptance
      sum += power
    }
    return sum
  }

  /// Query tokens one step computes.
  package var queryCount: Double { Double(draftCount + 1) }
}

/// What the time model takes for granted.
package struct TimingAssumptions: Equatable, Sendable {
  /// The fit counts MLA exactly, unlike the report's price tables.
  package var operationCount: OperationCount = .exact
  package var usesInt8: Bool = false
  /// KV bytes relative to the catalogue's storage: 2 makes FP8 caches BF16, 0.5 4-bit.
  package var kvScale: Double = 1
  /// Bytes per weight; 1 for FP8 and INT8.
  package var weightByteCount: Double = 1
  package var duplex: Duplex = .half
  package var dispatch: DispatchMode = .broadcast
  package var collectives: CollectiveMode = .serial
  /// Load of the busiest expert group over the mean.
  package var expertSkew: Double = 1
  /// Extra expert copies as a share of the feed-forward weights.
  package var expertRedundancy: Double = 0
  /// Share of memory that may be filled.
  package var usableMemory: Double = 0.9
  package var speculation: Speculation = .none
  package var priceLevel: PriceLevel = .mid

  package init() {}

  /// Rejects values that no machine can have.
  package func validate() throws(CostModelError) {
    let bounds: [(String, Double, Double, Double)] = [
      ("KV scale", kvScale, 0.25, 8), ("bytes per weight", weightByteCount, 0.25, 8),
      ("expert skew", expertSkew, 1, 100), ("expert redundancy", expertRedundancy, 0, 10),
      ("usable memory", usableMemory, 0.01, 1),
    ]
    for (quantity, value, lower, upper) in bounds where !(lower...upper).contains(value) {
      throw .outOfRange(quantity: quantity, value: value, lower: lower, upper: upper)
    }
  }
}
