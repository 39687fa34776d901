package import ConstrainedDecoding
package import Inference
package import JSONScanning
import Sampling

// How a gateway hands a request to an attention node and hears what becomes of it. Token ids
// travel, no text: the gateway has tokenised the prompt and will decode the answer. Images travel
// as the files they were. Numbers are written so that they read back to the same bits.

/// A request as JSON.
package enum ClusterRequestCodec {
  /// Writes a request.
  package static func json(_ request: GenerationRequest) -> JSONValue {
    let sampling = request.sampling
    var object = JSONObject()
    object["id"] = .string(request.id)
    object["prompt"] = ids(request.prompt)
    object["resumed"] = .integer(request.resumedTokenCount)
    // As text: seeds use all 64 bits.
    object["seed"] = .string("\(request.seed)")
    object["choices"] = .integer(request.choiceCount)
    object["maximum"] = .integer(request.maximumTokens)
    object["stops"] = ids(request.stopTokenIDs)
    object["ignore_end"] = .boolean(request.ignoreEndOfSequence)
    object["prompt_logprobs"] = request.promptLogprobCount.map { .integer($0) }
    object["priority"] = .integer(request.priority)
    object["salt"] = request.cacheSalt.map { .string($0) }
    object["thinking_budget"] = request.thinkingTokenBudget.map { .integer($0) }
    object["think_end"] = ids(request.thinkEnd)
    object["temperature"] = .number(sampling.temperature)
    object["top_k"] = sampling.topK.map { .integer($0) }
    object["top_p"] = .number(sampling.topP)
    object["min_p"] = .number(sampling.minP)
    object["repetition"] = .number(sampling.repetitionPenalty)
    object["presence"] = .number(sampling.presencePenalty)
    object["frequency"] = .number(sampling.frequencyPenalty)
    object["bias"] = .array(
      sampling.logitBias.map { [.integer($0.token), .number($0.bias)] })
    object["allowed"] = sampling.allowedTokens.map(ids)
    object["bad_words"] = .array(sampling.badWords.map(ids))
    object["minimum"] = .integer(sampling.minTokens)
    object["logprobs"] = sampling.logprobs.map { .integer($0) }
    object["logprob_tokens"] = ids(sampling.logprobTokens)
    object["constraint"] = (request.constraint as? GrammarConstraint).map { json($0.source) }
    if !request.images.isEmpty { object["images"] = ClusterImageCodec.json(request.images) }
    return .object(object)
  }

  /// Reads a request; `reader` reads its images, `compile` makes its constraint. Nil for what is no
  /// such document.
  package static func request(
    _ json: JSONValue, reader: ImageReader? = nil,
    compile: (GrammarSource) throws -> GrammarConstraint
  ) throws -> GenerationRequest? {
    guard let id = json["id"]?.string, let prompt = ids(json["prompt"]), !prompt.isEmpty,
      let resumed = json["resumed"]?.integer, (0..<prompt.count).contains(resumed),
      let seed = json["seed"]?.string.flatMap({ UInt64($0) }),
      let choices = json["choices"]?.integer, (1...1024).contains(choices),
      let maximum = json["maximum"]?.integer, maximum >= 0,
      let stops = ids(json["stops"]), let ignoresEnd = json["ignore_end"]?.boolean,
      let priority = json["priority"]?.integer, let thinkEnd = ids(json["think_end"]),
      let sampling = try sampling(json)
    else { return nil }
    guard resumed == 0 || choices == 1 else { return nil }
    var request = GenerationRequest(
      id: id, prompt: prompt, sampling: sampling, seed: seed, choiceCount: choices,
      maximumTokens: maximum, stopTokenIDs: stops, ignoreEndOfSequence: ignoresEnd,
      promptLogprobCount: json["prompt_logprobs"]?.integer, priority: priority,
      cacheSalt: json["salt"]?.string, thinkingTokenBudget: json["thinking_budget"]?.integer,
      thinkEnd: thinkEnd)
    request.resumedTokenCount = resumed
    if let images = json["images"] {
      guard let placed = try ClusterImageCodec.images(images, in: prompt, reader) else {
        return nil
      }
      request.images = placed
    }
    if let constraint = json["constraint"] {
      guard let source = source(constraint) else { return nil }
      request.constraint = try compile(source)
    }
    return request
  }

  private static func sampling(_ json: JSONValue) throws -> SamplingParameters? {
    guard let temperature = json["temperature"]?.number, let topP = json["top_p"]?.number,
      let minP = json["min_p"]?.number, let repetition = json["repetition"]?.number,
      let presence = json["presence"]?.number, let frequency = json["frequency"]?.number,
      let minimum = json["minimum"]?.integer, let biases = json["bias"]?.array,
      let words = json["bad_words"]?.array
    else { return nil }
    var bias: [TokenBias] = []
    for entry in biases {
      guard let pair = entry.array, pair.count == 2, let token = pair[0].integer,
        let value = pair[1].number
      else { return nil }
      bias.append(TokenBias(token: token, bias: value))
    }
    let badWords = words.compactMap { ids($0) }
    guard badWords.count == words.count else { return nil }
    return try SamplingParameters(
      temperature: temperature, topK: json["top_k"]?.integer, topP: topP, minP: minP,
      repetitionPenalty: repetition, presencePenalty: presence, frequencyPenalty: frequency,
      logitBias: bias, allowedTokens: json["allowed"].flatMap { ids($0) }, badWords: badWords,
      minTokens: minimum, logprobs: json["logprobs"]?.integer,
      logprobTokens: ids(json["logprob_tokens"]) ?? [])
  }

  // MARK: Constraints

  private static func json(_ source: GrammarSource) -> JSONValue {
    switch source {
    case .jsonSchema(let schema): ["schema": schema]
    case .jsonObject: ["object": true]
    case .regex(let pattern): ["regex": .string(pattern)]
    case .choice(let texts): ["choice": .array(texts.map { .string($0) })]
    case .toolCalls(let tools, let allowsSeveral):
      [
        "several": .boolean(allowsSeveral),
        "tools": .array(
          tools.map { ["name": .string($0.name), "parameters": $0.parameters ?? .null] }),
      ]
    case .either(let first, let second): ["either": [json(first), json(second)]]
    }
  }

  private static func source(_ json: JSONValue) -> GrammarSource? {
    if let parts = json["either"]?.array, parts.count == 2 {
      guard let first = source(parts[0]), let second = source(parts[1]) else { return nil }
      return .either(first, second)
    }
    if let schema = json["schema"] { return .jsonSchema(schema) }
    if json["object"] != nil { return .jsonObject }
    if let pattern = json["regex"]?.string { return .regex(pattern) }
    if let texts = json["choice"]?.array { return .choice(texts.compactMap(\.string)) }
    guard let tools = json["tools"]?.array, let several = json["several"]?.boolean else {
      return nil
    }
    return .toolCalls(
      tools.compactMap { tool in
        guard let name = tool["name"]?.string else { return nil }
        let parameters = tool["parameters"]
        return ConstrainedTool(
          name: name, parameters: parameters?.isNull == true ? nil : parameters)
      }, allowsSeveral: several)
  }

  static func ids(_ tokens: [Int]) -> JSONValue { .array(tokens.map { .integer($0) }) }

  static func ids(_ json: JSONValue?) -> [Int]? {
    guard let array = json?.array else { return nil }
    let tokens = array.compactMap(\.integer)
    return tokens.count == array.count ? tokens : nil
  }
}

/// Events as one line of JSON each.
package enum ClusterEventCodec {
  /// Writes an event, with the line's end.
  package static func line(_ event: GenerationEvent) -> [UInt8] {
    Array((json(event).text(.compact) + "\n").utf8)
  }

  private static func json(_ event: GenerationEvent) -> JSONValue {
    switch event {
    case .promptProcessed(let report):
      var object = JSONObject()
      object["prompt"] = .integer(report.cachedTokenCount)
      object["queue"] = .number(report.queueSeconds)
      object["prefill"] = .number(report.prefillSeconds)
      object["logprobs"] = report.logprobs.map { list in
        .array(list.map { $0.map(json) ?? .null })
      }
      return .object(object)
    case .token(let token):
      var object = JSONObject()
      object["token"] = .integer(token.id)
      object["choice"] = .integer(token.choice)
      object["logprobs"] = token.logprobs.map(json)
      return .object(object)
    case .finished(let end):
      var object = JSONObject()
      object["finished"] = .string(name(end.reason))
      object["choice"] = .integer(end.choice)
      object["count"] = .integer(end.generatedTokenCount)
      object["preempted"] = .integer(end.preemptionCount)
      if case .stopToken(let id) = end.reason { object["stop"] = .integer(id) }
      if case .failed(let failure) = end.reason { object["failure"] = json(failure) }
      return .object(object)
    }
  }

  /// Reads an event; nil for what is none.
  package static func event(_ line: [UInt8]) -> GenerationEvent? {
    guard let json = try? JSONValue(parsing: line) else { return nil }
    if let id = json["token"]?.integer, let choice = json["choice"]?.integer {
      return .token(GeneratedToken(choice: choice, id: id, logprobs: logprobs(json["logprobs"])))
    }
    if let cached = json["prompt"]?.integer {
      return .promptProcessed(
        PromptReport(
          cachedTokenCount: cached, logprobs: json["logprobs"]?.array?.map(logprobs),
          queueSeconds: json["queue"]?.number ?? 0, prefillSeconds: json["prefill"]?.number ?? 0))
    }
    guard let name = json["finished"]?.string, let choice = json["choice"]?.integer,
      let count = json["count"]?.integer, let reason = reason(name, json)
    else { return nil }
    return .finished(
      FinishedChoice(
        choice: choice, reason: reason, generatedTokenCount: count,
        preemptionCount: json["preempted"]?.integer ?? 0))
  }

  private static func name(_ reason: FinishReason) -> String {
    switch reason {
    case .endOfSequence: "end"
    case .stopToken: "stop"
    case .constraintComplete: "constraint"
    case .length: "length"
    case .aborted: "aborted"
    case .failed: "failed"
    }
  }

  private static func reason(_ name: String, _ json: JSONValue) -> FinishReason? {
    switch name {
    case "end": .endOfSequence
    case "stop": json["stop"]?.integer.map { .stopToken($0) }
    case "constraint": .constraintComplete
    case "length": .length
    case "aborted": .aborted
    case "failed": .failed(failure(json["failure"]))
    default: nil
    }
  }

  // MARK: Failures

  /// A failure, as far as another process can do something about it.
  static func json(_ failure: GenerationFailure) -> JSONValue {
    switch failure {
    case .loading: ["kind": "loading"]
    case .draining: ["kind": "draining"]
    case .queueFull(let limit, let seconds):
      ["kind": "queue", "limit": .integer(limit), "seconds": .integer(seconds)]
    case .queuedTokensFull(let limit, let seconds):
      ["kind": "queued_tokens", "limit": .integer(limit), "seconds": .integer(seconds)]
    case .emptyPrompt: ["kind": "empty"]
    case .priorityUnsupported(let priority):
      ["kind": "priority", "priority": .integer(priority)]
    case .contextTooLong(let prompt, let maximum, let context):
      [
        "kind": "context", "prompt": .integer(prompt), "maximum": .integer(maximum),
        "context": .integer(context),
      ]
    case .cacheTooSmall(let needed, let available):
      ["kind": "cache", "needed": .integer(needed), "available": .integer(available)]
    case .tokenOutOfRange(let id, let size):
      ["kind": "token", "id": .integer(id), "size": .integer(size)]
    case .sampling(.noTokenAllowed(let position)):
      ["kind": "no_token", "position": .integer(position)]
    case .sampling(.invalidLogit(let position)):
      ["kind": "logit", "position": .integer(position)]
    case .peerLost(let name): ["kind": "peer", "name": .string(name)]
    case .refusedByNode(let reason): ["kind": "refused", "reason": .string(reason)]
    case .sampling, .duplicateID, .engineStopped: ["kind": "engine"]
    }
  }

  static func failure(_ json: JSONValue?) -> GenerationFailure {
    func number(_ key: String) -> Int { json?[key]?.integer ?? 0 }
    return switch json?["kind"]?.string {
    case "loading": .loading
    case "draining": .draining
    case "queue": .queueFull(limit: number("limit"), retryAfterSeconds: number("seconds"))
    case "queued_tokens":
      .queuedTokensFull(limit: number("limit"), retryAfterSeconds: number("seconds"))
    case "empty": .emptyPrompt
    case "priority": .priorityUnsupported(priority: number("priority"))
    case "context":
      .contextTooLong(
        promptTokenCount: number("prompt"), maximumTokens: number("maximum"),
        contextLength: number("context"))
    case "cache":
      .cacheTooSmall(neededTokens: number("needed"), availableTokens: number("available"))
    case "token": .tokenOutOfRange(id: number("id"), vocabularySize: number("size"))
    case "no_token": .sampling(.noTokenAllowed(position: number("position")))
    case "logit": .sampling(.invalidLogit(position: number("position")))
    case "peer": .peerLost(name: json?["name"]?.string ?? "")
    case "refused": .refusedByNode(reason: json?["reason"]?.string ?? "")
    default: .engineStopped
    }
  }

  // MARK: Logprobs

  private static func json(_ logprobs: TokenLogprobs) -> JSONValue {
    [
      "chosen": pair(logprobs.chosen), "rank": .integer(logprobs.rank),
      "top": .array(logprobs.top.map(pair)),
    ]
  }

  /// Null stands for minus infinity.
  private static func pair(_ entry: TokenLogprob) -> JSONValue {
    [
      .integer(entry.token),
      entry.logprob.isFinite ? .number(Double(entry.logprob)) : .null,
    ]
  }

  private static func pair(_ json: JSONValue?) -> TokenLogprob? {
    guard let pair = json?.array, pair.count == 2, let token = pair[0].integer else { return nil }
    return TokenLogprob(token: token, logprob: pair[1].number.map { Float($0) } ?? -.infinity)
  }

  private static func logprobs(_ json: JSONValue?) -> TokenLogprobs? {
    guard let json, let chosen = pair(json["chosen"]), let rank = json["rank"]?.integer,
      let top = json["top"]?.array
    else { return nil }
    return TokenLogprobs(chosen: chosen, rank: rank, top: top.compactMap { pair($0) })
  }
}
