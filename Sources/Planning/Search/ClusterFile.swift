package import CostModel
package import JSONScanning

/// A plan for machines that run this engine, as a cluster file: who attends, who holds experts.
package enum ClusterFile {
  /// One node per device; experts are split evenly, in order.
  ///
  /// - Parameters:
  ///   - hosts: names of the machines, used in turn; the loopback address when none are given.
  ///   - firstPort: the first node's port; the others follow.
  package static func document(
    _ deployment: Deployment, model: ModelArchitecture, hosts: [String], firstPort: Int
  ) -> JSONValue {
    let attention = deployment.attentionDevices
    let total = deployment.deviceCount
    let experts = model.feedForward.map(\.expertCount).max() ?? 0
    let nodes = (0..<total).map { index -> JSONValue in
      let host = hosts.isEmpty ? "127.0.0.1" : hosts[index % hosts.count]
      let isAttention = index < attention
      let shard = index - attention
      let shards = deployment.feedForwardDevices
      let first = isAttention ? 0 : experts * shard / shards
      let end = isAttention ? 0 : experts * (shard + 1) / shards
      return .members([
        ("id", .string(isAttention ? "attention-\(index)" : "ffn-\(shard)")),
        ("role", .string(isAttention ? "attention" : "ffn")), ("host", .string(host)),
        ("port", .integer(firstPort + index)),
        ("experts", isAttention || end <= first ? nil : .array([.integer(first), .integer(end)])),
      ])
    }
    return .members([
      ("micro_batches", .integer(deployment.microBatchCount)),
      ("micro_batch_tokens", .integer(deployment.microBatchTokens)), ("nodes", .array(nodes)),
    ])
  }
}
