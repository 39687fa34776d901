import Inference
import JSONScanning
package import Sampling

/// What every generating route asks for besides its prompt.
package struct GenerationOptions: Sendable {
  /// How tokens are drawn.
  package var sampling: SamplingParameters
  /// Names the random numbers of the first choice.
  package var seed: UInt64
  /// Choices per prompt.
  package var choiceCount = 1
  /// nil takes the rest of the context.
  package var maximumTokens: Int?
  package var stops: [String] = []
  package var includesStop = false
  package var stopTokenIDs: [Int] = []
  package var ignoresEndOfSequence = false
  package var skipsSpecialTokens = true
  /// How many alternatives a token's logprobs list; nil for no logprobs.
  package var logprobCount: Int?
  package var promptLogprobCount: Int?
  package var priority = 0
  package var cacheSalt: String?
  package var truncatedPromptCount: Int?
  package var streams = false
  package var includesUsage = false
  package var continuousUsage = false
  package var returnsTokenIDs = false
  /// Whether tokens in logprobs are written `token_id:123`.
  package var namesTokensByID = false
  package var thinkingTokenBudget: Int?
  /// What the answer is called, if the client says so.
  package var answerID: String?

  /// Most entries of `logprob_token_ids`, as at vLLM.
  static let maximumLogprobTokens = 128

  /// How many alternatives are written per token; -1 for all that the engine reports.
  var writtenAlternativeCount: Int {
    sampling.logprobTokens.isEmpty ? logprobCount ?? 0 : -1
  }
}

/// The values used where a request says nothing, from generation_config.json and flags.
package struct SamplingDefaults: Sendable, Equatable {
  /// 0 is greedy.
  package var temperature = 1.0
  /// The share of probability that is kept.
  package var topP = 1.0
  /// How many tokens are kept; nil keeps all.
  package var topK: Int?
  /// The least probability, relative to the likeliest token's.
  package var minP = 0.0
  /// 1 is neutral.
  package var repetitionPenalty = 1.0

  package init() {}
}

/// The bounds this server sets on what a request may ask for.
package struct RequestLimits: Sendable, Equatable {
  /// Most choices per prompt.
  package var choiceCount = 128
  /// Most prompts in one completions request.
  package var promptCount = 512
  /// Most alternatives in logprobs.
  package var logprobCount = 20
  /// Most stop strings.
  package var stopCount = 64
  /// Whether requests may carry a priority.
  package var allowsPriority = false
  /// Whether requests may bring their own chat template.
  package var trustsTemplates = false

  package init() {}
}

extension GenerationOptions {
  /// Options of which nothing was asked.
  init(defaults: SamplingDefaults) throws(APIError) {
    do throws(SamplingError) {
      sampling = try SamplingParameters(
        temperature: defaults.temperature, topK: defaults.topK, topP: defaults.topP,
        minP: defaults.minP, repetitionPenalty: defaults.repetitionPenalty)
    } catch { throw .internal }
    seed = UInt64.random(in: 0...UInt64.max)
  }

  /// Reads the fields that OpenAI's generating routes share with vLLM's extensions.
  ///
  /// `logprobCount` is read by the caller, for the routes differ in it.
  init(
    _ fields: FieldReader, logprobCount: Int?, model: ServedModel, settings: APISettings
  ) throws(APIError) {
    let vocabulary = model.facts.vocabularySize
    let defaults = settings.defaults
    let limits = settings.limits
    try Self.refuseRetired(fields)
    try self.init(defaults: defaults)
    self.logprobCount = logprobCount
    choiceCount = try fields.integer("n", in: 1...limits.choiceCount) ?? 1
    if let seed = try fields.integer("seed") { self.seed = UInt64(bitPattern: Int64(seed)) }
    stops = try Self.stops(fields, key: "stop", limit: limits.stopCount)
    includesStop = try fields.boolean("include_stop_str_in_output") ?? false
    stopTokenIDs = try fields.tokenIDs("stop_token_ids", vocabularySize: vocabulary) ?? []
    ignoresEndOfSequence = try fields.boolean("ignore_eos") ?? false
    skipsSpecialTokens = try fields.boolean("skip_special_tokens") ?? true
    answerID = try Self.answerID(fields)
    promptLogprobCount = try fields.integer("prompt_logprobs", in: -1...limits.logprobCount)
    cacheSalt = try fields.string("cache_salt")
    if cacheSalt?.isEmpty == true {
      throw .badField(path: fields.path("cache_salt"), reason: "must not be an empty string.")
    }
    truncatedPromptCount = try fields.integer(
      "truncate_prompt_tokens", in: -1...model.facts.contextLength)
    if truncatedPromptCount == -1 { truncatedPromptCount = model.facts.contextLength }
    returnsTokenIDs = try fields.boolean("return_token_ids") ?? false
    namesTokensByID = try fields.boolean("return_tokens_as_token_ids") ?? false
    priority = try fields.integer("priority") ?? 0
    if priority != 0 && !limits.allowsPriority {
      throw .badField(
        path: fields.path("priority"), reason: "needs a server with priority scheduling.")
    }
    try readStream(fields)
    sampling = try Self.sampling(fields, model: model, defaults: defaults, logprobs: logprobCount)
  }

  private mutating func readStream(_ fields: FieldReader) throws(APIError) {
    streams = try fields.boolean("stream") ?? false
    if let options = try fields.fields("stream_options") {
      guard streams else {
        throw .badField(path: "stream_options", reason: "needs `stream` to be true.")
      }
      includesUsage = try options.boolean("include_usage") ?? false
      continuousUsage = try options.boolean("continuous_usage_stats") ?? false
    }
    if streams, let count = promptLogprobCount, count != 0 {
      throw .badField(path: "prompt_logprobs", reason: "cannot be streamed.")
    }
  }

  /// Stop strings under `key`, none empty.
  static func stops(
    _ fields: FieldReader, key: String, limit: Int
  ) throws(APIError) -> [String] {
    let stops = try fields.strings(key) ?? []
    guard stops.count <= limit else {
      throw .badField(path: fields.path(key), reason: "holds more than \(limit) strings.")
    }
    guard stops.allSatisfy({ !$0.isEmpty }) else {
      throw .badField(path: fields.path(key), reason: "holds an empty string.")
    }
    return stops
  }

  /// The bound on a think block; -1 is none.
  static func thinkingBudget(_ fields: FieldReader) throws(APIError) -> Int? {
    let budget = try fields.integer("thinking_token_budget", in: -1...Int.max)
    return budget.flatMap { $0 < 0 ? nil : $0 }
  }

  /// vLLM's `request_id`: the answer's id after its prefix.
  static func answerID(_ fields: FieldReader) throws(APIError) -> String? {
    guard let id = try fields.string("request_id") else { return nil }
    guard Identifiers.isUsable(id) else {
      throw .badField(
        path: fields.path("request_id"), reason: "must be 1 to 128 visible ASCII characters.")
    }
    return id
  }

  private static func refuseRetired(_ fields: FieldReader) throws(APIError) {
    let names = [
      "guided_json": "json", "guided_regex": "regex", "guided_choice": "choice",
      "guided_grammar": "grammar", "guided_decoding_backend": "…",
      "guided_whitespace_pattern": "…", "structural_tag": "structural_tag",
    ]
    for (old, new) in names.sorted(by: { $0.key < $1.key }) where fields.has(old) {
      throw .badField(
        path: fields.path(old), reason: "is now `structured_outputs: {\"\(new)\": …}`.")
    }
    try fields.refuse([("use_beam_search", "is not offered; use `n` and sampling.")])
    if let best = try fields.integer("best_of"), best != (try fields.integer("n") ?? 1) {
      throw .badField(path: fields.path("best_of"), reason: "must equal `n` if it is given.")
    }
  }

  private static func sampling(
    _ fields: FieldReader, model: ServedModel, defaults: SamplingDefaults, logprobs: Int?
  ) throws(APIError) -> SamplingParameters {
    let vocabulary = model.facts.vocabularySize
    let temperature = try fields.number("temperature") ?? defaults.temperature
    let topK = try fields.integer("top_k") ?? defaults.topK
    let topP = try fields.number("top_p") ?? defaults.topP
    let minP = try fields.number("min_p") ?? defaults.minP
    let repetition = try fields.number("repetition_penalty") ?? defaults.repetitionPenalty
    let presence = try fields.number("presence_penalty") ?? 0
    let frequency = try fields.number("frequency_penalty") ?? 0
    let bias = try biases(fields)
    let allowed = try fields.tokenIDs("allowed_token_ids", vocabularySize: vocabulary)
    let badWords = try badWords(fields, model: model)
    let minimum = try fields.integer("min_tokens", in: 0...Int.max) ?? 0
    let listed = try logprobTokens(fields, logprobs: logprobs, vocabularySize: vocabulary)
    do throws(SamplingError) {
      let parameters = try SamplingParameters(
        temperature: temperature, topK: topK, topP: topP, minP: minP,
        repetitionPenalty: repetition, presencePenalty: presence, frequencyPenalty: frequency,
        logitBias: bias, allowedTokens: allowed, badWords: badWords, minTokens: minimum,
        logprobs: logprobs, logprobTokens: listed)
      try parameters.validate(vocabularyCount: vocabulary)
      return parameters
    } catch {
      let path = error.parameter.map { fields.path($0.rawValue) } ?? ""
      throw .badField(path: path, reason: "cannot be used: \(error).")
    }
  }

  /// vLLM's `logprob_token_ids`: the tokens whose logprobs stand in the place of the top ones.
  private static func logprobTokens(
    _ fields: FieldReader, logprobs: Int?, vocabularySize: Int
  ) throws(APIError) -> [Int] {
    let listed = try fields.tokenIDs("logprob_token_ids", vocabularySize: vocabularySize) ?? []
    guard listed.isEmpty || logprobs != nil else {
      throw .badField(path: fields.path("logprob_token_ids"), reason: "needs `logprobs`.")
    }
    guard listed.count <= maximumLogprobTokens else {
      throw .badField(
        path: fields.path("logprob_token_ids"),
        reason: "holds more than \(maximumLogprobTokens) tokens.")
    }
    return listed
  }

  private static func biases(_ fields: FieldReader) throws(APIError) -> [TokenBias] {
    guard let object = try fields.fields("logit_bias") else { return [] }
    var biases: [TokenBias] = []
    for member in object.object.members {
      guard let token = Int(member.key) else {
        throw .badField(path: object.path(member.key), reason: "is not named by a token id.")
      }
      guard let bias = try object.number(member.key, in: -100...100) else { continue }
      biases.append(TokenBias(token: token, bias: bias))
    }
    return biases
  }

  /// Every word as it is and with a space before it, for a token often carries the space.
  private static func badWords(
    _ fields: FieldReader, model: ServedModel
  ) throws(APIError) -> [[Int]] {
    var sequences: [[Int]] = []
    for word in try fields.strings("bad_words") ?? [] {
      guard !word.isEmpty else {
        throw .badField(path: fields.path("bad_words"), reason: "holds an empty string.")
      }
      for spelling in [word, " " + word] {
        let ids = try model.text.encode(spelling, addsSpecialTokens: false)
        if !ids.isEmpty && !sequences.contains(ids) { sequences.append(ids) }
      }
    }
    return sequences
  }
}

extension GenerationOptions {
  /// Options of the routes that know few sampling fields: temperature, top_p, top_k, and of ours
  /// seed and thinking_token_budget.
  init(defaults: SamplingDefaults, fields: FieldReader) throws(APIError) {
    try self.init(defaults: defaults)
    let temperature = try fields.number("temperature") ?? defaults.temperature
    let topP = try fields.number("top_p") ?? defaults.topP
    let topK = try fields.integer("top_k") ?? defaults.topK
    if let seed = try fields.integer("seed") { self.seed = UInt64(bitPattern: Int64(seed)) }
    thinkingTokenBudget = try Self.thinkingBudget(fields)
    do throws(SamplingError) {
      sampling = try SamplingParameters(
        temperature: temperature, topK: topK, topP: topP, minP: defaults.minP,
        repetitionPenalty: defaults.repetitionPenalty)
    } catch {
      let path = error.parameter.map { fields.path($0.rawValue) } ?? ""
      throw .badField(path: path, reason: "cannot be used: \(error).")
    }
  }
}
