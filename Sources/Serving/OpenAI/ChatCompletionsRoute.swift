import Inference
import JSONScanning

/// `POST /v1/chat/completions`.
enum ChatCompletionsRoute {
  static func handle(_ exchange: HTTPExchange, _ context: APIContext) async throws(APIError)
    -> RequestSummary
  {
    let model = try context.servedModel()
    let request = try ChatCompletionsRequest(
      try context.fields(exchange, .chatCompletions), model: model, context: context)
    let header = ChatHeader(request, model: model, context: context)
    let prepared = try await request.chat.prepared(
      id: Identifiers.make("chat-"), model: model, context: context)
    let run = try context.run(prepared, model)
    return request.chat.options.streams
      ? await stream(run, header, exchange)
      : try await answer(run, header, exchange, prompt: prepared.requests[0].prompt)
  }

  private static func answer(
    _ run: consuming GenerationRun, _ header: ChatHeader, _ exchange: HTTPExchange, prompt: [Int]
  ) async throws(APIError) -> RequestSummary {
    var answer = ChatCompletionsAnswer(header: header)
    while let outputs = await run.next() {
      if let failure = answer.absorb(outputs) {
        run.cancel()
        throw .engine(failure)
      }
    }
    let summary = run.summary
    exchange.respond(
      HTTPResponse(
        contentType: "application/json",
        body: answer.json(usage: run.usage, reports: run.reports, prompt: prompt).bytes))
    run.cancel()
    return summary
  }

  private static func stream(
    _ run: consuming GenerationRun, _ header: ChatHeader, _ exchange: HTTPExchange
  ) async -> RequestSummary {
    var stream = ChatCompletionsStream(header: header)
    exchange.begin(status: 200, headers: ServerSentEvents.headers, keepAlive: true)
    var failure: GenerationFailure?
    while failure == nil, let outputs = await run.next() {
      let frames = stream.frames(outputs, usage: run.usage)
      failure = frames.failure
      if !frames.bytes.isEmpty { await exchange.write(frames.bytes) }
    }
    if let failure {
      await exchange.write(ServerSentEvents.data(APIError.engine(failure).json))
    } else if header.chat.options.includesUsage {
      await exchange.write(stream.usageFrame(run.usage))
    }
    await exchange.write(ServerSentEvents.done)
    exchange.end()
    let summary = run.summary
    run.cancel()
    return summary
  }
}

/// What a generating route tells the log.
struct RequestSummary: Sendable {
  var usage = TokenUsage()
  var timeToFirstToken: Double?
  var finish: String?
}

extension GenerationRun {
  /// What the log tells of this run.
  var summary: RequestSummary {
    RequestSummary(usage: usage, timeToFirstToken: firstTokenSeconds, finish: lastFinish)
  }
}
