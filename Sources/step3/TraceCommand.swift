import ClusterControl
import CommandLineInterface
import Disaggregation
import Foundation
import JSONScanning
import Serving
import Synchronization

/// `step3 trace`: the timeline of a running cluster's steps, for Perfetto.
struct TraceCommand: Command {
  static let specification = CommandSpecification(
    "trace", abstract: "Record the timeline of the next steps of a running cluster.",
    example: "step3 trace --cluster cluster.json --steps 10 --out trace.json",
    flags: [
      ClusterNodeSetup.clusterFlag,
      .string("id", "NAME", help: "the attention node (default: the file's first one)"),
      .integer("steps", in: 1...1000, default: 10, help: "steps to record"),
      .string("out", "FILE", required: true, help: "where to write the trace"),
    ],
    discussion: """
      Open the file at ui.perfetto.dev or chrome://tracing: per layer and micro-batch attention, the
      way out, the feed-forward half and the way back. Steps are only recorded while requests run.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    let file = try ClusterFile(path: arguments.string("cluster"))
    let node =
      if let id = arguments.optionalString("id") { try file.node(id, .attention) } else {
        file.nodes(.attention)[0]
      }
    let probe = try ClusterProbe(file)
    let path = "/cluster/trace?steps=\(arguments.integer("steps"))"
    guard let (status, json) = await probe.ask(node, path: path, within: .seconds(40)) else {
      throw CommandFailure(
        .peer, code: "peer_unreachable", "\(node.id) at \(node.address) does not answer")
    }
    guard status == 200 else {
      let reason = json["error"]?.string ?? "HTTP status \(status)"
      throw CommandFailure(
        status == 401 ? .peer : .failed, code: "no_trace", "\(node.id): \(reason)")
    }
    let out = arguments.string("out")
    let contents = Data(json.text(.compact).utf8)
    guard FileManager.default.createFile(atPath: out, contents: contents) else {
      throw CommandFailure(.failed, code: "cannot_write", "\(out): cannot be written")
    }
    arguments.log.info("\(out): \(json["traceEvents"]?.array?.count ?? 0) events")
  }
}

/// Hands records of exchanges from the engine's thread to whoever asks for a timeline.
final class TraceDesk: Sendable {
  private struct State {
    var stepsWanted = 0
    var stepsSeen = 0
    var records: [ExchangeRecord]?
  }

  private let state = Mutex(State())

  /// Called at the beginning of each step; `latest` gives the records, oldest first.
  func beginStep(_ latest: () -> [ExchangeRecord]) {
    let steps: Int = state.withLock { state in
      guard state.stepsWanted > 0 else { return 0 }
      state.stepsSeen += 1
      // The first call comes before the first step that counts.
      return state.stepsSeen > state.stepsWanted ? state.stepsWanted : 0
    }
    guard steps > 0 else { return }
    let all = latest()
    let last = all.last?.step ?? 0
    let wanted = all.filter { $0.step + UInt64(steps) > last }
    state.withLock { state in
      state.records = wanted
      state.stepsWanted = 0
    }
  }

  /// The timeline of the next steps; nil when there are none for half a minute.
  func trace(_ steps: Int, name: String, nodeNames: [String]) async -> JSONValue? {
    state.withLock { state in
      state.stepsWanted = steps
      state.stepsSeen = 0
      state.records = nil
    }
    for _ in 0..<1500 {
      if let records = state.withLock({ $0.records }) {
        return TimelineTrace.document([
          TimelineTrace.Source(name: name, nodeNames: nodeNames, records: records)
        ])
      }
      try? await Task.sleep(for: .milliseconds(20))
    }
    return nil
  }
}
