import ConstrainedDecoding
import Inference
import JSONScanning
import Sampling
import Serving
import Synchronization

/// An engine that says what its script says: token by token from a thread of its own, logprobs by
/// rule. Prompts and answers are bytes; ids from 256 on are special.
final class ScriptedEngine: GenerationEngine {
  /// What one choice answers: tokens, and how it ends if not by its script's end.
  typealias Script = @Sendable (GenerationRequest, Int) -> [Int]

  private let script: Script
  private let pause: Duration
  private let status = Mutex(Status())

  private struct Status {
    var state = EngineState.ready
    var cancelled: Set<String> = []
    var cancelledChoices: Set<String> = []
    var requests: [GenerationRequest] = []
    var running = 0
    var refusal: GenerationFailure?
  }

  static let endOfSequence = 256
  static let thinkOpen = 257
  static let thinkClose = 258
  static let vocabularySize = 270
  /// In the place of a token: a peer is lost.
  static let failure = -1
  let contextLength: Int

  init(contextLength: Int = 4096, pause: Duration = .zero, script: @escaping Script) {
    self.contextLength = contextLength
    self.pause = pause
    self.script = script
  }

  /// Answers every choice with the same text.
  convenience init(_ text: String, contextLength: Int = 4096, pause: Duration = .zero) {
    let tokens = ByteText.tokens(text)
    self.init(contextLength: contextLength, pause: pause) { _, _ in tokens }
  }

  var model: ModelFacts? {
    guard case .loading = state else {
      return ModelFacts(
        contextLength: contextLength, vocabularySize: Self.vocabularySize,
        endOfSequenceIDs: [Self.endOfSequence], cacheCapacityTokens: 1 << 20, blockSize: 32,
        weightByteCount: 1 << 20, fingerprint: "test")
    }
    return nil
  }

  var state: EngineState {
    get { status.withLock { $0.state } }
    set { status.withLock { $0.state = newValue } }
  }

  var load: EngineLoad {
    var load = EngineLoad()
    load.runningRequestCount = status.withLock { $0.running }
    return load
  }

  var cancelled: Set<String> { status.withLock { $0.cancelled } }
  var cancelledChoices: Set<String> { status.withLock { $0.cancelledChoices } }
  var requests: [GenerationRequest] { status.withLock { $0.requests } }

  func refuse(with failure: GenerationFailure) {
    status.withLock { $0.refusal = failure }
  }

  func submit(
    _ request: GenerationRequest, onEvent: @escaping @Sendable (GenerationEvent) -> Void
  ) throws(GenerationFailure) {
    if let refusal = status.withLock({ $0.refusal }) { throw refusal }
    status.withLock { status in
      status.requests.append(request)
      status.running += 1
    }
    Task { [self] in
      await run(request, onEvent)
      status.withLock { $0.running -= 1 }
    }
  }

  func cancel(_ id: String) {
    _ = status.withLock { $0.cancelled.insert(id) }
  }

  func cancel(_ id: String, choice: Int) {
    _ = status.withLock { $0.cancelledChoices.insert("\(id)/\(choice)") }
  }

  func drain() {
    state = .draining
  }

  private func logprobs(_ token: Int, _ count: Int?) -> TokenLogprobs? {
    guard let count else { return nil }
    let top = (0..<max(0, count)).map { TokenLogprob(token: 97 + $0, logprob: -1 - Float($0)) }
    return TokenLogprobs(
      chosen: TokenLogprob(token: token, logprob: -Float(token) / 100), rank: 1, top: top)
  }

  private func run(
    _ request: GenerationRequest, _ onEvent: @Sendable (GenerationEvent) -> Void
  ) async {
    var report = PromptReport(cachedTokenCount: 0)
    if let count = request.promptLogprobCount {
      report.logprobs = request.prompt.enumerated().map { $0 == 0 ? nil : logprobs($1, count) }
    }
    onEvent(.promptProcessed(report))
    let scripts = (0..<request.choiceCount).map { script(request, $0) }
    var isOpen = Array(repeating: true, count: request.choiceCount)
    var counts = Array(repeating: 0, count: request.choiceCount)
    for step in 0... {
      if !isOpen.contains(true) { return }
      if pause > .zero { try? await Task.sleep(for: pause) }
      for choice in isOpen.indices where isOpen[choice] {
        let isCancelled = status.withLock {
          $0.cancelled.contains(request.id)
            || $0.cancelledChoices.contains("\(request.id)/\(choice)")
        }
        let reason: FinishReason?
        if isCancelled {
          reason = .aborted
        } else if step >= request.maximumTokens {
          reason = .length
        } else if step < scripts[choice].count && scripts[choice][step] == Self.failure {
          reason = .failed(.peerLost(name: "ffn"))
        } else {
          let ended = step >= scripts[choice].count
          let token = ended ? Self.endOfSequence : scripts[choice][step]
          counts[choice] += 1
          onEvent(
            .token(
              GeneratedToken(
                choice: choice, id: token, logprobs: logprobs(token, request.sampling.logprobs))))
          let stops = request.stopTokenIDs.contains(token)
          reason = ended ? .endOfSequence : stops ? .stopToken(token) : nil
        }
        if let reason {
          isOpen[choice] = false
          onEvent(
            .finished(
              FinishedChoice(
                choice: choice, reason: reason, generatedTokenCount: counts[choice])))
        }
      }
    }
  }
}

/// A tokenizer of bytes with a template that opens a think block when asked to.
struct ByteText: ModelText {
  var thinks = false
  /// Whether the template heeds `enable_thinking`; Step3's does not.
  var heedsWishes = true

  static func tokens(_ text: String) -> [Int] {
    var tokens: [Int] = []
    var rest = text[...]
    while !rest.isEmpty {
      if rest.hasPrefix("</think>") {
        tokens.append(ScriptedEngine.thinkClose)
        rest = rest.dropFirst("</think>".count)
      } else {
        tokens += rest.prefix(1).utf8.map { Int($0) }
        rest = rest.dropFirst()
      }
    }
    return tokens
  }

  func encode(_ text: String, addsSpecialTokens: Bool) throws(APIError) -> [Int] {
    Self.tokens(text)
  }

  func bytes(of token: Int) -> [UInt8] { Self.bytes(of: token) }

  static func bytes(of token: Int) -> [UInt8] {
    switch token {
    case 0..<256: [UInt8(token)]
    case ScriptedEngine.endOfSequence: Array("<|end|>".utf8)
    case ScriptedEngine.thinkOpen: Array("<think>".utf8)
    case ScriptedEngine.thinkClose: Array("</think>".utf8)
    default: []
    }
  }

  func isSpecial(_ token: Int) -> Bool { token >= 256 }

  func render(_ input: ChatTemplateInput) throws(APIError) -> String {
    var text = ""
    if let tools = input.tools { text += JSONValue.array(tools).text() + "\n" }
    for message in input.messages { text += message.text() + "\n" }
    let isOff = heedsWishes && input.variables["enable_thinking"] == .boolean(false)
    if input.addsGenerationPrompt {
      text += thinks && !isOff ? "assistant:<think>\n" : "assistant:"
    }
    return text
  }

  let vocabulary = TokenVocabulary(
    tokenBytes: (0..<ScriptedEngine.vocabularySize).map { ByteText.bytes(of: $0) },
    specialIDs: Set(256..<ScriptedEngine.vocabularySize), endIDs: [ScriptedEngine.endOfSequence])

  var information: JSONValue { ["tokenizer_class": "ByteText"] }
}

/// An API server over a scripted engine, and a client for it.
struct TestAPI {
  let server: HTTPServer
  let api: APIServer
  let engine: ScriptedEngine

  init(
    _ engine: ScriptedEngine, thinks: Bool = false, heedsWishes: Bool = true,
    change: (inout APISettings) -> Void = { _ in },
    options change2: (inout HTTPServerOptions) -> Void = { _ in }
  ) throws {
    var settings = APISettings()
    change(&settings)
    var options = HTTPServerOptions()
    options.port = 0
    change2(&options)
    self.engine = engine
    api = APIServer(engine: engine, settings: settings)
    api.install(ByteText(thinks: thinks, heedsWishes: heedsWishes))
    server = try HTTPServer(options: options, handler: api)
  }

  /// A server over another engine, which passes on what scripted ones say.
  init(over engine: any GenerationEngine, scripted: ScriptedEngine) throws {
    var options = HTTPServerOptions()
    options.port = 0
    self.engine = scripted
    api = APIServer(engine: engine, settings: APISettings())
    api.install(ByteText())
    server = try HTTPServer(options: options, handler: api)
  }

  /// A whole answer, its chunks put together.
  struct Answer {
    var status: Int
    var headers: [String: String]
    var body: String

    var json: JSONValue { (try? JSONValue(parsing: body)) ?? .null }

    /// The data of the stream's events.
    var events: [String] {
      body.split(separator: "\n\n").flatMap { $0.split(separator: "\n") }
        .filter { $0.hasPrefix("data: ") }.map { String($0.dropFirst(6)) }
    }

    var chunks: [JSONValue] { events.compactMap { try? JSONValue(parsing: $0) } }
  }

  func send(
    _ method: String, _ path: String, _ body: String = "", headers: [String] = []
  ) async -> Answer {
    await Self.send(port: server.port, method, path, body, headers)
  }

  /// Posts to any server.
  static func post(port: Int, _ path: String, _ json: JSONValue) async -> Answer {
    await send(port: port, "POST", path, json.text(.compact), [])
  }

  private static func send(
    port: Int, _ method: String, _ path: String, _ body: String, _ headers: [String]
  ) async -> Answer {
    let client = RawClient(port: port)
    var head = "\(method) \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    for header in headers { head += header + "\r\n" }
    if !body.isEmpty || method == "POST" {
      head += "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
    }
    client.send(head + "\r\n" + body)
    return parse(await client.receiveAll())
  }

  func post(_ path: String, _ json: JSONValue, headers: [String] = []) async -> Answer {
    await send("POST", path, json.text(.compact), headers: headers)
  }

  private static func parse(_ text: String) -> Answer {
    let bytes = Array(text.utf8)
    var end = 0
    while end + 3 < bytes.count && Array(bytes[end..<end + 4]) != [13, 10, 13, 10] { end += 1 }
    let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      headers[parts[0].lowercased()] =
        parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
    }
    var body = Array(bytes[min(end + 4, bytes.count)...])
    if headers["transfer-encoding"] == "chunked" { body = joinChunks(body) }
    let status = lines.first.flatMap { Int($0.split(separator: " ").dropFirst().first ?? "") } ?? 0
    return Answer(status: status, headers: headers, body: String(decoding: body, as: UTF8.self))
  }

  private static func joinChunks(_ bytes: [UInt8]) -> [UInt8] {
    var joined: [UInt8] = []
    var index = 0
    while index < bytes.count {
      guard let end = bytes[index...].firstIndex(of: 13),
        let size = Int(String(decoding: bytes[index..<end], as: UTF8.self), radix: 16), size > 0
      else { break }
      joined += bytes[(end + 2)..<min(bytes.count, end + 2 + size)]
      index = end + 2 + size + 2
    }
    return joined
  }
}

extension JSONValue {
  /// The element `index` of an array.
  subscript(index: Int) -> JSONValue? {
    guard let array, array.indices.contains(index) else { return nil }
    return array[index]
  }
}
