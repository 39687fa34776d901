import ClusterControl
import CommandLineInterface
import Foundation
import Inference
import JSONScanning
import Serving

/// `step3 serve --cluster F`: one address for the attention nodes of a cluster. Tokenises, decodes
/// and routes; holds no weights.
enum GatewayServer {
  static let flags: [Flag] = [
    .string("cluster", "FILE", help: "be the gateway of this cluster; loads no weights"),
    .string("id", "NAME", help: "which gateway of the cluster file to be"),
  ]

  static func run(_ arguments: ParsedArguments, cluster path: String) async throws {
    let log = arguments.log
    let file = try ClusterFile(path: path)
    let node = try gateway(arguments, file)
    var http = try ServeFlags.httpOptions(arguments)
    if let node {
      http.host = node.host
      http.port = node.port
    }
    let template = try arguments.optionalString("chat-template").map(ServeCommand.readTemplate)
    let generation = try GenerationConfiguration(
      path: arguments.model + "/generation_config.json")
    let settings = ServeFlags.completed(try ServeFlags.settings(arguments), generation)
    let engine = try GatewayEngine(file) { log.info($0) }
    let isJSON = arguments.string("log-format") == "json"
    let server = APIServer(engine: engine, settings: settings) { record in
      guard log.level >= .info else { return }
      StandardError.write((isJSON ? record.json.text() : record.text) + "\n")
    }
    let listener = try HTTPServer(options: http, handler: server)
    let nodes = file.nodes(.attention).map(\.id).joined(separator: ", ")
    log.info("gateway of \(nodes) at http://\(http.host):\(listener.port)/v1")

    let stop = StopSignal()
    let watch = SignalWatch { code in stop.fire(code) }
    let loading = Task {
      // The nodes tell how large the vocabulary is.
      while true {
        try Task.checkCancellation()
        if let facts = engine.model {
          let text = try CheckpointText(
            directory: arguments.model, template: template, vocabularySize: facts.vocabularySize)
          let images =
            engine.takesImages
            ? try ImageFlags.forwarder(arguments) { text.id(of: $0) } : nil
          server.install(text, images: images)
          log.info("ready")
          return
        }
        try await Task.sleep(for: .milliseconds(20))
      }
    }
    Task {
      if case .failure(let error) = await loading.result, !(error is CancellationError) {
        log.error("\(error)")
        stop.fire(.modelFiles)
      }
    }
    let code = await stop.wait()
    loading.cancel()
    log.info("draining; a second signal stops at once")
    engine.drain()
    listener.closeAfterAnswers()
    let end = ContinuousClock.now + .seconds(arguments.number("shutdown-timeout"))
    while engine.openRequestCount > 0, ContinuousClock.now < end {
      try? await Task.sleep(for: .milliseconds(50))
    }
    engine.stop()
    try? await Task.sleep(for: .milliseconds(200))
    await listener.stop()
    _ = watch.received
    throw StoppedBySignal(code)
  }

  /// The gateway node to be: the one named, or the only one; nil when the file has none.
  private static func gateway(
    _ arguments: ParsedArguments, _ file: ClusterFile
  ) throws -> ClusterNode? {
    if let id = arguments.optionalString("id") { return try file.node(id, .gateway) }
    let gateways = file.nodes(.gateway)
    guard gateways.count > 1 else { return gateways.first }
    throw CommandFailure(
      .usage, code: "usage",
      "\(file.path) has the gateways \(gateways.map(\.id).joined(separator: ", ")); say which one "
        + "to be with --id")
  }
}
