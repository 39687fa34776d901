package import CostModel
package import JSONScanning

/// A plan for machines that run this engine, as a cluster file: who attends, who holds experts.
package enum ClusterPlan {
  /// One node per device, and a gateway before several attention nodes.
  ///
  /// Experts are split evenly, in order; where there are more feed-forward nodes than experts,
  /// matrices are sliced as well.
  ///
  /// - Parameters:
  ///   - hosts: names of the machines, used in turn; the loopback address when none are given.
  ///   - keyFile: where the nodes will find the cluster's key, beside the cluster file.
  package static func document(
    _ deployment: Deployment, model: ModelArchitecture, hosts: [String], keyFile: String
  ) throws(CostModelError) -> JSONValue {
    let attention = deployment.attentionDevices
    let feedForward = deployment.feedForwardDevices
    func host(_ index: Int) -> JSONValue {
      .string(hosts.isEmpty ? "127.0.0.1" : hosts[index % hosts.count])
    }
    var nodes: [JSONValue] = []
    if attention > 1 {
      nodes.append(
        .members([
          ("id", .string("gateway")), ("role", .string("gateway")), ("host", host(0)),
          ("port", .integer(8000)),
        ]))
    }
    for index in 0..<attention {
      nodes.append(
        .members([
          ("id", .string("attention-\(index)")), ("role", .string("attention")),
          ("host", host(index)), ("port", .integer(8001 + index)),
        ]))
    }
    let experts = max(1, model.feedForward.map(\.expertCount).max() ?? 1)
    guard
      let slices = [1, 2, 4].first(where: {
        feedForward % $0 == 0 && feedForward / $0 <= experts
      })
    else { throw .tooManyShards(model: model.name, shards: feedForward, experts: experts) }
    let groups = feedForward / slices
    for shard in 0..<feedForward {
      let group = shard / slices
      let first = experts * group / groups
      let last = experts * (group + 1) / groups - 1
      nodes.append(
        .members([
          ("id", .string("ffn-\(shard)")), ("role", .string("ffn")),
          ("host", host(attention + shard)), ("port", .integer(7001 + shard)),
          ("experts", experts == 1 || groups == 1 ? nil : .string("\(first)-\(last)")),
          ("slice", slices == 1 ? nil : .string("\(shard % slices)/\(slices)")),
        ]))
    }
    return .members([
      ("key_file", .string(keyFile)), ("exchange", .string("bf16")),
      ("micro_batches", .integer(min(8, deployment.microBatchCount))), ("nodes", .array(nodes)),
    ])
  }
}
