import ClusterControl
import CommandLineInterface
import Disaggregation
import Inference
import JSONScanning
import Serving

/// `step3 attention`: a server whose feed-forward halves are computed by ffn nodes.
struct AttentionCommand: Command {
  static let specification = CommandSpecification(
    "attention", abstract: "Serve with the feed-forward half computed by a cluster's ffn nodes.",
    example: "step3 attention --model DIR --cluster cluster.json --id a0", takesModel: true,
    flags: ServeFlags.all.filter { !["host", "port"].contains($0.name) } + [
      ClusterNodeSetup.clusterFlag, ClusterNodeSetup.idFlag, ClusterNodeSetup.coresFlag,
      .string("host", "ADDRESS", help: "address to listen on (default: the cluster file's)"),
      .integer("port", in: 0...65_535, help: "port to listen on (default: the cluster file's)"),
    ],
    discussion: """
      An HTTP server like `step3 serve`, which keeps the KV cache and computes attention. It waits
      for ffn nodes that cannot be reached, and ends with exit code 6 when one of them refuses it.
      /ready answers 200 once every part of the model is served by somebody.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    let log = arguments.log
    let folder = try ModelFolder(path: arguments.model)
    var options = ServeFlags.engineOptions(arguments)
    let setup = try ClusterNodeSetup(
      cluster: arguments.string("cluster"), id: arguments.string("id"), role: .attention, folder,
      options)
    try setup.restrict(arguments)
    options.kernels = setup.kernels
    options.microBatchCount = setup.file.microBatchCount
    let board = PeerBoard(setup.file, role: .attention)
    let desk = TraceDesk()
    let maps = setup.makeMapDesk()
    let exchange = ExchangeDesk(setup.layout)
    let engine = ClusterEngine(
      Engine(
        folder, options: options, through: setup.makeFactory(board, maps, desk, exchange, log)),
      board, setup.layout)
    var settings = try ServeFlags.settings(arguments)
    settings.clusterKey = setup.file.key
    let names = setup.layout.holders.flatMap { $0 }
    settings.clusterTrace = { await desk.trace($0, name: setup.node.id, nodeNames: names) }
    settings.clusterMap = { json in
      guard let map = ExpertMap(json, like: maps.base) else {
        return "not an expert map of \(maps.base.parts.count) shards"
      }
      return maps.propose(map)
    }
    settings.clusterStatus = {
      var reports = JSONObject()
      for (id, report) in board.reports { reports[id] = report }
      let load = engine.load.expertTokens.ofAllLayers(expertCount: setup.expertCount)
      return maps.members + exchange.members
        + [("load", .array(load.map { .integer($0) })), ("ffn", .object(reports))]
    }
    settings.clusterMetrics = { exchange.metrics(board.reports) }
    var http = try ServeFlags.httpOptions(arguments)
    http.host = arguments.optionalString("host") ?? setup.node.host
    http.port = arguments.optionalInteger("port") ?? setup.node.port
    let watching = Task { () async throws -> String? in
      // Somebody who refuses us at the start will not change its mind.
      while !Task.isCancelled {
        for peer in board.peers {
          if case .refused(let reason) = peer.state {
            return "\(peer.id) at \(peer.address): \(reason)"
          }
        }
        if board.missing.isEmpty { return nil }
        try await Task.sleep(for: .milliseconds(50))
      }
      return nil
    }
    try await ServeCommand.serve(
      arguments, folder, engine, settings, http,
      fault: {
        guard case .success(let found) = await watching.result, let refusal = found else {
          return nil
        }
        return CommandFailure(.peer, code: "peer_refused", refusal)
      })
  }
}

/// An engine with its peers: refuses requests at once while a part of the model is out of reach.
final class ClusterEngine: ServedEngine {
  private let engine: Engine
  private let board: PeerBoard
  private let layout: ClusterLayout

  init(_ engine: Engine, _ board: PeerBoard, _ layout: ClusterLayout) {
    self.engine = engine
    self.board = board
    self.layout = layout
  }

  var model: ModelFacts? { engine.model }
  var state: EngineState { engine.state }
  var load: EngineLoad { engine.load }
  func waitUntilLoaded() throws { try engine.waitUntilLoaded() }
  func cancel(_ id: String) { engine.cancel(id) }
  func cancel(_ id: String, choice: Int) { engine.cancel(id, choice: choice) }
  func drain() { engine.drain() }
  func stop() { engine.stop() }

  var peers: [EnginePeer] {
    let known = board.peers
    return known.map { peer in
      let holders = layout.holders.first { $0.contains(peer.id) } ?? []
      let isServed = known.contains { $0.isAdmitted && holders.contains($0.id) }
      let reason =
        switch peer.state {
        case .unreachable(let reason), .refused(let reason): reason
        case .greeting: "the handshake is on its way"
        case .admitted: ""
        }
      return EnginePeer(
        id: peer.id, role: "ffn", isUp: peer.isAdmitted, isNeeded: !isServed, reason: reason)
    }
  }

  func submit(
    _ request: GenerationRequest, onEvent: @escaping @Sendable (GenerationEvent) -> Void
  ) throws(GenerationFailure) {
    let missing = peers.filter { $0.isNeeded && !$0.isUp }.map(\.id)
    if engine.state == .ready, !missing.isEmpty {
      throw .peerLost(name: missing.joined(separator: ", "))
    }
    try engine.submit(request, onEvent: onEvent)
  }
}
