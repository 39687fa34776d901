import Inference
import OutputParsing
import Sampling

/// What a run produces, in order, for any of its choices.
enum RunOutput: Sendable {
  /// A prompt has been processed.
  case prompt(index: Int, PromptReport)
  /// A token has come, with the text events it completes.
  case token(choice: Int, GeneratedToken, [OutputEvent])
  /// A choice is over, with the text that was held back.
  case finished(choice: Int, ChoiceOutcome, [OutputEvent])
}

/// How a choice ended.
struct ChoiceOutcome: Sendable, Equatable {
  enum Reason: Sendable, Equatable {
    case endOfSequence
    case stopToken(Int)
    case stopString(String)
    case constraintComplete
    case length
    case aborted
    case failed(GenerationFailure)
  }

  var reason: Reason
  var generatedTokenCount: Int
  var reasoningTokenCount: Int
}

/// A prompt ready for the engine, with what its answer is read by.
struct PreparedGeneration: Sendable {
  var requests: [GenerationRequest]
  var format: OutputFormat
  var options: GenerationOptions
  /// The prompts as text, where an answer echoes them.
  var promptTexts: [String] = []

  /// Tokens that stand for images.
  var imageTokenCount: Int {
    requests.reduce(0) { $0 + $1.images.reduce(0) { $0 + $1.positions.count } }
  }

  var promptTokenCount: Int { requests.reduce(0) { $0 + $1.prompt.count } }
}

/// One HTTP request's generation: the engine requests it takes, and their tokens turned to text.
///
/// Owned by the request's task. When the task is cancelled, for the client has left, the engine is
/// told at once.
struct GenerationRun: ~Copyable {
  private let engine: any GenerationEngine
  private let prepared: PreparedGeneration
  private let text: any ModelText
  /// Tokens that end a choice and are no part of its text.
  private let stopTokens: Set<Int>
  private let mailbox = EventMailbox()
  /// What was taken from the mailbox and not looked at yet.
  private var backlog: [EventMailbox.Item] = []
  private let metrics: ServerMetrics
  private var assemblers: [TextAssembler]
  private var isFinished: [Bool]
  private var tokenCounts: [Int]
  private var lastTokenTimes: [ContinuousClock.Instant?]
  /// Seconds to each choice's first token.
  private var firstTokenTimes: [Double?]
  private let started = ContinuousClock.now
  private var preemptionCounts: [Int]
  private(set) var reports: [PromptReport?]
  private(set) var firstTokenSeconds: Double?
  /// How the last choice to end has ended.
  private(set) var lastFinish: String?

  /// Hands the requests to the engine, all or none.
  init(
    _ prepared: PreparedGeneration, engine: any GenerationEngine, model: ServedModel,
    metrics: ServerMetrics
  ) throws(APIError) {
    self.engine = engine
    self.prepared = prepared
    text = model.text
    self.metrics = metrics
    let options = prepared.options
    let ends = options.ignoresEndOfSequence ? [] : model.facts.endOfSequenceIDs
    stopTokens = options.includesStop ? [] : Set(ends + options.stopTokenIDs)
    let count = prepared.requests.count * options.choiceCount
    assemblers = Array(
      repeating: TextAssembler(
        format: prepared.format, stops: options.stops, includesStop: options.includesStop),
      count: count)
    isFinished = Array(repeating: false, count: count)
    tokenCounts = Array(repeating: 0, count: count)
    lastTokenTimes = Array(repeating: nil, count: count)
    firstTokenTimes = Array(repeating: nil, count: count)
    reports = Array(repeating: nil, count: prepared.requests.count)
    preemptionCounts = Array(repeating: 0, count: prepared.requests.count)
    for (index, request) in prepared.requests.enumerated() {
      let mailbox = mailbox
      do throws(GenerationFailure) {
        try engine.submit(request) { mailbox.put($0, request: index) }
      } catch {
        for earlier in prepared.requests[..<index] { engine.cancel(earlier.id) }
        metrics.didReject(error)
        throw .engine(error)
      }
    }
    metrics.didSubmit(prepared)
  }

  /// Cancels what still runs; harmless after the end.
  consuming func cancel() {
    for (index, request) in prepared.requests.enumerated() {
      let choices =
        index * prepared.options.choiceCount..<(index + 1) * prepared.options.choiceCount
      guard !isFinished[choices].allSatisfy({ $0 }) else { continue }
      engine.cancel(request.id)
      for choice in choices where !isFinished[choice] {
        metrics.didFinish(.aborted, tally(choice))
      }
    }
  }

  /// Tokens generated so far, over all choices.
  var generatedTokenCount: Int { tokenCounts.reduce(0, +) }

  /// Prompt tokens found in the cache, over all prompts.
  var cachedTokenCount: Int { reports.reduce(0) { $0 + ($1?.cachedTokenCount ?? 0) } }

  /// Tokens of think blocks so far.
  var reasoningTokenCount: Int { assemblers.reduce(0) { $0 + $1.reasoningTokenCount } }

  /// What `usage` tells.
  var usage: TokenUsage {
    TokenUsage(
      prompt: prepared.promptTokenCount, generated: generatedTokenCount, cached: cachedTokenCount,
      reasoning: reasoningTokenCount, image: prepared.imageTokenCount)
  }

  /// Seconds since the requests were submitted.
  var seconds: Double { (ContinuousClock.now - started).inSeconds }

  /// The next outputs; nil when all choices are over or the client has left.
  ///
  /// Where every chunk tells the usage they come one by one, for it is that of the chunk's token.
  mutating func next() async -> [RunOutput]? {
    while !isFinished.allSatisfy({ $0 }) {
      if backlog.isEmpty {
        let cancellation = RunCancellation(engine: engine, ids: prepared.requests.map(\.id))
        backlog = await withTaskCancellationHandler {
          await mailbox.take()
        } onCancel: {
          cancellation.cancel()
        }
        if mailbox.isClosed || mailbox.hasOverflowed {
          cancellation.cancel()
          return nil
        }
      }
      let count = prepared.options.continuousUsage ? min(1, backlog.count) : backlog.count
      var outputs: [RunOutput] = []
      for item in backlog.prefix(count) { absorb(item, into: &outputs) }
      backlog.removeFirst(count)
      if !outputs.isEmpty { return outputs }
    }
    return nil
  }

  private mutating func absorb(_ item: EventMailbox.Item, into outputs: inout [RunOutput]) {
    let base = item.request * prepared.options.choiceCount
    switch item.event {
    case .promptProcessed(let report):
      reports[item.request] = report
      metrics.didPrefill(report)
      outputs.append(.prompt(index: item.request, report))
    case .token(let token):
      let choice = base + token.choice
      guard !isFinished[choice] else { return }
      noteToken(choice)
      let events = assemblers[choice].append(visibleBytes(of: token.id))
      outputs.append(.token(choice: choice, token, events))
      if let stop = assemblers[choice].stopFound {
        engine.cancel(prepared.requests[item.request].id, choice: token.choice)
        finish(choice, .stopString(stop), into: &outputs)
      }
    case .finished(let end):
      let choice = base + end.choice
      guard !isFinished[choice] else { return }
      preemptionCounts[item.request] = end.preemptionCount
      finish(choice, Self.reason(end.reason), into: &outputs)
    }
  }

  private func tally(_ choice: Int) -> ServerMetrics.ChoiceTally {
    ServerMetrics.ChoiceTally(
      tokens: tokenCounts[choice], seconds: seconds,
      queueSeconds: reports[choice / prepared.options.choiceCount]?.queueSeconds,
      firstTokenSeconds: firstTokenTimes[choice])
  }

  private mutating func noteToken(_ choice: Int) {
    let now = ContinuousClock.now
    if tokenCounts[choice] == 0 {
      let seconds = (now - started).inSeconds
      firstTokenTimes[choice] = seconds
      if firstTokenSeconds == nil { firstTokenSeconds = seconds }
      metrics.didGenerateFirst(afterSeconds: seconds)
    } else if let last = lastTokenTimes[choice] {
      metrics.didGenerate(afterSeconds: (now - last).inSeconds)
    }
    lastTokenTimes[choice] = now
    tokenCounts[choice] += 1
  }

  private mutating func finish(
    _ choice: Int, _ reason: ChoiceOutcome.Reason, into outputs: inout [RunOutput]
  ) {
    isFinished[choice] = true
    let rest = assemblers[choice].finish()
    // A stop string may be completed by what was held back.
    let stop = assemblers[choice].stopFound
    let outcome = ChoiceOutcome(
      reason: stop.map { .stopString($0) } ?? reason, generatedTokenCount: tokenCounts[choice],
      reasoningTokenCount: assemblers[choice].reasoningTokenCount)
    metrics.didFinish(outcome.reason, tally(choice))
    let request = choice / prepared.options.choiceCount
    let choices =
      request * prepared.options.choiceCount..<(request + 1) * prepared.options.choiceCount
    if isFinished[choices].allSatisfy({ $0 }) {
      metrics.didFinishRequest(
        longest: tokenCounts[choices].max() ?? 0, preemptions: preemptionCounts[request])
    }
    lastFinish = outcome.finishReason
    outputs.append(.finished(choice: choice, outcome, rest))
  }

  /// What a token adds to the text: markers that the parser reads always, other special tokens only
  /// when asked for, stop tokens never.
  private func visibleBytes(of token: Int) -> [UInt8] {
    guard !stopTokens.contains(token) else { return [] }
    let bytes = text.bytes(of: token)
    guard text.isSpecial(token) else { return bytes }
    let parses = prepared.format.parsesTools || prepared.format.parsesReasoning
    if parses && OutputMarkers.isMarker(bytes) { return bytes }
    return prepared.options.skipsSpecialTokens ? [] : bytes
  }

  private static func reason(_ reason: FinishReason) -> ChoiceOutcome.Reason {
    switch reason {
    case .endOfSequence: .endOfSequence
    case .stopToken(let id): .stopToken(id)
    case .constraintComplete: .constraintComplete
    case .length: .length
    case .aborted: .aborted
    case .failed(let failure): .failed(failure)
    }
  }
}

/// What it takes to cancel a run from another thread.
private struct RunCancellation: Sendable {
  let engine: any GenerationEngine
  let ids: [String]

  func cancel() {
    for id in ids { engine.cancel(id) }
  }
}

/// Tokens in and out.
struct TokenUsage: Sendable, Equatable {
  var prompt = 0
  var generated = 0
  var cached = 0
  var reasoning = 0
  var image = 0
}

/// Special tokens that belong to Step3's text protocol.
enum OutputMarkers {
  static func isMarker(_ bytes: [UInt8]) -> Bool {
    let name = String(decoding: bytes, as: UTF8.self)
    return name.hasPrefix("<｜tool") || name == "<think>" || name == "</think>"
      || name.contains("steptml")
  }
}

extension Duration {
  /// The duration as seconds.
  var inSeconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}
