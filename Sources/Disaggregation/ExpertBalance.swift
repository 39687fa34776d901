// Moving experts to where there is time for them. What a map costs is its busiest shard; experts
// that are chosen often should not share one. Results do not depend on the map, so a new one may be
// taken between any two steps.

import Kernels

extension ExpertMap {
  /// The tokens of the busiest shard over those of an even spread; 1 is perfect.
  package func imbalance(load: [Int]) -> Double {
    let loads = parts.map { part in
      part.experts.joined().reduce(0.0) { sum, expert in
        sum + Double(load[expert]) * Double(part.expertQuarters.count) / 4
      }
    }
    let total = loads.reduce(0, +)
    return total > 0 ? (loads.max() ?? 0) * Double(parts.count) / total : 1
  }

  /// A map in which the shards' tokens are more even: again and again the busiest shard swaps the
  /// pair of experts with another one that evens the two most. Every shard keeps its number of
  /// experts, so what fits into memory still does, and few experts move. What else shards hold
  /// stays.
  ///
  /// - Parameter load: Tokens that chose each expert, of all layers together.
  /// - Returns: Nil where the shards hold slices of experts, or the new map is hardly better than
  ///   this one.
  package func balanced(load: [Int]) -> ExpertMap? {
    guard parts.count > 1, parts.allSatisfy({ $0.expertQuarters == 0..<4 }) else { return nil }
    var experts = parts.map { Array($0.experts.joined()) }
    var busy = experts.map { $0.reduce(0) { $0 + load[$1] } }
    for _ in load.indices {
      guard let swap = Self.bestSwap(experts, busy, load) else { break }
      let (mine, other) = (experts[swap.from][swap.mine], experts[swap.to][swap.other])
      experts[swap.from][swap.mine] = other
      experts[swap.to][swap.other] = mine
      busy[swap.from] -= load[mine] - load[other]
      busy[swap.to] += load[mine] - load[other]
    }
    var map = self
    map.epoch += 1
    for shard in parts.indices { map.parts[shard].experts = Self.ranges(experts[shard].sorted()) }
    return map.imbalance(load: load) < 0.95 * imbalance(load: load) ? map : nil
  }

  private struct Swap {
    var from: Int
    var mine: Int
    var to: Int
    var other: Int
  }

  /// The swap after which the busier of the busiest shard and its partner is least busy; nil when
  /// none makes it less busy than now.
  private static func bestSwap(_ experts: [[Int]], _ busy: [Int], _ load: [Int]) -> Swap? {
    guard let from = busy.indices.max(by: { busy[$0] < busy[$1] }) else { return nil }
    var best: Swap?
    var least = busy[from]
    for to in experts.indices where to != from {
      for (mine, own) in experts[from].enumerated() {
        for (other, theirs) in experts[to].enumerated() {
          let difference = load[own] - load[theirs]
          let busier = max(busy[from] - difference, busy[to] + difference)
          guard busier < least else { continue }
          least = busier
          best = Swap(from: from, mine: mine, to: to, other: other)
        }
      }
    }
    return best
  }

  /// Ascending numbers as ranges.
  private static func ranges(_ numbers: [Int]) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    for number in numbers {
      if let last = ranges.last, last.upperBound == number {
        ranges[ranges.count - 1] = last.lowerBound..<number + 1
      } else {
        ranges.append(number..<number + 1)
      }
    }
    return ranges
  }

  /// The most partial sums per token that a shard sends for a layer of `expertCount` experts and
  /// matrices in quarters: scattered experts are more subtrees.
  package func partialSumLimit(expertCount: Int) -> Int {
    let counts = parts.map { part in
      let trees = part.experts.reduce(0) {
        $0 + ExpertTree.subtrees(of: $1, in: expertCount).count
      }
      return part.sharedQuarters.count + trees * part.expertQuarters.count
    }
    return counts.max() ?? 0
  }
}
