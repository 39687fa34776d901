package import Inference
import JSONScanning

/// The API over one engine: routing, keys, CORS, errors and the log around the routes.
package final class APIServer: HTTPHandler {
  private let context: APIContext
  private let log: @Sendable (RequestRecord) -> Void
  /// For attention nodes of a cluster.
  private let clusterRoutes: ClusterRoutes?

  /// A server for `engine`; `log` is told of every request that is over, `warn` of what whoever
  /// runs the server should know, both from any thread.
  package init(
    engine: any GenerationEngine, settings: APISettings,
    log: @escaping @Sendable (RequestRecord) -> Void = { _ in },
    warn: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    context = APIContext(engine: engine, settings: settings, warn: warn)
    clusterRoutes = settings.clusterKey.map(ClusterRoutes.init)
    self.log = log
  }

  /// Gives the server the tokenizer and template, as soon as they are read, and what reads images
  /// for a model that sees.
  package func install(_ text: any ModelText, images: ImageReader? = nil) {
    context.install(text, images: images)
  }

  // MARK: On the event loop's thread

  /// Answers what needs no generation: health, errors, pages.
  package func immediate(_ request: HTTPRequest) -> HTTPResponse? {
    if clusterRoutes != nil && request.path.hasPrefix("/cluster/") { return nil }
    let route = Route.match(request.path)?.route
    guard let answer = immediateAnswer(request, route) else { return nil }
    note(request, route, status: answer.status)
    return answer
  }

  /// Counts and logs what was answered on the loop's thread. The log may block, so it is not told
  /// from here.
  private func note(_ request: HTTPRequest, _ route: Route?, status: Int) {
    context.metrics.didAnswer(
      handler: route?.rawValue ?? "none", method: request.method, status: status, seconds: 0)
    guard route?.isQuiet != true else { return }
    let record = RequestRecord(
      id: request.id, client: request.client, method: request.method, path: request.path,
      status: status, seconds: 0)
    Task { [log] in log(record) }
  }

  private func immediateAnswer(_ request: HTTPRequest, _ route: Route?) -> HTTPResponse? {
    guard let route else { return failure(.unknownPath(path: request.path), request) }
    if request.method == "OPTIONS" { return preflight(route) }
    let isHead = request.method == "HEAD" && route.methods.contains("GET")
    guard isHead || route.methods.contains(request.method) else {
      return failure(.wrongMethod(method: request.method, allowed: route.methods), request)
    }
    if needsKey(route) && !hasKey(request) { return failure(.unauthorized, request) }
    switch route {
    case .health where request.query.split(separator: "&").contains("generate=1"): return nil
    case .health: return HealthRoutes.health(context)
    case .ready: return HealthRoutes.ready(context)
    case .version: return HealthRoutes.version(context)
    case .ping: return HealthRoutes.ping(context)
    case .load: return HealthRoutes.load(context)
    case .metrics: return HealthRoutes.metrics(context)
    case .models: return ModelRoutes.list(context)
    case .openAPI: return PageRoutes.openAPI(context)
    case .docs: return PageRoutes.docs(context)
    case .page: return PageRoutes.page(context) ?? failure(.unknownPath(path: "/"), request)
    case .icon: return PageRoutes.icon()
    default: return nil
    }
  }

  /// The request's id, and what its origin may know.
  package func commonHeaders(_ request: HTTPRequest) -> [HTTPField] {
    var headers = [HTTPField("x-request-id", request.id)]
    if let origin = request.header("origin"), isAllowed(origin: origin) {
      headers += [
        HTTPField("Access-Control-Allow-Origin", origin), HTTPField("Vary", "Origin"),
        HTTPField("Access-Control-Expose-Headers", "x-request-id, retry-after"),
      ]
      if request.method == "OPTIONS" {
        headers += [
          HTTPField("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"),
          HTTPField("Access-Control-Allow-Headers", "*, Authorization"),
          HTTPField("Access-Control-Max-Age", "600"),
        ]
      }
    }
    return headers
  }

  /// The error object for bytes that are no acceptable request.
  package func refusal(
    status: Int, reason: String, method: String, target: String
  ) -> HTTPResponse {
    let request = HTTPRequest(
      method: method, path: String(target.prefix { $0 != "?" }), id: Identifiers.make("req_"))
    var error = APIError.transport(status: status, reason: reason)
    if status == 400 || status == 501, let route = Route.match(request.path)?.route,
      !(route.methods + ["HEAD", "OPTIONS"]).contains(method), !method.isEmpty
    {
      error = .wrongMethod(method: method, allowed: route.methods)
    }
    var answer = failure(error, request)
    answer.headers.append(HTTPField("x-request-id", request.id))
    note(request, Route.match(request.path)?.route, status: answer.status)
    return answer
  }

  // MARK: In a task of its own

  /// Runs the route, answers its errors, and tells the log.
  package func handle(_ exchange: HTTPExchange) async {
    let started = ContinuousClock.now
    let request = exchange.request
    if let clusterRoutes, request.path.hasPrefix("/cluster/") {
      return await clusterRoutes.handle(exchange, context)
    }
    guard let (route, parameter) = Route.match(request.path) else { return }
    var summary = RequestSummary()
    do throws(APIError) {
      summary = try await dispatch(route, parameter, exchange)
    } catch {
      exchange.respond(failure(error, request))
    }
    let seconds = (ContinuousClock.now - started).inSeconds
    let status = exchange.isGone ? 499 : exchange.status
    context.metrics.didAnswer(
      handler: route.rawValue, method: request.method, status: status, seconds: seconds)
    guard !route.isQuiet else { return }
    log(
      RequestRecord(
        id: request.id, client: request.client, method: request.method, path: request.path,
        status: status, seconds: seconds, promptTokenCount: summary.usage.prompt,
        cachedTokenCount: summary.usage.cached, generatedTokenCount: summary.usage.generated,
        timeToFirstToken: summary.timeToFirstToken, finish: summary.finish))
  }

  private func dispatch(
    _ route: Route, _ parameter: String, _ exchange: HTTPExchange
  ) async throws(APIError) -> RequestSummary {
    switch route {
    case .chatCompletions: return try await ChatCompletionsRoute.handle(exchange, context)
    case .completions: return try await CompletionsRoute.handle(exchange, context)
    case .messages: return try await MessagesRoute.handle(exchange, context)
    case .countTokens: return try await MessagesRoute.count(exchange, context)
    case .responses: return try await ResponsesRoute.handle(exchange, context)
    case .response: return try ResponsesRoute.stored(parameter, exchange, context)
    case .cancelResponse: return try ResponsesRoute.cancel(parameter, exchange, context)
    case .tokenize: return try await TokenizeRoutes.tokenize(exchange, context)
    case .detokenize: return try TokenizeRoutes.detokenize(exchange, context)
    case .tokenizerInfo: return try TokenizeRoutes.information(exchange, context)
    case .health: return try await HealthRoutes.generate(exchange, context)
    case .model:
      exchange.respond(try ModelRoutes.retrieve(parameter, context))
      return RequestSummary()
    default: throw .unknownPath(path: exchange.request.path)
    }
  }

  // MARK: Keys, origins, errors

  private func needsKey(_ route: Route) -> Bool {
    guard !context.settings.keys.isEmpty, !route.isOpen else { return false }
    return route != .metrics || context.settings.guardsMetrics
  }

  private func hasKey(_ request: HTTPRequest) -> Bool {
    var given = request.header("x-api-key").map { [$0] } ?? []
    if let authorization = request.header("authorization"),
      authorization.lowercased().hasPrefix("bearer ")
    {
      given.append(String(authorization.dropFirst(7)))
    }
    var isRight = false
    for key in given {
      for expected in context.settings.keys where Self.areEqual(key, expected) { isRight = true }
    }
    return isRight
  }

  /// Takes as long for a key that is wrong at its beginning as for one wrong at its end.
  private static func areEqual(_ left: String, _ right: String) -> Bool {
    let left = Array(left.utf8)
    let right = Array(right.utf8)
    var difference = UInt8(left.count == right.count ? 0 : 1)
    for index in left.indices { difference |= left[index] ^ right[index % max(1, right.count)] }
    return difference == 0 && !right.isEmpty
  }

  private func isAllowed(origin: String) -> Bool {
    let allowed = context.settings.allowedOrigins
    return allowed.contains("*") || allowed.contains(origin)
  }

  private func preflight(_ route: Route) -> HTTPResponse {
    let methods = route.methods + ["OPTIONS"]
    return HTTPResponse(
      status: 204, headers: [HTTPField("Allow", methods.joined(separator: ", "))])
  }

  private func failure(_ error: APIError, _ request: HTTPRequest) -> HTTPResponse {
    let isAnthropic =
      Route.match(request.path)?.route.isAnthropic ?? request.path.hasPrefix("/v1/messages")
    let json = isAnthropic ? error.anthropicJSON(requestID: request.id) : error.json
    var headers: [HTTPField] = []
    if let seconds = error.retryAfterSeconds {
      headers.append(HTTPField("Retry-After", "\(seconds)"))
    }
    if case .wrongMethod(_, let allowed) = error {
      headers.append(HTTPField("Allow", allowed.joined(separator: ", ")))
    }
    if error == .unauthorized { headers.append(HTTPField("WWW-Authenticate", "Bearer")) }
    return HTTPResponse(
      status: error.status, contentType: "application/json", body: json.bytes, headers: headers)
  }
}
