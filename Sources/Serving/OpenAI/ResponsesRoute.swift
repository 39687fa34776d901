import Inference
import JSONScanning

/// `/v1/responses` and what is stored behind it.
enum ResponsesRoute {
  static func handle(_ exchange: HTTPExchange, _ context: APIContext) async throws(APIError)
    -> RequestSummary
  {
    let model = try context.servedModel()
    let request = try ResponsesRequest(try context.fields(exchange, .responses), context: context)
    let writer = ResponsesWriter(request)
    let prepared = try await request.chat.prepared(
      id: writer.id, model: model, context: context)
    let run = try context.run(prepared, model)
    context.responses.begin(writer.id)
    defer { context.responses.end(writer.id) }
    return request.chat.options.streams
      ? await stream(run, writer, exchange, request, context)
      : try await answer(run, writer, exchange, request, context)
  }

  private static func answer(
    _ run: consuming GenerationRun, _ writer: ResponsesWriter, _ exchange: HTTPExchange,
    _ request: ResponsesRequest, _ context: APIContext
  ) async throws(APIError) -> RequestSummary {
    var writer = writer
    while let outputs = await run.next() {
      if let failure = writer.absorb(outputs).failure {
        run.cancel()
        throw .engine(failure)
      }
    }
    let summary = run.summary
    let json = writer.json(usage: run.usage)
    run.cancel()
    store(json, writer, request, context)
    exchange.respond(HTTPResponse(contentType: "application/json", body: json.bytes))
    return summary
  }

  private static func stream(
    _ run: consuming GenerationRun, _ writer: ResponsesWriter, _ exchange: HTTPExchange,
    _ request: ResponsesRequest, _ context: APIContext
  ) async -> RequestSummary {
    var writer = writer
    exchange.begin(status: 200, headers: ServerSentEvents.headers, keepAlive: true)
    await exchange.write(writer.startFrames())
    var failure: GenerationFailure?
    while failure == nil, let outputs = await run.next() {
      let absorbed = writer.absorb(outputs)
      failure = absorbed.failure
      if !absorbed.bytes.isEmpty { await exchange.write(absorbed.bytes) }
    }
    await exchange.write(writer.endFrames(usage: run.usage, failure: failure))
    exchange.end()
    let summary = run.summary
    store(writer.json(usage: run.usage, failure: failure), writer, request, context)
    run.cancel()
    return summary
  }

  private static func store(
    _ json: JSONValue, _ writer: ResponsesWriter, _ request: ResponsesRequest,
    _ context: APIContext
  ) {
    guard request.stores else { return }
    context.responses.store(
      ResponseStore.Entry(
        response: json, conversation: request.conversation + writer.answerMessages),
      id: writer.id)
  }

  /// `GET` and `DELETE /v1/responses/{id}`.
  static func stored(
    _ id: String, _ exchange: HTTPExchange, _ context: APIContext
  ) throws(APIError) -> RequestSummary {
    guard let entry = context.responses.entry(id) else {
      throw .notStored(kind: "response", id: String(id.prefix(100)), path: nil)
    }
    var json = entry.response
    if exchange.request.method == "DELETE" {
      _ = context.responses.remove(id)
      json = ["id": .string(id), "object": "response", "deleted": true]
    }
    exchange.respond(HTTPResponse(contentType: "application/json", body: json.bytes))
    return RequestSummary()
  }

  /// `POST /v1/responses/{id}/cancel`: ends a response that is still being made.
  static func cancel(
    _ id: String, _ exchange: HTTPExchange, _ context: APIContext
  ) throws(APIError) -> RequestSummary {
    if context.responses.isRunning(id) {
      context.engine.cancel(id)
      exchange.respond(
        HTTPResponse(
          contentType: "application/json",
          body: (["id": .string(id), "object": "response", "status": "cancelled"] as JSONValue)
            .bytes))
      return RequestSummary()
    }
    guard context.responses.entry(id) != nil else {
      throw .notStored(kind: "response", id: String(id.prefix(100)), path: nil)
    }
    throw .badField(path: "response_id", reason: "names a response that is already complete.")
  }
}
