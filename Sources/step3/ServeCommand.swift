import CommandLineInterface
import Foundation
import Inference
import JSONScanning
import ModelConfiguration
import Serving
import Synchronization
import Tokenization

/// `step3 serve`: the HTTP server.
struct ServeCommand: Command {
  static let specification = CommandSpecification(
    "serve", abstract: "Serve the model to OpenAI, Anthropic and vLLM clients, and a chat page.",
    example: "step3 serve --model DIR --port 8000 --api-key secret", takesModel: true,
    flags: ServeFlags.all + GatewayServer.flags,
    discussion: """
      The port opens at once; /ready tells when the model is loaded. SIGTERM lets running requests
      finish (up to --shutdown-timeout seconds); a second signal stops at once.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    if let path = arguments.optionalString("cluster") {
      return try await GatewayServer.run(arguments, cluster: path)
    }
    let settings = try ServeFlags.settings(arguments)
    let options = ServeFlags.engineOptions(arguments)
    let folder = try ModelFolder(path: arguments.model)
    try await serve(
      arguments, folder, Engine(folder, options: options), settings,
      ServeFlags.httpOptions(arguments))
  }

  /// Serves an engine until a signal comes, or `fault`, which may take its time, finds a reason not
  /// to.
  static func serve(
    _ arguments: ParsedArguments, _ folder: ModelFolder, _ engine: any ServedEngine,
    _ settings: APISettings, _ http: HTTPServerOptions,
    fault: @escaping @Sendable () async -> CommandFailure? = { nil }
  ) async throws {
    let log = arguments.log
    let template = try arguments.optionalString("chat-template").map(readTemplate)
    let isJSON = arguments.string("log-format") == "json"
    let server = APIServer(
      engine: engine, settings: ServeFlags.completed(settings, folder.generation),
      log: { record in
        guard log.level >= .info else { return }
        StandardError.write((isJSON ? record.json.text() : record.text) + "\n")
      },
      warn: { log.warning($0) })
    let listener = try HTTPServer(options: http, handler: server)
    announce(arguments, http, listener, settings, log)

    let stop = StopSignal()
    let watch = SignalWatch { code in stop.fire(code) }
    do {
      try engine.waitUntilLoaded()
      let text = try CheckpointText(
        directory: arguments.model, template: template,
        vocabularySize: folder.configuration.text.vocabularySize)
      server.install(
        text, images: try ImageFlags.reader(arguments, folder) { text.id(of: $0) })
    } catch {
      await listener.stop()
      throw error
    }
    log.info("ready")
    let found = Mutex<CommandFailure?>(nil)
    Task {
      guard let failure = await fault() else { return }
      found.withLock { $0 = failure }
      stop.fire(failure.exitCode)
    }
    let code = await stop.wait()
    if let failure = found.withLock({ $0 }) {
      engine.stop()
      await listener.stop()
      throw failure
    }
    log.info("draining; a second signal stops at once")
    await drain(engine, listener, seconds: arguments.number("shutdown-timeout"))
    _ = watch.received
    throw StoppedBySignal(code)
  }

  /// Lets requests in flight finish, then ends the rest.
  private static func drain(_ engine: any ServedEngine, _ listener: HTTPServer, seconds: Double)
    async
  {
    engine.drain()
    listener.closeAfterAnswers()
    let end = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < end {
      let load = engine.load
      if load.runningRequestCount + load.waitingRequestCount == 0 { break }
      try? await Task.sleep(for: .milliseconds(50))
    }
    engine.stop()
    // The last chunks of what was cut off are on their way.
    try? await Task.sleep(for: .milliseconds(200))
    await listener.stop()
  }

  static func readTemplate(_ path: String) throws -> ChatTemplate {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CommandFailure(.usage, code: "file_not_found", "\(path): cannot be read")
    }
    return try ChatTemplate(source: String(decoding: data, as: UTF8.self))
  }

  private static func announce(
    _ arguments: ParsedArguments, _ http: HTTPServerOptions, _ listener: HTTPServer,
    _ settings: APISettings, _ log: Log
  ) {
    let host = http.host
    let scheme = arguments.optionalString("ssl-certfile") == nil ? "http" : "https"
    let address = host.contains(":") ? "[\(host)]" : host
    let url = "\(scheme)://\(address):\(listener.port)"
    log.info("step3 \(Step3Command.version) serves \(arguments.model) at \(url)/v1")
    if settings.servesPage { log.info("chat page: \(url)/") }
    let isLocal = ["127.0.0.1", "::1", "localhost"].contains(host)
    if settings.keys.isEmpty && !isLocal {
      log.warning("no --api-key is set, and \(host) may be reached from other machines")
    }
  }
}

/// An engine whose life a command looks after.
protocol ServedEngine: GenerationEngine {
  /// Blocks until the model is loaded; throws why it could not be.
  func waitUntilLoaded() throws
  /// Ends every request.
  func stop()
}

extension Engine: ServedEngine {}

/// The first signal, for whoever awaits it.
final class StopSignal: Sendable {
  private let state = Mutex<(code: ExitCode?, waiter: CheckedContinuation<ExitCode, Never>?)>(
    (nil, nil))

  func fire(_ code: ExitCode) {
    let waiter = state.withLock { state in
      state.code = code
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume(returning: code)
  }

  func wait() async -> ExitCode {
    await withCheckedContinuation { continuation in
      let code = state.withLock { state -> ExitCode? in
        if state.code == nil { state.waiter = continuation }
        return state.code
      }
      if let code { continuation.resume(returning: code) }
    }
  }
}
