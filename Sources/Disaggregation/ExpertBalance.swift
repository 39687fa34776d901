// Moving experts to where there is time for them. What a map costs is its busiest shard; experts
// that are chosen often should not share one. Results do not depend on the map, so a new one may be
// taken between any two steps.

import Kernels

extension ExpertMap {
  /// The tokens of the busiest shard over those of an even spread; 1 is perfect. Copies of an
  /// expert share its tokens.
  package func imbalance(load: [Int]) -> Double {
    let copies = copies
    let loads = parts.map { part in
      part.experts.joined().reduce(0.0) { sum, expert in
        sum + Double(load[expert]) / Double(copies[expert]?.count ?? 1)
          * Double(part.expertQuarters.count) / 4
      }
    }
    let total = loads.reduce(0, +)
    return total > 0 ? (loads.max() ?? 0) * Double(parts.count) / total : 1
  }

  /// A map in which the shards' tokens are more even: again and again the busiest shard swaps the
  /// pair of experts with another one that evens the two most; then shards with room to spare take
  /// copies of what the busiest has most tokens for. But for copies every shard keeps its number of
  /// experts, so what fits into memory still does, and few experts move. What else shards hold
  /// stays.
  ///
  /// - Parameters:
  ///   - load: Tokens that chose each expert, of all layers together.
  ///   - spare: How many copies of others' experts each shard may hold.
  ///   - base: The map without copies that this one came from; nil for this one.
  /// - Returns: Nil where the shards hold slices of experts, or the new map is hardly better than
  ///   this one.
  package func balanced(load: [Int], spare: Int = 0, base: ExpertMap? = nil) -> ExpertMap? {
    guard parts.count > 1, parts.allSatisfy({ $0.expertQuarters == 0..<4 }) else { return nil }
    var experts = homes(like: base ?? self)
    var busy = experts.map { $0.reduce(0) { $0 + load[$1] } }
    for _ in load.indices {
      guard let swap = Self.bestSwap(experts, busy, load) else { break }
      let (mine, other) = (experts[swap.from][swap.mine], experts[swap.to][swap.other])
      experts[swap.from][swap.mine] = other
      experts[swap.to][swap.other] = mine
      busy[swap.from] -= load[mine] - load[other]
      busy[swap.to] += load[mine] - load[other]
    }
    Self.copyHottest(&experts, load, spare)
    var map = self
    map.epoch += 1
    for shard in parts.indices { map.parts[shard].experts = Self.ranges(experts[shard].sorted()) }
    return map.imbalance(load: load) < 0.95 * imbalance(load: load) ? map : nil
  }

  /// Each shard's experts without copies: every expert stays at one of its holders, the one that
  /// lacks most of its number in `base`.
  private func homes(like base: ExpertMap) -> [[Int]] {
    let copies = copies
    let counts = base.parts.map { $0.experts.reduce(0) { $0 + $1.count } }
    var homes = parts.map { part in part.experts.joined().filter { copies[$0] == nil } }
    for expert in copies.keys.sorted() {
      let home = copies[expert]?.max { counts[$0] - homes[$0].count < counts[$1] - homes[$1].count }
      if let home { homes[home].append(expert) }
    }
    return homes
  }

  /// Lets the least busy shards with room take copies of what the busiest has most tokens for, as
  /// long as that helps.
  private static func copyHottest(_ experts: inout [[Int]], _ load: [Int], _ spare: Int) {
    let homeCounts = experts.map(\.count)
    var shares = load.map(Double.init)
    var copyCounts = [Double](repeating: 1, count: load.count)
    for _ in 0..<spare * experts.count {
      let loads = experts.map { $0.reduce(0) { $0 + shares[$1] } }
      guard let from = loads.indices.max(by: { loads[$0] < loads[$1] }),
        let hot = experts[from].max(by: { shares[$0] < shares[$1] }),
        let to = loads.indices.filter({
          experts[$0].count < homeCounts[$0] + spare && !experts[$0].contains(hot)
        }).min(by: { loads[$0] < loads[$1] })
      else { return }
      let share = Double(load[hot]) / (copyCounts[hot] + 1)
      // What the newcomer would have must be less than what the busiest has now.
      guard loads[to] + share < loads[from] else { return }
      experts[to].append(hot)
      copyCounts[hot] += 1
      shares[hot] = share
    }
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
    let apart = Set(copies.keys)
    let counts = parts.map { part in
      let trees = part.experts.reduce(0) {
        $0 + ExpertTree.subtrees(of: $1, in: expertCount, apart: apart).count
      }
      return part.sharedQuarters.count + trees * part.expertQuarters.count
    }
    return counts.max() ?? 0
  }
}
