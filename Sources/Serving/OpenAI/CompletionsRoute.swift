import Inference
import JSONScanning

/// `POST /v1/completions`.
enum CompletionsRoute {
  static func handle(_ exchange: HTTPExchange, _ context: APIContext) async throws(APIError)
    -> RequestSummary
  {
    let model = try context.servedModel()
    let request = try CompletionsRequest(
      try context.fields(exchange, .completions), model: model, context: context)
    let prepared = try await request.prepared(
      id: Identifiers.make("cmpl-"), model: model, compiler: context.constraints)
    let writer = CompletionsWriter(request, prepared: prepared, model: model, context: context)
    let run = try context.run(prepared, model)
    return request.options.streams
      ? await stream(run, writer, exchange, includesUsage: request.options.includesUsage)
      : try await answer(run, writer, exchange)
  }

  private static func answer(
    _ run: consuming GenerationRun, _ writer: CompletionsWriter, _ exchange: HTTPExchange
  ) async throws(APIError) -> RequestSummary {
    var writer = writer
    while let outputs = await run.next() {
      for output in outputs {
        if let failure = writer.absorb(output) {
          run.cancel()
          throw .engine(failure)
        }
      }
    }
    let summary = run.summary
    exchange.respond(
      HTTPResponse(
        contentType: "application/json",
        body: writer.json(usage: run.usage, reports: run.reports).bytes))
    run.cancel()
    return summary
  }

  private static func stream(
    _ run: consuming GenerationRun, _ writer: CompletionsWriter, _ exchange: HTTPExchange,
    includesUsage: Bool
  ) async -> RequestSummary {
    var writer = writer
    exchange.begin(status: 200, headers: ServerSentEvents.headers, keepAlive: true)
    var failure: GenerationFailure?
    while failure == nil, let outputs = await run.next() {
      for output in outputs where failure == nil {
        failure = writer.absorb(output)
        let bytes = failure == nil ? writer.frames(usage: run.usage) : []
        if !bytes.isEmpty { await exchange.write(bytes) }
      }
    }
    if let failure {
      await exchange.write(ServerSentEvents.data(APIError.engine(failure).json))
    } else if includesUsage {
      await exchange.write(writer.usageFrame(run.usage))
    }
    await exchange.write(ServerSentEvents.done)
    exchange.end()
    let summary = run.summary
    run.cancel()
    return summary
  }
}
