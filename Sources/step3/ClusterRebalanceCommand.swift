import ClusterControl
import CommandLineInterface
import Disaggregation
import JSONScanning
import Serving

/// `step3 cluster rebalance`: moves experts between shards by measured load.
struct ClusterRebalanceCommand: Command {
  static let specification = CommandSpecification(
    "cluster rebalance",
    abstract: "Move experts between ffn nodes by measured load, while serving.",
    example: "step3 cluster rebalance --cluster cluster.json --every 60",
    flags: [
      ClusterNodeSetup.clusterFlag,
      .number(
        "every", in: 1...86_400,
        help: "seconds between two looks, each at the load since the last (default: once)"),
      .integer(
        "spare", in: 0...1024, default: 0,
        help: "copies of other shards' hottest experts that each shard may hold as well"),
      .number("timeout", in: 1...3600, default: 300, help: "seconds for nodes to read experts in"),
    ],
    discussion: """
      Asks the attention nodes how many tokens chose each expert, swaps experts between the shards
      until they have nearly as many tokens each, and gives the attention nodes the new map. They
      use it once every ffn node has read its new experts; requests go on, and no bit changes. Each
      shard keeps its number of experts, but for the copies that --spare allows: the tokens of an
      expert with copies take turns. Shards that hold slices of experts are left as they are.
      """)

  /// What an attention node tells.
  private struct Look {
    var node: ClusterNode
    var map: ExpertMap
    var isChanging: Bool
    var refusal: String?
    var load: [Int]
  }

  static func run(_ arguments: ParsedArguments) async throws {
    let file = try ClusterFile(path: arguments.string("cluster"))
    let probe = try ClusterProbe(file)
    var before: [String: [Int]] = [:]
    while true {
      let looks = try await look(file, probe)
      let load = sum(
        looks.map { look in
          // A node that was started again counts from nought.
          let old = before[look.node.id] ?? []
          let isLater = old.count == look.load.count && zip(look.load, old).allSatisfy { $0 >= $1 }
          return isLater ? zip(look.load, old).map { $0 - $1 } : look.load
        })
      for look in looks { before[look.node.id] = look.load }
      try await rebalance(
        looks, load, try? file.layout(expertCount: load.count).map, probe, arguments)
      guard let seconds = arguments.optionalNumber("every") else { return }
      try await Task.sleep(for: .seconds(seconds))
    }
  }

  private static func rebalance(
    _ looks: [Look], _ load: [Int], _ base: ExpertMap?, _ probe: ClusterProbe,
    _ arguments: ParsedArguments
  ) async throws {
    guard let newest = looks.map(\.map).max(by: { $0.epoch < $1.epoch }) else { return }
    guard load.contains(where: { $0 > 0 }) else {
      return arguments.log.info("no tokens have been routed since the last look; nothing to do")
    }
    let found = newest.imbalance(load: load)
    let better = newest.balanced(
      load: load, spare: arguments.integer("spare"), base: base)
    let next = better ?? newest
    if let better {
      arguments.log.info(
        "map \(better.epoch): the busiest shard has \(text(better.imbalance(load: load))) of an "
          + "even share, \(text(found)) before; \(moved(newest, better)) of \(load.count) experts "
          + "move, \(better.copies.count) have copies")
    } else {
      arguments.log.info(
        "map \(newest.epoch) stays: the busiest shard has \(text(found)) of an even share")
    }
    let behind = looks.filter { $0.map != next }.map(\.node)
    for node in behind {
      guard let (status, json) = await probe.give(next.json, to: node) else { continue }
      guard status == 202 else {
        throw CommandFailure(
          .peer, code: "map_refused", "\(node.id): \(json["error"]?.string ?? "HTTP \(status)")")
      }
    }
    try await wait(for: next, behind, probe, arguments)
  }

  /// Waits until the nodes use a map.
  private static func wait(
    for map: ExpertMap, _ nodes: [ClusterNode], _ probe: ClusterProbe, _ arguments: ParsedArguments
  ) async throws {
    let end = ContinuousClock.now + .seconds(arguments.number("timeout"))
    for node in nodes {
      while let look = await look(at: node, probe), look.map.epoch < map.epoch {
        if let refusal = look.refusal {
          throw CommandFailure(.peer, code: "map_refused", "\(node.id): \(refusal)")
        }
        guard ContinuousClock.now < end else {
          throw CommandFailure(
            .peer, code: "map_not_taken",
            "\(node.id) does not use map \(map.epoch) yet; its ffn "
              + "nodes may still read experts")
        }
        try await Task.sleep(for: .milliseconds(50))
      }
      arguments.log.info("\(node.id) uses map \(map.epoch)")
    }
  }

  private static func look(_ file: ClusterFile, _ probe: ClusterProbe) async throws -> [Look] {
    var looks: [Look] = []
    for node in file.nodes(.attention) {
      guard let found = await look(at: node, probe) else { continue }
      looks.append(found)
      // So that there are never more maps than ffn nodes keep.
      if found.isChanging {
        throw CommandFailure(
          .peer, code: "map_changing", "\(node.id) is about to change its map; try again later")
      }
    }
    guard !looks.isEmpty else {
      throw CommandFailure(
        .peer, code: "peer_unreachable", "no attention node answers; are they running?")
    }
    return looks
  }

  private static func look(at node: ClusterNode, _ probe: ClusterProbe) async -> Look? {
    guard let (status, json) = await probe.ask(node), status == 200,
      let load = json["load"]?.array?.compactMap(\.integer),
      let shards = json["map"]?["shards"]?.array
    else { return nil }
    // Only experts matter here; what else shards hold stays as each node knows it.
    let base = ExpertMap(
      parts: shards.map { _ in ShardPart(experts: [], sharedQuarters: 0..<0, denseQuarters: 0..<0) }
    )
    guard var map = ExpertMap(json["map"], like: base) else { return nil }
    for (index, slice) in (json["slices"]?.array ?? []).enumerated() where index < shards.count {
      let bounds = slice.array?.compactMap(\.integer) ?? []
      if bounds.count == 2, bounds[0] <= bounds[1] {
        map.parts[index].expertQuarters = bounds[0]..<bounds[1]
      }
    }
    return Look(
      node: node, map: map, isChanging: json["proposed"] != nil,
      refusal: json["refusal"]?.string, load: load)
  }

  private static func sum(_ loads: [[Int]]) -> [Int] {
    guard var total = loads.first else { return [] }
    for load in loads.dropFirst() where load.count == total.count {
      for expert in total.indices { total[expert] += load[expert] }
    }
    return total
  }

  private static func moved(_ old: ExpertMap, _ new: ExpertMap) -> Int {
    zip(old.parts, new.parts).reduce(0) { count, pair in
      count + Set(pair.1.experts.joined()).subtracting(pair.0.experts.joined()).count
    }
  }

  private static func text(_ value: Double) -> String {
    let hundredths = Int((value * 100).rounded())
    return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
  }
}
