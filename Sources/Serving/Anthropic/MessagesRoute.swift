import Inference
import JSONScanning

/// `POST /v1/messages` and `POST /v1/messages/count_tokens`.
enum MessagesRoute {
  static func handle(_ exchange: HTTPExchange, _ context: APIContext) async throws(APIError)
    -> RequestSummary
  {
    let model = try context.servedModel()
    let request = try MessagesRequest(
      try context.fields(exchange, .messages), needsMaximum: true, context: context)
    let prepared = try await request.chat.prepared(
      id: Identifiers.make("msg-"), model: model, context: context)
    let run = try context.run(prepared, model)
    let writer = MessagesWriter(request)
    return request.stream
      ? await stream(run, writer, exchange, promptTokenCount: prepared.promptTokenCount)
      : try await answer(run, writer, exchange)
  }

  /// How many tokens the same request would use as input.
  static func count(
    _ exchange: HTTPExchange, _ context: APIContext
  ) async throws(APIError) -> RequestSummary {
    let model = try context.servedModel()
    let request = try MessagesRequest(
      try context.fields(exchange, .countTokens), needsMaximum: false, context: context)
    var input = request.chat.input
    let tools = request.chat.offeredTools
    input.tools = tools.isEmpty ? nil : tools.map(\.json)
    let tokens = try await input.prompt(
      model: model, context: context, addsSpecialTokens: false
    ).tokens
    exchange.respond(
      HTTPResponse(
        contentType: "application/json",
        body: (["input_tokens": .integer(tokens.count)] as JSONValue).bytes))
    return RequestSummary()
  }

  private static func answer(
    _ run: consuming GenerationRun, _ writer: MessagesWriter, _ exchange: HTTPExchange
  ) async throws(APIError) -> RequestSummary {
    var writer = writer
    while let outputs = await run.next() {
      if let failure = writer.absorb(outputs).failure {
        run.cancel()
        throw .engine(failure)
      }
    }
    let summary = run.summary
    exchange.respond(
      HTTPResponse(
        contentType: "application/json", body: writer.json(usage: run.usage).bytes,
        headers: [HTTPField("request-id", exchange.request.id)]))
    run.cancel()
    return summary
  }

  private static func stream(
    _ run: consuming GenerationRun, _ writer: MessagesWriter, _ exchange: HTTPExchange,
    promptTokenCount: Int
  ) async -> RequestSummary {
    var writer = writer
    exchange.begin(
      status: 200,
      headers: ServerSentEvents.headers + [HTTPField("request-id", exchange.request.id)],
      keepAlive: true)
    await exchange.write(writer.startFrames(promptTokenCount: promptTokenCount))
    var failure: GenerationFailure?
    while failure == nil, let outputs = await run.next() {
      let absorbed = writer.absorb(outputs)
      failure = absorbed.failure
      if !absorbed.bytes.isEmpty { await exchange.write(absorbed.bytes) }
    }
    if let failure {
      let json = APIError.engine(failure).anthropicJSON(requestID: exchange.request.id)
      await exchange.write(ServerSentEvents.event("error", json))
    } else {
      await exchange.write(writer.endFrames(usage: run.usage))
    }
    exchange.end()
    let summary = run.summary
    run.cancel()
    return summary
  }
}
