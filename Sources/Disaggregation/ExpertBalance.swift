// Moving experts to where there is time for them. What a map costs is its busiest shard; experts
// that are chosen often should not share one. Results do not depend on the map, so a new one may be
// taken between any two steps.

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

  /// A map in which the shards' tokens are as even as a greedy choice makes them: experts by
  /// descending load, each to the least busy shard that has room. What else shards hold stays.
  ///
  /// - Parameters:
  ///   - load: Tokens that chose each expert, of all layers together.
  ///   - expertLimit: Experts for which a shard has memory.
  /// - Returns: Nil where the shards hold slices of experts, or the new map is hardly better than
  ///   this one.
  package func balanced(load: [Int], expertLimit: Int) -> ExpertMap? {
    guard parts.allSatisfy({ $0.expertQuarters == 0..<4 }), parts.count > 1,
      expertLimit * parts.count >= load.count
    else { return nil }
    var busy = Array(repeating: 0, count: parts.count)
    var experts = Array(repeating: [Int](), count: parts.count)
    let order = load.indices.sorted { (-load[$0], $0) < (-load[$1], $1) }
    for expert in order {
      let open = parts.indices.filter { experts[$0].count < expertLimit }
      guard let shard = open.min(by: { (busy[$0], $0) < (busy[$1], $1) }) else { return nil }
      experts[shard].append(expert)
      busy[shard] += load[expert]
    }
    var map = self
    map.epoch += 1
    for shard in parts.indices { map.parts[shard].experts = Self.ranges(experts[shard].sorted()) }
    return map.imbalance(load: load) < 0.95 * imbalance(load: load) ? map : nil
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
}
