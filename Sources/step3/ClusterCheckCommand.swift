import ClusterControl
import CommandLineInterface
import Foundation
import Inference
import JSONScanning
import Serving
import UCXTransport

/// `step3 cluster check`: looks at every link from this machine.
struct ClusterCheckCommand: Command {
  static let specification = CommandSpecification(
    "cluster check", abstract: "Look at every link of a cluster: transport, latency, verdict.",
    example: "step3 cluster check --model DIR --cluster cluster.json", takesModel: true,
    flags: [
      ClusterNodeSetup.clusterFlag,
      .string(
        "id", "NAME", help: "the attention node to look from (default: the file's first one)"),
      ModelFlags.dtype,
    ],
    discussion: """
      Connects to every ffn node as an attention node would: same handshake, same transport. Nodes
      that serve are not disturbed. Exit code 6 when a link cannot be used.
      """)

  private struct Row {
    var node: ClusterNode
    var report: LinkReport
    var detail = ""

    var verdict: String { report.fault ?? (detail.isEmpty ? "ok" : detail) }
  }

  static func run(_ arguments: ParsedArguments) async throws {
    let folder = try ModelFolder(path: arguments.model)
    let setup = try ClusterNodeSetup(
      cluster: arguments.string("cluster"), id: arguments.optionalString("id"),
      role: .attention, folder, ModelFlags.options(arguments))
    var rows: [Row] = []
    do {
      let probe = LinkProbe(
        try UCXTransport(setup.transportSettings()), setup.file, identity: setup.identity)
      for node in setup.file.nodes(.ffn) {
        rows.append(Row(node: node, report: probe.look(at: node)))
      }
    }
    let probe = try ClusterProbe(setup.file)
    for node in setup.file.nodes where node.role != .ffn {
      rows.append(await look(at: node, probe, folder.fingerprint))
    }
    let isGood = rows.allSatisfy { $0.report.fault == nil }
    if arguments.wantsJSON {
      let links = rows.map { json($0, from: setup.node.id, model: folder.fingerprint) }
      let document: JSONValue = ["links": .array(links), "ok": .boolean(isGood)]
      StandardOutput.write(document.text() + "\n")
    } else {
      StandardOutput.write(table(rows, from: setup.node.id))
      StandardOutput.write("model \(folder.fingerprint), map \(setup.identity.mapHash)\n")
    }
    guard isGood else {
      let bad = rows.filter { $0.report.fault != nil }
        .map { "\($0.node.id) at \($0.node.address): \($0.verdict)" }
      throw CommandFailure(.peer, code: "peer_unreachable", bad.joined(separator: "; "))
    }
  }

  /// The HTTP side of an attention node or a gateway.
  private static func look(
    at node: ClusterNode, _ probe: ClusterProbe, _ fingerprint: String
  ) async -> Row {
    var row = Row(node: node, report: LinkReport())
    row.report.carrier = "http"
    guard let (status, json) = await probe.ask(node) else {
      row.report.fault = "no answer"
      return row
    }
    let found = json["facts"]?["fingerprint"]?.string
    switch status {
    case 401:
      row.report.fault = ClusterRoutes.refusal(json) ?? "\(HandshakeRefusal.wrongKey)"
    case 200 where found.map { $0 != fingerprint } ?? false:
      row.report.fault = "\(HandshakeRefusal.wrongModel(own: fingerprint, peer: found ?? ""))"
    case 200:
      let missing = json["missing"]?.array?.compactMap(\.string) ?? []
      if !missing.isEmpty { row.detail = "waits for \(missing.joined(separator: ", "))" }
    default: row.report.fault = "HTTP status \(status)"
    }
    return row
  }

  private static func json(_ row: Row, from id: String, model: String) -> JSONValue {
    let report = row.report
    return [
      "from": .string(id), "to": .string(row.node.id), "role": .string(row.node.role.rawValue),
      "address": .string(row.node.address),
      "transport": report.carrier.isEmpty ? .null : .string(report.carrier),
      "latency_us": report.latency.map { .number($0 / .microseconds(1)) } ?? .null,
      "bytes_per_second": report.bytesPerSecond.map { .number($0) } ?? .null,
      "model": report.fault == nil ? .string(model) : .null,
      "verdict": .string(row.verdict), "ok": .boolean(report.fault == nil),
    ]
  }

  private static func table(_ rows: [Row], from id: String) -> String {
    var lines = [["link", "address", "transport", "latency", "bandwidth", "verdict"]]
    for row in rows {
      let latency = row.report.latency.map { fixed($0 / .microseconds(1)) + " µs" } ?? "-"
      let rate = row.report.bytesPerSecond.map { fixed($0 / 1e9) + " GB/s" } ?? "-"
      lines.append([
        "\(id) → \(row.node.id)", row.node.address,
        row.report.carrier.isEmpty ? "-" : row.report.carrier, latency, rate, row.verdict,
      ])
    }
    let widths = lines[0].indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
    return lines.map { line in
      line.enumerated().map { column, cell in
        column == line.count - 1
          ? cell : cell + String(repeating: " ", count: widths[column] + 2 - cell.count)
      }.joined()
    }.joined(separator: "\n") + "\n"
  }

  private static func fixed(_ value: Double) -> String { String(format: "%.1f", value) }
}
