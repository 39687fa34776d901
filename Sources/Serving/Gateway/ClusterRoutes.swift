import ClusterControl
import Inference
package import JSONScanning
import Synchronization

/// What an attention node does for the gateway and for `step3 cluster`: `/cluster/status`,
/// `/cluster/generate`, `/cluster/cancel`, `/cluster/trace` and `/cluster/map`, for holders of the
/// cluster key alone.
package final class ClusterRoutes: Sendable {
  static let statusPath = "/cluster/status"
  static let generatePath = "/cluster/generate"
  static let cancelPath = "/cluster/cancel"
  static let tracePath = "/cluster/trace"
  static let mapPath = "/cluster/map"

  private let signatures: Mutex<RequestSignature>

  init(key: [UInt8]) { signatures = Mutex(RequestSignature(key: key)) }

  /// Answers a request under `/cluster/`.
  func handle(_ exchange: HTTPExchange, _ context: APIContext) async {
    let request = exchange.request
    let verdict = signatures.withLock {
      $0.judge(
        request.header(RequestSignature.header), method: request.method, path: request.path,
        body: request.body, seconds: WallClock.seconds)
    }
    switch verdict {
    case .admitted: break
    case .otherTime(let ahead):
      return exchange.respond(Self.answer(401, ["clock_ahead": .integer(ahead)]))
    case .refused:
      return exchange.respond(Self.answer(401, ["error": "not signed with the cluster key"]))
    }
    switch (request.method, request.path) {
    case ("GET", Self.statusPath): exchange.respond(Self.answer(200, status(context)))
    case ("POST", Self.generatePath): await generate(exchange, context)
    case ("POST", Self.cancelPath):
      let json = try? JSONValue(parsing: request.body)
      if let id = json?["id"]?.string, let choice = json?["choice"]?.integer {
        context.engine.cancel(id, choice: choice)
      }
      exchange.respond(Self.answer(200, [:]))
    case ("GET", Self.tracePath): await trace(exchange, context)
    case ("POST", Self.mapPath): exchange.respond(takeMap(request.body, context))
    default: exchange.respond(Self.answer(404, ["error": "unknown path"]))
    }
  }

  /// Why a node answers 401, as far as it says.
  package static func refusal(_ json: JSONValue?) -> String? {
    json?["clock_ahead"]?.integer.map {
      "its clock is \(abs($0)) s \($0 > 0 ? "behind" : "ahead of") this machine's, and requests "
        + "hold for a minute; set both clocks (NTP)"
    }
  }

  private static func answer(_ status: Int, _ json: JSONValue) -> HTTPResponse {
    HTTPResponse(status: status, contentType: "application/json", body: json.bytes)
  }

  private func takeMap(_ body: [UInt8], _ context: APIContext) -> HTTPResponse {
    guard let take = context.settings.clusterMap, let json = try? JSONValue(parsing: body) else {
      return Self.answer(400, ["error": "not an expert map"])
    }
    if let refusal = take(json) { return Self.answer(409, ["error": .string(refusal)]) }
    return Self.answer(202, [:])
  }

  private func trace(_ exchange: HTTPExchange, _ context: APIContext) async {
    let steps = exchange.request.query.split(separator: "=").last.flatMap { Int($0) } ?? 0
    guard let make = context.settings.clusterTrace, (1...1000).contains(steps) else {
      return exchange.respond(Self.answer(400, ["error": "steps must be 1 to 1000"]))
    }
    let document = await make(steps)
    exchange.respond(
      Self.answer(
        document == nil ? 503 : 200, document ?? ["error": "no steps within 30 s"]))
  }

  private func status(_ context: APIContext) -> JSONValue {
    let load = context.engine.load
    var object = JSONObject()
    var isReady = context.engine.state == .ready && (try? context.servedModel()) != nil
    if context.engine.peers.contains(where: { $0.isNeeded && !$0.isUp }) { isReady = false }
    object["ready"] = .boolean(isReady)
    object["images"] = .boolean((try? context.servedModel())?.images != nil)
    object["draining"] = .boolean(context.engine.state == .draining)
    object["running"] = .integer(load.runningRequestCount)
    object["waiting"] = .integer(load.waitingRequestCount)
    object["cache"] = .number(load.cacheUsage)
    object["missing"] = .array(
      context.engine.peers.filter { !$0.isUp }.map { .string($0.id) })
    if let facts = context.engine.model {
      object["facts"] = [
        "context": .integer(facts.contextLength), "vocabulary": .integer(facts.vocabularySize),
        "ends": ClusterRequestCodec.ids(facts.endOfSequenceIDs),
        "cache": .integer(facts.cacheCapacityTokens), "block": .integer(facts.blockSize),
        "bytes": .integer(facts.weightByteCount), "fingerprint": .string(facts.fingerprint),
      ]
    }
    for (key, value) in context.settings.clusterStatus?() ?? [] { object[key] = value }
    return .object(object)
  }

  /// The facts of a node's status.
  static func facts(_ json: JSONValue?) -> ModelFacts? {
    guard let json, let context = json["context"]?.integer,
      let vocabulary = json["vocabulary"]?.integer,
      let ends = ClusterRequestCodec.ids(json["ends"]),
      let cache = json["cache"]?.integer, let block = json["block"]?.integer,
      let bytes = json["bytes"]?.integer, let fingerprint = json["fingerprint"]?.string
    else { return nil }
    return ModelFacts(
      contextLength: context, vocabularySize: vocabulary, endOfSequenceIDs: ends,
      cacheCapacityTokens: cache, blockSize: block, weightByteCount: bytes,
      fingerprint: fingerprint)
  }

  private func generate(_ exchange: HTTPExchange, _ context: APIContext) async {
    let mailbox = EventMailbox()
    let request: GenerationRequest
    do {
      let model = try context.servedModel()
      let json = try JSONValue(parsing: exchange.request.body)
      let read = try ClusterRequestCodec.request(json, reader: model.images) { source in
        try context.constraints.compile(
          source, key: "cluster \(source)", path: "constraint", model: model)
      }
      guard let read else {
        return exchange.respond(Self.answer(400, ["error": "not a request of this release"]))
      }
      request = read
      try context.engine.submit(request) { mailbox.put($0, request: 0) }
    } catch {
      let failure: GenerationFailure =
        switch error {
        case let failure as GenerationFailure: failure
        case APIError.engine(let failure): failure
        case APIError.loading: .loading
        default: .engineStopped
        }
      return exchange.respond(Self.answer(503, ClusterEventCodec.json(failure)))
    }
    exchange.begin(
      status: 200, headers: [HTTPField("Content-Type", "application/x-ndjson")], keepAlive: false)
    var openChoices = request.choiceCount
    while openChoices > 0 {
      let items = await mailbox.take()
      guard !mailbox.isClosed, !mailbox.hasOverflowed, !exchange.isGone else { break }
      var bytes: [UInt8] = []
      for item in items {
        bytes += ClusterEventCodec.line(item.event)
        if case .finished = item.event { openChoices -= 1 }
      }
      guard await exchange.write(bytes) else { break }
    }
    if openChoices > 0 { context.engine.cancel(request.id) }
    exchange.end()
  }
}
