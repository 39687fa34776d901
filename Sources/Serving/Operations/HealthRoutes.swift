import Inference
import JSONScanning
import Sampling

/// `/health`, `/ready`, `/version`, `/ping`, `/load`, `/metrics`: answered on the event loop's own
/// thread, so that they never wait behind a prompt.
enum HealthRoutes {
  private static func respond(_ status: Int, _ json: JSONValue) -> HTTPResponse {
    HTTPResponse(
      status: status, contentType: "application/json", body: json.bytes,
      headers: [HTTPField("Cache-Control", "no-store")])
  }

  /// Whether the process is well; loading is.
  static func health(_ context: APIContext) -> HTTPResponse {
    switch context.engine.state {
    case .ready: respond(200, withPeers(["status": "ok"], context))
    case .draining: respond(200, withPeers(["status": "draining"], context))
    case .loading(let progress):
      respond(
        context.settings.strictHealth ? 503 : 200, withPeers(loading(progress), context))
    case .stopped: respond(503, ["status": "stopped"])
    }
  }

  /// The same object with the processes that this one depends on, where there are any.
  private static func withPeers(_ json: JSONValue, _ context: APIContext) -> JSONValue {
    let peers = context.engine.peers
    guard !peers.isEmpty, var object = json.object else { return json }
    let missing = peers.filter { !$0.isUp }
    if !missing.isEmpty, object["status"] == "ok" { object["status"] = "degraded" }
    object["missing"] = .array(missing.map { .string($0.id) })
    object["peers"] = .array(
      peers.map { peer in
        var entry: JSONValue = [
          "id": .string(peer.id), "role": .string(peer.role), "up": .boolean(peer.isUp),
        ]
        if !peer.reason.isEmpty, var more = entry.object {
          more["reason"] = .string(peer.reason)
          entry = .object(more)
        }
        return entry
      })
    return .object(object)
  }

  /// Whether requests are served.
  static func ready(_ context: APIContext) -> HTTPResponse {
    switch context.engine.state {
    case .ready:
      do throws(APIError) {
        _ = try context.servedModel()
      } catch { return respond(503, ["status": "loading", "progress": 1.0]) }
      guard !context.engine.peers.contains(where: { $0.isNeeded && !$0.isUp }) else {
        var answer = respond(503, withPeers(["status": "waiting for peers"], context))
        answer.headers.append(HTTPField("Retry-After", "1"))
        return answer
      }
      return respond(200, withPeers(["status": "ok"], context))
    case .draining: return respond(503, ["status": "draining"])
    case .stopped: return respond(503, ["status": "stopped"])
    case .loading(let progress):
      var answer = respond(503, withPeers(loading(progress), context))
      answer.headers.append(HTTPField("Retry-After", "1"))
      return answer
    }
  }

  private static func loading(_ progress: LoadProgress) -> JSONValue {
    [
      "status": "loading", "progress": .number(progress.fraction),
      "bytes": .integer(progress.loadedByteCount), "total_bytes": .integer(progress.totalByteCount),
      "eta_s": progress.estimatedSecondsLeft.map { .number($0) } ?? nil,
    ]
  }

  static func version(_ context: APIContext) -> HTTPResponse {
    respond(200, ["version": .string(context.settings.version)])
  }

  static func ping(_ context: APIContext) -> HTTPResponse {
    if case .stopped = context.engine.state { return respond(503, ["status": "stopped"]) }
    return respond(200, ["status": "ok"])
  }

  static func load(_ context: APIContext) -> HTTPResponse {
    let load = context.engine.load
    return respond(
      200,
      [
        "server_load": .integer(load.runningRequestCount + load.waitingRequestCount),
        "running_requests": .integer(load.runningRequestCount),
        "waiting_requests": .integer(load.waitingRequestCount),
        "waiting_tokens": .integer(load.waitingTokenCount),
        "kv_cache_usage": .number(load.cacheUsage),
        "preemptions": .integer(load.preemptionCount),
      ])
  }

  static func metrics(_ context: APIContext) -> HTTPResponse {
    let prefixes = context.settings.printsVLLMMetrics ? ["step3:", "vllm:"] : ["step3:"]
    let text = context.metrics.text(
      prefixes: prefixes, model: context.settings.modelNames.first ?? "", engine: context.engine,
      residentByteCount: ProcessMemory.residentByteCount,
      cluster: context.settings.clusterMetrics?() ?? [])
    return HTTPResponse(
      contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array(text.utf8))
  }

  /// `/health?generate=1`: whether a token comes out.
  static func generate(
    _ exchange: HTTPExchange, _ context: APIContext
  ) async throws(APIError) -> RequestSummary {
    let model = try context.servedModel()
    var options = try GenerationOptions(defaults: context.settings.defaults)
    options.maximumTokens = 1
    let request = try options.request(
      id: Identifiers.make("health-"),
      prompt: try model.text.encode("a", addsSpecialTokens: false), model: model, path: "prompt")
    var run = try context.run(
      PreparedGeneration(requests: [request], format: .plain, options: options), model)
    var hasToken = false
    while let outputs = await run.next() {
      for output in outputs {
        if case .token = output { hasToken = true }
      }
    }
    run.cancel()
    exchange.respond(respond(hasToken ? 200 : 503, ["status": hasToken ? "ok" : "failing"]))
    return RequestSummary()
  }
}
