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
      for node in file.nodes where node.role == .attention {
        text += await row(node, probe)
      }
      let named = await links(file, probe)
      for node in file.nodes where node.role == .ffn {
        let seen = named[node.id].map { $0 ? "missing" : "up" } ?? "unknown"
        text += line([node.id, node.address, seen, "", "", "", ""])
      }
      for node in file.nodes where node.role == .gateway {
        let answer = await probe.ask(node)
        text += line([
          node.id, node.address, answer?.json["status"]?.string ?? "no answer", "", "", "",
          names(answer?.json["missing"]),
        ])
      }
      StandardOutput.write(text + (isTerminal ? "" : "\n"))
    }
  }

  private static func row(_ node: ClusterNode, _ probe: ClusterProbe) async -> String {
    guard let (status, json) = await probe.ask(node), status == 200 else {
      return line([node.id, node.address, "no answer", "", "", "", ""])
    }
    let state =
      json["draining"]?.boolean == true
      ? "draining" : json["ready"]?.boolean == true ? "ready" : "waiting"
    return line([
      node.id, node.address, state, "\(json["running"]?.integer ?? 0)",
      "\(json["waiting"]?.integer ?? 0)",
      "\(Int((100 * (json["cache"]?.number ?? 0)).rounded())) %", names(json["missing"]),
    ])
  }

  /// Whether some attention node misses each ffn node; absent when none could be asked.
  private static func links(_ file: ClusterFile, _ probe: ClusterProbe) async -> [String: Bool] {
    var result: [String: Bool] = [:]
    for node in file.nodes(.attention) {
      guard let (status, json) = await probe.ask(node), status == 200 else { continue }
      let missing = Set(json["missing"]?.array?.compactMap(\.string) ?? [])
      for ffn in file.nodes(.ffn) {
        result[ffn.id] = (result[ffn.id] ?? false) || missing.contains(ffn.id)
      }
    }
    return result
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
