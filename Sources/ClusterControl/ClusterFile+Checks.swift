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
    let choices = [
      exchange.rawValue, densePlacement.rawValue, sharedPlacement.rawValue, dispatch.rawValue,
    ]
    return (choices + parts).joined(separator: ";")
  }
}
