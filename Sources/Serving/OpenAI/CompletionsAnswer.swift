import Inference
import JSONScanning
import OutputParsing
import Sampling

/// Writes the answers of `POST /v1/completions`, whole or in chunks.
struct CompletionsWriter {
  let id: String
  private let created = WallClock.seconds
  private let request: CompletionsRequest
  private let requests: [GenerationRequest]
  private let logprobs: LogprobWriter
  private let fingerprint: String
  private let text: any ModelText
  private var choices: [Choice]

  /// One choice: what has come of it, and, in a stream, what has not been sent yet.
  private struct Choice {
    var text = ""
    var logprobs = LogprobColumns()
    var tokens: [JSONValue] = []
    var outcome: ChoiceOutcome?
  }

  init(
    _ request: CompletionsRequest, prepared: PreparedGeneration, model: ServedModel,
    context: APIContext
  ) {
    self.request = request
    id = request.options.answerID.map { "cmpl-" + $0 } ?? Identifiers.make("cmpl-")
    requests = prepared.requests
    text = model.text
    fingerprint = context.fingerprint(model)
    logprobs = LogprobWriter(
      text: model.text, namesByID: request.options.namesTokensByID,
      alternativeCount: request.options.writtenAlternativeCount)
    choices = Array(
      repeating: Choice(), count: prepared.requests.count * request.options.choiceCount)
  }

  /// Takes in what the run produced; the failure that ended a choice, if one did.
  mutating func absorb(_ output: RunOutput) -> GenerationFailure? {
    switch output {
    case .prompt(let index, let report): echo(index, report)
    case .token(let choice, let token, let events):
      if let values = token.logprobs, request.options.logprobCount != nil {
        choices[choice].logprobs.append(values, logprobs)
      }
      if request.options.returnsTokenIDs { choices[choice].tokens.append(.integer(token.id)) }
      add(events, to: choice)
    case .finished(let choice, let outcome, let events):
      add(events, to: choice)
      choices[choice].outcome = outcome
      return outcome.failure
    }
    return nil
  }

  private mutating func add(_ events: [OutputEvent], to choice: Int) {
    for event in events {
      if case .content(let text) = event { choices[choice].text += text }
    }
  }

  /// Puts the prompt before the answers, where that is asked for.
  private mutating func echo(_ index: Int, _ report: PromptReport) {
    guard request.echoes else { return }
    let prompt = requests[index].prompt
    for choice in index * request.options.choiceCount..<(index + 1) * request.options.choiceCount {
      choices[choice].text +=
        request.prompts[index].text
        ?? text.text(of: prompt, skipsSpecial: request.options.skipsSpecialTokens)
      guard request.options.logprobCount != nil, let positions = report.logprobs else { continue }
      for (token, position) in zip(prompt, positions) {
        if let position {
          choices[choice].logprobs.append(position, logprobs)
        } else {
          choices[choice].logprobs.appendFirst(token, logprobs)
        }
      }
    }
  }

  private func choice(
    _ index: Int, _ choice: Choice, promptLogprobs: JSONValue?
  ) -> JSONValue {
    let returnsIDs = request.options.returnsTokenIDs
    let prompt = requests[index / request.options.choiceCount].prompt
    return .object(
      JSONObject([
        ("index", .integer(index)), ("text", .string(choice.text)),
        ("logprobs", request.options.logprobCount == nil ? .null : choice.logprobs.json),
        ("finish_reason", .optional(choice.outcome?.finishReason)),
        ("stop_reason", choice.outcome?.stopReason ?? .null),
        ("prompt_logprobs", promptLogprobs),
        ("token_ids", returnsIDs ? .array(choice.tokens) : nil),
        ("prompt_token_ids", returnsIDs ? .array(prompt.map { .integer($0) }) : nil),
      ]))
  }

  private var base: JSONObject {
    JSONObject([
      ("id", .string(id)), ("object", "text_completion"), ("created", .integer(created)),
      ("model", .string(request.modelName)), ("system_fingerprint", .string(fingerprint)),
    ])
  }

  /// The whole answer.
  func json(usage: TokenUsage, reports: [PromptReport?]) -> JSONValue {
    let wantsPrompt = request.options.promptLogprobCount != nil && !request.echoes
    var body = base
    body["choices"] = .array(
      choices.enumerated().map { index, each in
        let report = reports[index / request.options.choiceCount]
        let positions = wantsPrompt ? report?.logprobs.map(logprobs.promptLogprobs) : nil
        return choice(index, each, promptLogprobs: positions)
      })
    body["usage"] = usage.json
    return .object(body)
  }

  /// The chunks for what has come since the last call.
  mutating func frames(usage: TokenUsage) -> [UInt8] {
    var bytes: [UInt8] = []
    for index in choices.indices {
      let pending = choices[index]
      guard !pending.text.isEmpty || pending.outcome != nil else { continue }
      var body = base
      body["choices"] = [choice(index, pending, promptLogprobs: nil)]
      if request.options.continuousUsage { body["usage"] = usage.json }
      bytes += ServerSentEvents.data(.object(body))
      choices[index] = Choice()
      choices[index].logprobs.offset = pending.logprobs.offset
    }
    return bytes
  }

  /// The last chunk of a stream that was asked for its usage.
  func usageFrame(_ usage: TokenUsage) -> [UInt8] {
    var body = base
    body["choices"] = []
    body["usage"] = usage.json
    return ServerSentEvents.data(.object(body))
  }
}

/// The columns of the `logprobs` object of completions.
struct LogprobColumns {
  private var tokens: [JSONValue] = []
  private var logprobs: [JSONValue] = []
  private var tops: [JSONValue] = []
  private var offsets: [JSONValue] = []
  /// Where the next token's text begins, in characters from the beginning of the text.
  var offset = 0

  /// A token that nothing stands before: it has no logprob.
  mutating func appendFirst(_ token: Int, _ writer: LogprobWriter) {
    append(name: writer.name(token), text: writer.text.text(of: token), logprob: .null, top: .null)
  }

  mutating func append(_ values: TokenLogprobs, _ writer: LogprobWriter) {
    var top = JSONObject([
      (writer.name(values.chosen.token), LogprobWriter.finite(values.chosen.logprob))
    ])
    let count = writer.alternativeCount < 0 ? values.top.count : writer.alternativeCount
    for entry in values.top.prefix(count) where top[writer.name(entry.token)] == nil {
      top[writer.name(entry.token)] = LogprobWriter.finite(entry.logprob)
    }
    append(
      name: writer.name(values.chosen.token), text: writer.text.text(of: values.chosen.token),
      logprob: LogprobWriter.finite(values.chosen.logprob), top: .object(top))
  }

  private mutating func append(name: String, text: String, logprob: JSONValue, top: JSONValue) {
    tokens.append(.string(name))
    logprobs.append(logprob)
    tops.append(top)
    offsets.append(.integer(offset))
    offset += text.unicodeScalars.count
  }

  var json: JSONValue {
    [
      "tokens": .array(tokens), "token_logprobs": .array(logprobs), "top_logprobs": .array(tops),
      "text_offset": .array(offsets),
    ]
  }
}
