import ClusterControl
import CommandLineInterface
import Foundation
import JSONScanning
import Serving

/// `step3 cluster top`: what the nodes do, over and over.
struct ClusterTopCommand: Command {
  static let specification = CommandSpecification(
    "cluster top", abstract: "Watch the nodes of a cluster in the terminal.",
    example: "step3 cluster top --cluster cluster.json",
    flags: [
      ClusterNodeSetup.clusterFlag,
      .number("interval", in: 0.1...3600, default: 1, help: "seconds between two looks"),
      .integer("count", in: 1...Int.max, help: "looks after which to end (default: never)"),
    ])

  static func run(_ arguments: ParsedArguments) async throws {
    let file = try ClusterFile(path: arguments.string("cluster"))
    let probe = try ClusterProbe(file)
    let isTerminal = isatty(STDOUT_FILENO) == 1
    let count = arguments.optionalInteger("count") ?? .max
    for look in 0..<count {
      if look > 0 { try await Task.sleep(for: .seconds(arguments.number("interval"))) }
      var text = isTerminal ? "\u{1B}[H\u{1B}[2J" : ""
      text += line(["node", "address", "state", "running", "waiting", "cache", "missing"])
      var statuses: [String: JSONValue] = [:]
      for node in file.nodes(.attention) {
        let answer = await probe.ask(node)
        if let answer, answer.status == 200 { statuses[node.id] = answer.json }
        text += row(node, statuses[node.id])
      }
      for node in file.nodes(.gateway) {
        let answer = await probe.ask(node)
        text += line([
          node.id, node.address, answer?.json["status"]?.string ?? "no answer", "", "", "",
          names(answer?.json["missing"]),
        ])
      }
      text += times(file, statuses) + nodes(file, statuses)
      StandardOutput.write(text + (isTerminal ? "" : "\n"))
    }
  }

  private static func row(_ node: ClusterNode, _ json: JSONValue?) -> String {
    guard let json else { return line([node.id, node.address, "no answer", "", "", "", ""]) }
    let state =
      json["draining"]?.boolean == true
      ? "draining" : json["ready"]?.boolean == true ? "ready" : "waiting"
    return line([
      node.id, node.address, state, "\(json["running"]?.integer ?? 0)",
      "\(json["waiting"]?.integer ?? 0)", percent(json["cache"]?.number, of: 1),
      names(json["missing"]),
    ])
  }

  /// Where the time of each attention node's steps went since its start; the shares add up.
  private static func times(_ file: ClusterFile, _ statuses: [String: JSONValue]) -> String {
    var text = line([
      "steps of", "attention", "exchange", "imbalance", "on the way", "map", "steps",
    ])
    for node in file.nodes(.attention) {
      guard let exchange = statuses[node.id]?["exchange"] else { continue }
      let wall = exchange["wall"]?.number ?? 0
      let shares = ["attention", "exchange", "imbalance", "communication"].map {
        percent(exchange[$0]?.number, of: wall)
      }
      text += line(
        [node.id] + shares + [
          "\(statuses[node.id]?["map"]?["epoch"]?.integer ?? 0)",
          "\(exchange["steps"]?.integer ?? 0)",
        ])
    }
    return text
  }

  /// What the ffn nodes tell their peers about themselves.
  private static func nodes(_ file: ClusterFile, _ statuses: [String: JSONValue]) -> String {
    var text = line(["ffn", "address", "state", "busy", "rows/job", "refused", "shard"])
    for node in file.nodes(.ffn) {
      let asked = statuses.values.filter { $0["missing"] != nil }
      let isMissing = asked.contains { $0["missing"]?.array?.contains(.string(node.id)) == true }
      let state = asked.isEmpty ? "unknown" : isMissing ? "missing" : "up"
      // Every attention node is told the same; the latest knows most.
      let report = asked.compactMap { $0["ffn"]?[node.id] }
        .max { ($0["uptime"]?.number ?? 0) < ($1["uptime"]?.number ?? 0) }
      let jobs = report?["jobs"]?.integer ?? 0
      text += line([
        node.id, node.address, state,
        percent(report?["busy"]?.number, of: report?["uptime"]?.number),
        jobs > 0 ? "\((report?["rows"]?.integer ?? 0) / jobs)" : "",
        report?["refused"]?.integer.map { "\($0)" } ?? "",
        report?["shard"]?.integer.map { "\($0)" } ?? "",
      ])
    }
    return text
  }

  private static func percent(_ part: Double?, of whole: Double?) -> String {
    guard let part, let whole, whole > 0 else { return "" }
    return "\(Int((100 * part / whole).rounded())) %"
  }

  private static func names(_ json: JSONValue?) -> String {
    (json?.array?.compactMap(\.string) ?? []).joined(separator: ", ")
  }

  private static func line(_ cells: [String]) -> String {
    let widths = [12, 24, 11, 9, 9, 8, 0]
    return zip(cells, widths).map { cell, width in
      cell + String(repeating: " ", count: max(1, width - cell.count))
    }.joined() + "\n"
  }
}
