package import Kernels
package import Step3Model

// Who holds what. A layer's feed-forward half is a sum over a tree (`FeedForwardLayer`), and every
// shard of a map holds some of its subtrees; together they hold each leaf once. How a shard's part
// of one layer breaks into subtrees is worked out from the map by both sides, so that messages need
// not say it.

/// What one shard holds of every layer.
///
/// Matrices are cut along their intermediate dimension in quarters. A layer whose matrices have
/// fewer slices gives a slice to the shard that holds its first quarter.
package struct ShardPart: Hashable, Sendable {
  /// Routed experts; ranges ascending and apart.
  package var experts: [Range<Int>]
  /// The quarters of them that it holds.
  package var expertQuarters: Range<Int>
  /// The quarters of shared experts.
  package var sharedQuarters: Range<Int>
  /// The quarters of dense layers.
  package var denseQuarters: Range<Int>

  /// A part of a layer with `experts`; quarters are all or none unless given.
  package init(
    experts: [Range<Int>], expertQuarters: Range<Int> = 0..<4, sharedQuarters: Range<Int>,
    denseQuarters: Range<Int>
  ) {
    self.experts = experts
    self.expertQuarters = expertQuarters
    self.sharedQuarters = sharedQuarters
    self.denseQuarters = denseQuarters
  }

  /// Whether it holds (a part of) an expert.
  package func holds(_ expert: Int) -> Bool {
    !expertQuarters.isEmpty && experts.contains { $0.contains(expert) }
  }
}

/// Why a map cannot be used with a model.
package enum ExpertMapError: Error, Equatable, Sendable {
  /// No shards.
  case empty
  /// More shards than a message can name.
  case tooManyShards(count: Int, limit: Int)
  /// Quarters outside 0..<4, or ranges out of order.
  case malformedPart(shard: Int)
  /// An expert that the model does not have.
  case noSuchExpert(shard: Int, expert: Int, expertCount: Int)
  /// Something that no shard, or more than one, holds.
  case coverage(what: String, quarter: Int, holders: Int)
}

extension ExpertMapError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .empty: "the expert map has no shards"
    case .tooManyShards(let count, let limit):
      "the expert map has \(count) shards, at most \(limit) are possible"
    case .malformedPart(let shard):
      "shard \(shard): ranges of experts ascend without overlap, quarters lie within 0 to 3"
    case .noSuchExpert(let shard, let expert, let expertCount):
      "shard \(shard) is to hold expert \(expert); the model has experts 0 to \(expertCount - 1)"
    case .coverage(let what, let quarter, let holders):
      "quarter \(quarter) of \(what) is held by \(holders) shards; it must be exactly one"
    }
  }
}

/// Which shard holds what, under a number that rises with each change.
package struct ExpertMap: Hashable, Sendable {
  /// The map's number.
  package var epoch: UInt32
  /// The shards' parts, by shard.
  package var parts: [ShardPart]

  /// Most shards.
  package static let shardLimit = 1024

  /// A map of parts.
  package init(epoch: UInt32 = 1, parts: [ShardPart]) {
    self.epoch = epoch
    self.parts = parts
  }

  /// One shard that holds everything.
  package static func whole(expertCount: Int) -> ExpertMap {
    tensorParallel(expertCount: expertCount, count: 1)
  }

  /// `count` shards, 1, 2 or 4, that each hold an equal slice of every matrix.
  package static func tensorParallel(expertCount: Int, count: Int) -> ExpertMap {
    precondition([1, 2, 4].contains(count), "\(count) equal slices of quarters")
    return ExpertMap(
      parts: (0..<count).map { index in
        let quarters = index * 4 / count..<(index + 1) * 4 / count
        return ShardPart(
          experts: expertCount > 0 ? [0..<expertCount] : [], expertQuarters: quarters,
          sharedQuarters: quarters, denseQuarters: quarters)
      })
  }

  /// `count` shards that each hold an equal number of experts, and, up to four shards, an equal
  /// slice of shared experts and dense layers.
  package static func expertParallel(expertCount: Int, count: Int) -> ExpertMap {
    precondition(count > 0)
    // The other shards' quarters, for a number that is no divisor of four: the first shards'.
    let cuts = (0...count).map { $0 * 4 / count }
    return ExpertMap(
      parts: (0..<count).map { index in
        let experts = index * expertCount / count..<(index + 1) * expertCount / count
        let quarters = cuts[index]..<cuts[index + 1]
        return ShardPart(
          experts: experts.isEmpty ? [] : [experts], sharedQuarters: quarters,
          denseQuarters: quarters)
      })
  }

  /// The shards that hold each expert of which there is more than one copy, whole each.
  package var copies: [Int: [Int]] {
    var holders: [Int: [Int]] = [:]
    for (shard, part) in parts.enumerated() where part.expertQuarters == 0..<4 {
      for expert in part.experts.joined() { holders[expert, default: []].append(shard) }
    }
    return holders.filter { $0.value.count > 1 }
  }

  /// The subtrees of one layer that each shard holds, in the order of their partial sums.
  package func shares(of layer: FeedForwardLayer) -> [[ShareKey]] {
    let apart = Set(copies.keys)
    return parts.map { $0.shares(of: layer, apart: apart) }
  }

  /// Throws unless every shared expert and dense layer is held exactly once, and every expert once
  /// or, where that is allowed, whole by several shards.
  package func check(
    expertCount: Int, allowsCopies: Bool = true
  ) throws(ExpertMapError) {
    if parts.isEmpty { throw .empty }
    if parts.count > Self.shardLimit {
      throw .tooManyShards(count: parts.count, limit: Self.shardLimit)
    }
    var experts = [Int](repeating: 0, count: 4 * expertCount)
    var shared = [Int](repeating: 0, count: 4)
    var dense = [Int](repeating: 0, count: 4)
    for (shard, part) in parts.enumerated() {
      try Self.check(part, shard, expertCount)
      for quarter in part.sharedQuarters { shared[quarter] += 1 }
      for quarter in part.denseQuarters { dense[quarter] += 1 }
      for expert in part.experts.joined() {
        for quarter in part.expertQuarters { experts[4 * expert + quarter] += 1 }
      }
    }
    for quarter in 0..<4 {
      if shared[quarter] != 1 && expertCount > 0 {
        throw .coverage(what: "the shared experts", quarter: quarter, holders: shared[quarter])
      }
      if dense[quarter] != 1 {
        throw .coverage(what: "the dense layers", quarter: quarter, holders: dense[quarter])
      }
    }
    let copies = allowsCopies ? copies : [:]
    for (index, holders) in experts.enumerated()
    where holders != 1 && copies[index / 4]?.count != holders {
      throw .coverage(what: "expert \(index / 4)", quarter: index % 4, holders: holders)
    }
  }

  private static func check(
    _ part: ShardPart, _ shard: Int, _ expertCount: Int
  ) throws(ExpertMapError) {
    for quarters in [part.expertQuarters, part.sharedQuarters, part.denseQuarters]
    where quarters.lowerBound < 0 || quarters.upperBound > 4 {
      throw .malformedPart(shard: shard)
    }
    var end = 0
    for range in part.experts {
      guard range.lowerBound >= end, !range.isEmpty else { throw .malformedPart(shard: shard) }
      end = range.upperBound
    }
    if end > expertCount {
      throw .noSuchExpert(shard: shard, expert: end - 1, expertCount: expertCount)
    }
  }
}

/// One subtree of a layer's sum that a shard computes.
package struct ShareKey: Hashable, Sendable {
  /// Which experts.
  package let experts: FeedForwardShare.Experts
  /// Which slices.
  package let slices: Range<Int>
  /// Partial sums per token.
  package var planeCount: Int { experts == .all ? 1 : slices.count }
}

extension ShardPart {
  /// The subtrees of one layer that the part holds, in the order of their partial sums. Experts in
  /// `apart`, of which others have a copy, are subtrees of their own.
  fileprivate func shares(of layer: FeedForwardLayer, apart: Set<Int>) -> [ShareKey] {
    let count = layer.sliceCount
    guard case .mixture(let mixture) = layer else {
      return Self.slices(denseQuarters, of: count).map { ShareKey(experts: .all, slices: $0) }
    }
    let held = Self.slices(expertQuarters, of: count)
    let shared = Self.slices(sharedQuarters, of: count)
    if apart.isEmpty && experts == [0..<mixture.experts.count] && held == shared {
      return held.map { ShareKey(experts: .all, slices: $0) }
    }
    let ranges = experts.flatMap { range in
      ExpertTree.subtrees(of: range, in: mixture.experts.count, apart: apart)
    }
    return shared.map { ShareKey(experts: .shared, slices: $0) }
      + held.flatMap { slices in
        ranges.map { ShareKey(experts: .routed($0), slices: slices) }
      }
  }

  /// The slices whose first quarter is among `quarters`, as subtrees.
  private static func slices(_ quarters: Range<Int>, of count: Int) -> [Range<Int>] {
    let held = (0..<count).filter { quarters.contains($0 * 4 / count) }
    guard let first = held.first, let last = held.last else { return [] }
    return ExpertTree.subtrees(of: first..<last + 1, in: count)
  }
}

extension ExpertTree {
  /// The largest subtrees of `0..<count` that make up `part`, ascending; those in `apart` alone.
  package static func subtrees(
    of part: Range<Int>, in count: Int, apart: Set<Int> = []
  ) -> [Range<Int>] {
    var found: [Range<Int>] = []
    func visit(_ range: Range<Int>) {
      let common = range.clamped(to: part)
      if common.isEmpty { return }
      if common == range && (range.count == 1 || apart.isDisjoint(with: range)) {
        found.append(range)
        return
      }
      let middle = middle(of: range)
      visit(range.lowerBound..<middle)
      visit(middle..<range.upperBound)
    }
    if !part.isEmpty { visit(0..<count) }
    return found
  }
}
