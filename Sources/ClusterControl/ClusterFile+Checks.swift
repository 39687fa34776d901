package import Disaggregation

/// Who holds which part of the model: the shards of a map, and the nodes behind each.
package struct ClusterLayout: Sendable, Equatable {
  /// What each shard holds.
  package var map: ExpertMap
  /// The ffn nodes that hold each shard, by id: more than one are replicas.
  package var holders: [[String]]

  /// The shard that a node holds.
  package func shard(of id: String) -> Int? { holders.firstIndex { $0.contains(id) } }
}

extension ClusterFile {
  /// What must hold whatever the model is: ids and addresses differ, every needed role is there.
  func checkNodes() throws(ClusterFileError) {
    var ids: Set<String> = []
    var addresses: [String: String] = [:]
    for node in nodes {
      guard ids.insert(node.id).inserted else { throw .duplicateID(path: path, id: node.id) }
      if let other = addresses[node.address] {
        throw .duplicateAddress(
          path: path, first: other, second: node.id, address: node.address)
      }
      addresses[node.address] = node.id
    }
    for role in [NodeRole.attention, .ffn] where nodes(role).isEmpty {
      throw .missingRole(path: path, role: role.rawValue)
    }
  }

  /// The shards that the ffn nodes form, for a model of `expertCount` routed experts (0 for one
  /// without mixtures). Nodes that hold the same are replicas of one shard.
  package func layout(expertCount: Int) throws(ClusterFileError) -> ClusterLayout {
    let withExperts = nodes(.ffn).first { $0.experts != nil }
    if expertCount == 0, let node = withExperts {
      throw .expertOutOfRange(
        path: path, id: node.id, expert: node.experts?.first?.lowerBound ?? 0, expertCount: 0)
    }
    try check(expertCount: max(1, expertCount))
    var shards: [(experts: [Range<Int>], slice: NodeSlice?, ids: [String])] = []
    for node in nodes(.ffn) {
      let all = expertCount > 0 ? [0..<expertCount] : []
      let experts = node.experts?.map { $0.lowerBound..<$0.upperBound + 1 } ?? all
      if let index = shards.firstIndex(where: { $0.experts == experts && $0.slice == node.slice }) {
        shards[index].ids.append(node.id)
      } else {
        shards.append((expertCount > 0 ? experts : all, node.slice, [node.id]))
      }
    }
    let dense = quarters(denseNodes, shards.map(\.ids), shards.map(\.slice))
    let shared = quarters(sharedNodes, shards.map(\.ids), shards.map(\.slice))
    let parts = shards.indices.map { index in
      ShardPart(
        experts: shards[index].experts, expertQuarters: Self.quarters(of: shards[index].slice),
        sharedQuarters: shared[index], denseQuarters: dense[index])
    }
    let map = ExpertMap(parts: parts)
    do throws(ExpertMapError) {
      // Copies come by balancing; in the file they are mistakes.
      try map.check(expertCount: expertCount, allowsCopies: false)
    } catch {
      throw .unusableMap(path: path, error)
    }
    return ClusterLayout(map: map, holders: shards.map(\.ids))
  }

  private static func quarters(of slice: NodeSlice?) -> Range<Int> {
    guard let slice else { return 0..<4 }
    return slice.index * 4 / slice.count..<(slice.index + 1) * 4 / slice.count
  }

  /// Which quarters of what every token needs each shard takes: those named take equal slices; else
  /// the slices of the first set of shards that is whole, or up to four whole shards share.
  private func quarters(
    _ named: [String]?, _ holders: [[String]], _ slices: [NodeSlice?]
  ) -> [Range<Int>] {
    var result = [Range<Int>](repeating: 0..<0, count: holders.count)
    if let named {
      for (place, id) in named.enumerated() {
        guard let shard = holders.firstIndex(where: { $0.contains(id) }) else { continue }
        result[shard] = place * 4 / named.count..<(place + 1) * 4 / named.count
      }
      return result
    }
    let whole = slices.indices.filter { slices[$0] == nil }
    if !whole.isEmpty {
      for (place, shard) in whole.enumerated() {
        result[shard] = place * 4 / whole.count..<(place + 1) * 4 / whole.count
      }
      return result
    }
    var taken: Set<Int> = []
    for (shard, slice) in slices.enumerated() {
      let own = Self.quarters(of: slice)
      if taken.isDisjoint(with: own) {
        result[shard] = own
        taken.formUnion(own)
      }
    }
    return result
  }

  /// What must hold for a model of `expertCount` experts (1 for one without mixtures): every expert
  /// is held whole by somebody.
  package func check(expertCount: Int) throws(ClusterFileError) {
    let holders = nodes(.ffn)
    for node in holders {
      if let last = node.experts?.last?.upperBound, last >= expertCount {
        throw .expertOutOfRange(path: path, id: node.id, expert: last, expertCount: expertCount)
      }
    }
    for expert in 0..<expertCount {
      let own = holders.filter { $0.holds(expert: expert) }
      guard !own.isEmpty else {
        throw .uncoveredExpert(path: path, expert: expert, missingSlices: [])
      }
      let counts = Set(own.map { $0.slice?.count ?? 1 }).sorted()
      guard counts.count == 1 else {
        throw .mixedSlices(path: path, expert: expert, counts: counts)
      }
      let present = Set(own.map { $0.slice?.index ?? 0 })
      let missing = (0..<counts[0]).filter { !present.contains($0) }
      guard missing.isEmpty else {
        throw .uncoveredExpert(
          path: path, expert: expert, missingSlices: missing.map { "\($0)/\(counts[0])" })
      }
    }
  }

  /// What every process of the cluster must agree on, as one line: who holds what, and in which
  /// form results travel.
  package var shardMap: String {
    let parts = nodes(.ffn).map { node in
      let experts =
        node.experts?.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",") ?? "all"
      let slice = node.slice.map { "\($0.index)/\($0.count)" } ?? "0/1"
      return "\(node.id):\(experts):\(slice)"
    }
    let spread = [denseNodes, sharedNodes].map { $0?.joined(separator: ",") ?? "-" }
    return ([exchange.rawValue] + spread + parts).joined(separator: ";")
  }
}
