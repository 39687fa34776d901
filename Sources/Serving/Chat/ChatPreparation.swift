import Inference
import OutputParsing
import Sampling

extension ChatRequest {
  /// Renders and tokenises the prompt and checks it against the context.
  func prepared(
    id: String, model: ServedModel, context: APIContext
  ) async throws(APIError) -> PreparedGeneration {
    let offered = offeredTools
    var input = input
    input.tools = offered.isEmpty ? nil : offered.map(\.json)
    let prompt = try await input.prompt(
      model: model, context: context, addsSpecialTokens: addsSpecialTokens)
    let rendered = prompt.text
    let settings = context.settings
    let parsesReasoning = settings.parsesReasoning && reasoning.isSeparate
    let format = OutputFormat(
      parsesReasoning: parsesReasoning, startsInReasoning: Self.opensThinking(rendered),
      parsesTools: settings.parsesTools && !offered.isEmpty,
      keepsOnlyFirstCall: !allowsParallelCalls, tools: offered.map(\.signature))
    var request = try options.request(
      id: id, prompt: prompt.tokens, model: model, images: prompt.images, path: promptPath)
    if format.startsInReasoning {
      request.thinkEnd = try model.text.encode("</think>", addsSpecialTokens: false)
      if input.declinesThinking && options.thinkingTokenBudget == nil {
        request.thinkingTokenBudget = 0
      }
    }
    request.constraint = try await compiledConstraint(
      model, context.constraints, takesCalls: format.parsesTools)
    return PreparedGeneration(
      requests: [request], format: format, options: options, promptTexts: [rendered])
  }

  /// What the answer must look like: calls that are forced, or the format that was asked for.
  private func compiledConstraint(
    _ model: ServedModel, _ compiler: ConstraintCompiler, takesCalls: Bool
  ) async throws(APIError) -> GrammarConstraint? {
    if toolChoice.isForced {
      if case .named = toolChoice {
        return try await compiler.compile(tools: offeredTools, allowsSeveral: false, model: model)
      }
      return try await compiler.compile(
        tools: offeredTools, allowsSeveral: allowsParallelCalls, model: model)
    }
    guard let constraint else { return nil }
    // Tools that are offered stay callable: an agent calls them first and answers in the end.
    return try await compiler.compile(
      constraint, tools: takesCalls ? offeredTools : [], allowsSeveral: allowsParallelCalls,
      model: model)
  }

  /// Whether the prompt leaves a think block open.
  static func opensThinking(_ prompt: String) -> Bool {
    var tail = prompt[...]
    while let last = tail.last, last.isWhitespace { tail.removeLast() }
    return tail.hasSuffix("<think>")
  }
}

extension GenerationOptions {
  /// The engine request for one prompt, which came in the field `path`.
  func request(
    id: String, prompt: [Int], model: ServedModel, images: [PlacedImage] = [],
    defaultMaximum: Int? = nil, path: String
  ) throws(APIError) -> GenerationRequest {
    var prompt = prompt
    if let reader = model.images, images.isEmpty, prompt.contains(reader.tokens.placeholder) {
      throw .badField(
        path: path,
        reason: "holds the image placeholder, and no image comes with it; images are sent as parts "
          + "of chat messages.")
    }
    if let kept = truncatedPromptCount, prompt.count > kept {
      guard images.isEmpty else {
        throw .badField(
          path: "truncate_prompt_tokens", reason: "cannot cut a prompt that holds images.")
      }
      prompt = Array(prompt.suffix(kept))
    }
    let context = model.facts.contextLength
    guard !prompt.isEmpty else {
      throw .badField(path: path, reason: "gives an empty prompt.")
    }
    let wanted = maximumTokens ?? defaultMaximum
    guard prompt.count < context || (wanted == 0 && prompt.count <= context) else {
      throw .contextTooLong(
        path: path, promptTokenCount: prompt.count, maximumTokens: nil, contextLength: context)
    }
    // What a request does not bound is bounded by what can be held at all.
    let room = min(context, max(prompt.count + 1, model.facts.cacheCapacityTokens))
    let maximum = wanted ?? (room - prompt.count)
    guard prompt.count <= context - maximum else {
      throw .contextTooLong(
        path: path, promptTokenCount: prompt.count, maximumTokens: maximum,
        contextLength: context)
    }
    guard sampling.minTokens <= maximum else {
      throw .badField(path: "min_tokens", reason: "must not be above max_tokens, \(maximum).")
    }
    return GenerationRequest(
      id: id, prompt: prompt, sampling: sampling, seed: seed, choiceCount: choiceCount,
      maximumTokens: maximum, stopTokenIDs: stopTokenIDs,
      ignoreEndOfSequence: ignoresEndOfSequence, promptLogprobCount: promptLogprobCount,
      priority: priority, cacheSalt: cacheSalt, thinkingTokenBudget: thinkingTokenBudget,
      images: images)
  }
}

extension OutputFormat {
  /// Text as it is: nothing is told apart.
  static var plain: OutputFormat {
    OutputFormat(parsesReasoning: false, startsInReasoning: false, parsesTools: false)
  }
}
