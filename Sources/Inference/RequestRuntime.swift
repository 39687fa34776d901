import Sampling

/// One request in flight: its choices, its prompt's logprobs and whom to tell.
struct RequestRuntime {
  let request: GenerationRequest
  let handler: EventHandler
  let choices: [SequenceRuntime]
  /// What stands in the places of its images' tokens, once they are encoded.
  var features: [PlacedFeatures] = []
  /// Choices that have not ended.
  private(set) var openChoiceCount: Int
  /// How often one of its choices was preempted.
  var preemptionCount = 0
  private let submitted: Duration
  private var started: Duration?
  private var isPromptReported = false
  private var promptLogprobs: [TokenLogprobs?]
  /// Why it cannot go on, if something below the scheduler failed.
  var failure: GenerationFailure?

  init(
    _ request: GenerationRequest, facts: ModelFacts, now: Duration,
    handler: @escaping EventHandler
  ) {
    self.request = request
    self.handler = handler
    choices = (0..<request.choiceCount).map {
      SequenceRuntime(request, choice: $0, facts: facts)
    }
    openChoiceCount = request.choiceCount
    submitted = now
    let isScored = request.promptLogprobCount != nil
    promptLogprobs = isScored ? [TokenLogprobs?](repeating: nil, count: request.prompt.count) : []
  }

  /// Notes the beginning of the first step.
  mutating func start(_ now: Duration) {
    if started == nil { started = now }
  }

  /// What there is to report on the prompt's token after `position`, by row `row`; nil if nothing
  /// was asked for or it is known already.
  func scoring(after position: Int, row: Int) -> SamplingJob.Task? {
    guard let count = request.promptLogprobCount, position + 1 < request.prompt.count,
      promptLogprobs[position + 1] == nil
    else { return nil }
    return .score(
      row: row, position: position + 1, token: request.prompt[position + 1], topCount: count)
  }

  /// Takes the report on the prompt's token at `position`.
  mutating func note(_ report: TokenLogprobs, at position: Int) {
    promptLogprobs[position] = report
  }

  /// Tells, once, that the prompt has been processed.
  mutating func reportPrompt(cachedCount: Int, now: Duration) {
    guard !isPromptReported else { return }
    isPromptReported = true
    let began = started ?? now
    handler(
      .promptProcessed(
        PromptReport(
          cachedTokenCount: cachedCount,
          logprobs: request.promptLogprobCount == nil ? nil : promptLogprobs,
          queueSeconds: (began - submitted).seconds, prefillSeconds: (now - began).seconds)))
    promptLogprobs = []
  }

  /// Tells that a choice has ended.
  mutating func finish(_ choice: Int, _ reason: FinishReason) {
    openChoiceCount -= 1
    handler(
      .finished(
        FinishedChoice(
          choice: choice, reason: reason, generatedTokenCount: choices[choice].generatedCount,
          preemptionCount: preemptionCount)))
  }
}

extension Duration {
  /// The same as a number.
  var seconds: Double { self / .seconds(1) }
}
