/// Which count of MLA and lightning FLOPs to use.
package enum OperationCount: String, Sendable, CaseIterable {
  /// As the Step-3 report counts: both MLA products over rank + rope; ten FLOPs per state element.
  case report
  /// What the absorbed kernel does: P.V over the rank alone; five FLOPs per state element.
  case exact
}

extension AttentionShape {
  /// Stored elements read per decoded token and cached token (state: read and written, once).
  var storedElementCount: Double {
    switch self {
    case .multiMatrix(_, let dimension, _): Double(2 * dimension)
    case .latent(_, _, let rank, let rope, _, _): Double(rank + rope)
    case .grouped(_, let kvHeads, let dimension): Double(2 * kvHeads * dimension)
    case .lightning(let heads, let dimension): Double(2 * heads * dimension * dimension)
    }
  }

  /// FLOPs of the attention core per decoded token and attended token (state: once).
  func coreFlops(_ count: OperationCount) -> Double {
    switch self {
    case .multiMatrix(let heads, let dimension, _): Double(4 * heads * dimension)
    case .latent(let heads, _, let rank, let rope, _, _):
      count == .report ? Double(4 * heads * (rank + rope)) : Double(2 * heads * (2 * rank + rope))
    case .grouped(let heads, _, let dimension): Double(4 * heads * dimension)
    case .lightning(let heads, let dimension):
      Double((count == .report ? 10 : 5) * heads * dimension * dimension)
    }
  }

  /// Parameters of the projections before and after the attention core.
  func linearParameterCount(hidden: Int) -> Double {
    switch self {
    case .multiMatrix(let heads, let dimension, let rank):
      return Double(
        hidden * rank + rank * heads * dimension + 2 * hidden * dimension
          + heads * dimension * hidden)
    case .latent(let heads, let queryRank, let rank, let rope, let nope, let value):
      let query = heads * (nope + rope)
      let queryPart = queryRank.map { hidden * $0 + $0 * query } ?? hidden * query
      return Double(
        queryPart + hidden * (rank + rope) + rank * heads * (nope + value)
          + heads * value * hidden)
    case .grouped(let heads, let kvHeads, let dimension):
      return Double(2 * hidden * heads * dimension + 2 * hidden * kvHeads * dimension)
    case .lightning(let heads, let dimension):
      return Double(5 * hidden * heads * dimension)
    }
  }

  /// Query heads that share one stored head: the rows a matrix tile can fill.
  var queriesPerStoredHead: Int {
    switch self {
    case .multiMatrix(let heads, _, _), .latent(let heads, _, _, _, _, _): heads
    case .grouped(let heads, let kvHeads, _): heads / kvHeads
    case .lightning(_, let dimension): dimension
    }
  }

  /// Whether cost stays the same whatever the context.
  var isRecurrent: Bool {
    if case .lightning = self { return true }
    return false
  }
}

extension AttentionGroup {
  /// Tokens attended at `context`; 1 for a recurrent state.
  func attendedTokens(context: Double) -> Double {
    if shape.isRecurrent { return 1 }
    return window.map { min(context, Double($0)) } ?? context
  }

  /// KV or state bytes one layer moves per decoded token.
  package func byteCount(context: Double) -> Double {
    shape.storedElementCount * storageByteCount * attendedTokens(context: context)
  }

  /// Bytes one layer must keep per sequence (a state is kept once, though read and written).
  package func residentByteCount(context: Double) -> Double {
    byteCount(context: context) / (shape.isRecurrent ? 2 : 1)
  }

  /// Attention core FLOPs of one layer per decoded token.
  package func coreFlops(context: Double, count: OperationCount) -> Double {
    shape.coreFlops(count) * attendedTokens(context: context)
  }
}

extension ModelArchitecture {
  /// KV and state bytes moved per decoded token, all layers.
  package func kvByteCount(context: Double) -> Double {
    attention.reduce(0) { $0 + Double($1.layerCount) * $1.byteCount(context: context) }
  }

  /// KV and state bytes kept per sequence, all layers.
  package func residentKVByteCount(context: Double) -> Double {
    attention.reduce(0) { $0 + Double($1.layerCount) * $1.residentByteCount(context: context) }
  }

  /// Attention core FLOPs per decoded token, all layers, every cached token attended.
  package func attentionFlops(context: Double, count: OperationCount = .report) -> Double {
    attention.reduce(0) {
      $0 + Double($1.layerCount) * $1.coreFlops(context: context, count: count)
    }
  }

  /// Parameters of the projections around attention, all layers.
  package var linearParameterCount: Double {
    attention.reduce(0) {
      $0 + Double($1.layerCount) * $1.shape.linearParameterCount(hidden: hiddenDimension)
    }
  }

  /// FLOPs of the projections around attention per decoded token.
  package var linearFlops: Double { 2 * linearParameterCount }

  /// FLOPs per KV byte of the layers that keep growing KV: what must match a device's roofline.
  package func arithmeticIntensity(count: OperationCount) -> Double {
    attentionFlops(context: 8192, count: count) / kvByteCount(context: 8192)
  }
}
