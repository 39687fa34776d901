import Kernels
import ModelConfiguration
import Step3Model
import Tensors

/// Computes what one shard holds: the code that FFN nodes run, and attention nodes for what they
/// keep to themselves.
struct ShardCompute: ~Copyable {
  /// Partial sums per token of each layer when results are exact.
  let planeCounts: [Int]
  private let shares: [[FeedForwardShare]]
  private let compute: Compute
  private let columns: Int
  private let tokenLimit: Int
  private var scratch: FeedForwardScratch
  private var planes: Buffer<Float>
  private var sum: Buffer<Float>

  /// Views of a shard's part of `layers`, and scratch for `tokenLimit` rows.
  init(
    map: ExpertMap, shard: Int, layers: [FeedForwardLayer], configuration: TextConfiguration,
    activation: ActivationType, tokenLimit: Int, compute: Compute
  ) {
    let keys = layers.map { map.shares(of: $0)[shard] }
    shares = zip(layers, keys).map { layer, keys in
      keys.map { FeedForwardShare(of: layer, experts: $0.experts, slices: $0.slices) }
    }
    planeCounts = keys.map { $0.reduce(0) { $0 + $1.planeCount } }
    self.compute = compute
    self.tokenLimit = tokenLimit
    columns = configuration.hiddenSize
    scratch = FeedForwardScratch(
      tokenLimit: tokenLimit, configuration: configuration, activation: activation,
      compute: compute)
    let most = keys.joined().map(\.planeCount).max() ?? 1
    planes = Buffer(count: most * tokenLimit * columns)
    sum = Buffer(count: tokenLimit * columns)
  }

  /// Rows of several dispatches that are computed together.
  struct Part {
    /// Where its rows begin.
    var firstRow: Int
    var rowCount: Int
    /// Where its planes of rows go.
    var target: RegisteredSlice
  }

  /// Computes a layer for `tokenCount` rows and writes each part's rows into its target, [P, rows,
  /// D], P being 1 unless results are exact.
  mutating func run(
    layer: Int, _ normed: borrowing Buffer<Float>, _ routing: borrowing Routing, tokenCount: Int,
    results: PackedType, parts: [Part], between: () -> Void = {}
  ) {
    precondition(tokenCount <= tokenLimit, "\(tokenCount) rows, at most \(tokenLimit)")
    var plane = 0
    for (index, share) in shares[layer].enumerated() {
      share.forward(
        normed, routing, tokenCount: tokenCount, scratch: &scratch, compute: compute,
        into: &planes)
      if results == .float32 {
        for (own, target) in (plane..<plane + share.planeCount).enumerated() {
          write(planes, from: own * tokenCount, as: results, plane: target, parts)
        }
        plane += share.planeCount
      } else {
        add(share.planeCount, tokenCount, isFirst: index == 0)
      }
      between()
    }
    if results != .float32 { write(sum, from: 0, as: results, plane: 0, parts) }
  }

  private mutating func add(_ planeCount: Int, _ tokenCount: Int, isFirst: Bool) {
    let count = tokenCount * columns
    for plane in 0..<planeCount {
      if isFirst && plane == 0 {
        sum.copy(planes, from: 0, to: 0, columns: count)
      } else {
        sum.add(planes, from: plane * count, count: count)
      }
    }
  }

  private func write(
    _ source: borrowing Buffer<Float>, from firstRow: Int, as type: PackedType, plane: Int,
    _ parts: [Part]
  ) {
    let rowByteCount = type.rowByteCount(columns)
    for part in parts {
      let base = part.target.range.lowerBound + plane * part.rowCount * rowByteCount
      for row in 0..<part.rowCount {
        source.pack(
          at: (firstRow + part.firstRow + row) * columns, columns: columns, as: type,
          into: part.target.memory.region, at: base + row * rowByteCount)
      }
    }
  }
}
