/// The routes of the API.
enum Route: String, CaseIterable, Sendable {
  case chatCompletions = "/v1/chat/completions"
  case completions = "/v1/completions"
  case models = "/v1/models"
  case model = "/v1/models/{model}"
  case messages = "/v1/messages"
  case countTokens = "/v1/messages/count_tokens"
  case responses = "/v1/responses"
  case response = "/v1/responses/{response_id}"
  case cancelResponse = "/v1/responses/{response_id}/cancel"
  case tokenize = "/tokenize"
  case detokenize = "/detokenize"
  case tokenizerInfo = "/tokenizer_info"
  case health = "/health"
  case ready = "/ready"
  case version = "/version"
  case metrics = "/metrics"
  case ping = "/ping"
  case load = "/load"
  case openAPI = "/openapi.json"
  case docs = "/docs"
  case page = "/"
  case icon = "/favicon.ico"

  /// The methods it takes; HEAD goes with GET and OPTIONS with all.
  var methods: [String] {
    switch self {
    case .chatCompletions, .completions, .messages, .countTokens, .responses, .cancelResponse,
      .tokenize, .detokenize:
      ["POST"]
    case .ping: ["GET", "POST"]
    case .response: ["GET", "DELETE"]
    default: ["GET"]
    }
  }

  /// Whether it is open without a key.
  var isOpen: Bool {
    switch self {
    case .health, .ready, .version, .ping, .page, .icon, .openAPI, .docs: true
    default: false
    }
  }

  /// Whether requests to it are left out of the log.
  var isQuiet: Bool {
    switch self {
    case .health, .ready, .version, .ping, .metrics, .load, .icon: true
    default: false
    }
  }

  /// Whether its errors have Anthropic's shape.
  var isAnthropic: Bool { self == .messages || self == .countTokens }

  /// The route a path leads to, and what stands in the place of its parameter.
  static func match(_ path: String) -> (route: Route, parameter: String)? {
    var path = path
    while path.count > 1 && path.hasSuffix("/") { path.removeLast() }
    if let route = Route(rawValue: path), !path.contains("{") { return (route, "") }
    switch path {
    case "/chat/completions": return (.chatCompletions, "")
    case "/completions": return (.completions, "")
    case "/models": return (.models, "")
    case "/v1/tokenize": return (.tokenize, "")
    case "/v1/detokenize": return (.detokenize, "")
    case "/v1/tokenizer_info": return (.tokenizerInfo, "")
    case "/v1/health": return (.health, "")
    default: break
    }
    for prefix in ["/v1/models/", "/models/"] where path.hasPrefix(prefix) {
      return (.model, String(path.dropFirst(prefix.count)))
    }
    if path.hasPrefix("/v1/responses/") {
      let rest = path.dropFirst("/v1/responses/".count)
      if rest.hasSuffix("/cancel"), !rest.dropLast(7).contains("/") {
        return (.cancelResponse, String(rest.dropLast(7)))
      }
      if !rest.contains("/") { return (.response, String(rest)) }
    }
    return nil
  }
}
