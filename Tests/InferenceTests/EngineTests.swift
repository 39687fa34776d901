import Dispatch
import Inference
import Sampling
import Scheduling
import Testing

@Suite struct EngineTests {
  private func request(
    _ index: Int, prompt: Int = 20, maximum: Int = 12, choices: Int = 1,
    sampling: SamplingParameters? = nil
  ) throws -> GenerationRequest {
    var request = GenerationRequest(
      id: "r\(index)", prompt: (0..<prompt).map { ($0 * 7 + index % 3) % 60 },
      sampling: try sampling
        ?? SamplingParameters(
          temperature: [0, 0.8, 1.3][index % 3], topK: index % 2 == 0 ? 20 : nil,
          topP: index % 5 == 0 ? 0.9 : 1, repetitionPenalty: index % 4 == 0 ? 1.2 : 1,
          frequencyPenalty: index % 7 == 0 ? 0.5 : 0, logprobs: index % 2 == 0 ? 3 : nil),
      seed: UInt64(index), choiceCount: choices, maximumTokens: maximum)
    request.promptLogprobCount = index % 6 == 0 ? 2 : nil
    return request
  }

  private func without(cached report: PromptReport?) -> PromptReport? {
    guard var report else { return nil }
    report.cachedTokenCount = 0
    report.queueSeconds = 0
    report.prefillSeconds = 0
    return report
  }

  @Test("alone, in a crowd, in small chunks, preempted or after a prefix hit: the same answer")
  func invariance() throws {
    let requests = try (0..<24).map {
      try request($0, prompt: 5 + $0 * 3, maximum: 4 + $0, choices: $0 % 5 == 4 ? 3 : 1)
    }
    let reference = try hashedEngine(sequences: 3, stepTokens: 512, sharesPrefixes: false)
    let alone = try requests.map { request in
      let recorder = try reference.record(request)
      _ = recorder.wait()
      return recorder
    }
    let engines = [
      try hashedEngine(sequences: 32), try hashedEngine(sequences: 4, stepTokens: 7),
      try hashedEngine(sequences: 16, stepTokens: 40, capacity: 160, blockSize: 8),
    ]
    for engine in engines {
      for _ in 0..<2 {
        let crowd = try requests.map { try engine.record($0) }
        for (request, pair) in zip(requests, zip(crowd, alone)) {
          for choice in 0..<request.choiceCount {
            #expect(pair.0.tokens(choice: choice) == pair.1.tokens(choice: choice))
            let (end, expected) = (
              pair.0.finish(choice: choice), pair.1.finish(choice: choice)
            )
            #expect(end?.reason == expected?.reason)
            #expect(end?.generatedTokenCount == expected?.generatedTokenCount)
          }
          #expect(without(cached: pair.0.prompt) == without(cached: pair.1.prompt))
        }
      }
    }
    #expect(engines[0].load.prefixCacheHitTokenCount > 0)
    #expect(engines[2].load.preemptionCount > 0)
    for engine in engines {
      engine.stop()
      #expect(engine.load.cacheUsage == 0 && engine.load.runningRequestCount == 0)
    }
  }

  @Test("choice i is what a request with the seed + i says") func seeds() throws {
    let engine = try hashedEngine()
    let sampling = try SamplingParameters(temperature: 1)
    var many = try request(0, choices: 4, sampling: sampling)
    many.promptLogprobCount = nil
    let choices = try engine.record(many)
    for choice in 0..<4 {
      var single = many
      single.id = "s\(choice)"
      single.choiceCount = 1
      single.seed += UInt64(choice)
      let ids = try engine.record(single).tokens().map(\.id)
      #expect(choices.tokens(choice: choice).map(\.id) == ids)
    }
    let greedy = try engine.record(
      request(7, choices: 3, sampling: SamplingParameters(temperature: 0)))
    #expect(greedy.tokens(choice: 1).map(\.id) == greedy.tokens(choice: 0).map(\.id))
  }

  @Test("the last prompt row's logprobs are those the next token reports") func logprobs() throws {
    let engine = try hashedEngine()
    let sampling = try SamplingParameters(temperature: 0, logprobs: 2)
    let answer = try engine.record(request(1, maximum: 6, sampling: sampling)).tokens()
    var scored = try request(1, sampling: sampling)
    scored.prompt += answer.map(\.id)
    scored.id = "scored"
    scored.maximumTokens = 0
    scored.promptLogprobCount = 2
    let recorder = try engine.record(scored)
    let report = try #require(recorder.prompt?.logprobs)
    #expect(report.count == scored.prompt.count && report[0] == nil)
    #expect(report.suffix(6).elementsEqual(answer.map(\.logprobs)))
    #expect(recorder.prompt?.cachedTokenCount == 0)
    #expect(recorder.finish()?.reason == .length && recorder.tokens().isEmpty)
  }

  @Test("end of sequence, stop tokens, min-tokens and ignoring the end are obeyed") func stops()
    throws
  {
    let engine = try hashedEngine()
    let always = try SamplingParameters(
      temperature: 0, logitBias: [TokenBias(token: HashedExecutor.endOfSequence, bias: 100)])
    let ended = try engine.record(request(1, sampling: always))
    #expect(ended.finish()?.reason == .endOfSequence && ended.tokens().count == 1)
    var ignoring = try request(2, sampling: always)
    ignoring.ignoreEndOfSequence = true
    let ignored = try engine.record(ignoring)
    #expect(ignored.finish()?.reason == .length && ignored.tokens().count == 12)
    let late = try SamplingParameters(
      temperature: 0, logitBias: [TokenBias(token: HashedExecutor.endOfSequence, bias: 100)],
      minTokens: 5)
    #expect(try engine.record(request(3, sampling: late)).finish()?.generatedTokenCount == 6)
    let plain = try SamplingParameters(temperature: 0)
    let text = try engine.record(request(4, sampling: plain)).tokens().map(\.id)
    var stopping = try request(4, sampling: plain)
    stopping.stopTokenIDs = [text[3]]
    let stopped = try engine.record(stopping)
    #expect(stopped.finish()?.reason == .stopToken(text[3]))
    let first = try #require(text.firstIndex(of: text[3]))
    #expect(stopped.tokens().map(\.id) == Array(text[...first]))
  }

  @Test("a spent thinking budget forces the marker, then the answer goes on", arguments: [0, 1, 5])
  func thinkingBudget(budget: Int) throws {
    let engine = try hashedEngine()
    var thinking = try request(
      1, maximum: 20, sampling: SamplingParameters(temperature: 1, logprobs: 0))
    thinking.thinkEnd = [61, 62]
    thinking.thinkingTokenBudget = budget
    let tokens = try engine.record(thinking).tokens()
    #expect(tokens[budget].id == 61 && tokens[budget + 1].id == 62)
    #expect(tokens.allSatisfy { $0.logprobs?.chosen.token == $0.id })
    #expect(!tokens.dropFirst(budget + 2).map(\.id).starts(with: [61, 62]))
  }

  @Test("a constraint starts after the think block, ends the answer and outlasts the wish to end")
  func constraints() throws {
    let engine = try hashedEngine()
    var constrained = try request(
      1, maximum: 20,
      sampling: SamplingParameters(
        temperature: 1, logitBias: [TokenBias(token: HashedExecutor.endOfSequence, bias: 100)]))
    constrained.constraint = Countdown(tokens: [3, 5, 8])
    let direct = try engine.record(constrained)
    #expect(direct.tokens().map(\.id) == [3, 5, 8])
    #expect(direct.finish()?.reason == .constraintComplete)
    constrained.id = "thinking"
    constrained.thinkEnd = [61]
    constrained.thinkingTokenBudget = 4
    let after = try engine.record(constrained)
    #expect(after.tokens().map(\.id).suffix(4) == [61, 3, 5, 8])
    #expect(after.tokens().count == 8)
  }

  @Test("cancelled requests and choices end as aborted, others go on") func cancellation() throws {
    let engine = try hashedEngine(capacity: 4096)
    let sampling = try SamplingParameters(
      temperature: 1,
      logitBias: [
        TokenBias(token: HashedExecutor.endOfSequence, bias: -100)
      ])
    let long = try request(1, maximum: 480, choices: 3, sampling: sampling)
    let gate = try engine.record(long)
    gate.waitForToken()
    engine.cancel("r1", choice: 1)
    engine.cancel("r1", choice: 1)
    engine.cancel("unknown")
    #expect(gate.finish(choice: 0)?.reason == .length)
    #expect(gate.finish(choice: 2)?.generatedTokenCount == 480)
    let aborted = try #require(gate.finish(choice: 1))
    #expect(aborted.reason == .aborted || aborted.reason == .length)
    let other = try engine.record(request(2, maximum: 480, sampling: sampling))
    engine.cancel("r2")
    #expect(other.finish()?.reason == .aborted || other.finish()?.reason == .length)
    // The name is free again.
    #expect(try engine.record(request(2, maximum: 1, sampling: sampling)).finish() != nil)
  }

  @Test("what can never run is refused at once, with its reason") func refusals() throws {
    let engine = try hashedEngine(capacity: 100)
    func refusal(_ change: (inout GenerationRequest) throws -> Void) throws -> GenerationFailure? {
      var request = try request(1)
      try change(&request)
      do throws(GenerationFailure) { try engine.submit(request) { _ in } } catch { return error }
      return nil
    }
    #expect(try refusal { $0.prompt = [] } == .emptyPrompt)
    #expect(
      try refusal { $0.maximumTokens = 500 }
        == .contextTooLong(promptTokenCount: 20, maximumTokens: 500, contextLength: 512))
    #expect(
      try refusal { $0.maximumTokens = 100 }
        == .cacheTooSmall(neededTokens: 119, availableTokens: 100))
    #expect(
      try refusal { $0.prompt[3] = 70 } == .tokenOutOfRange(id: 70, vocabularySize: 70))
    #expect(
      try refusal { $0.stopTokenIDs = [-1] } == .tokenOutOfRange(id: -1, vocabularySize: 70))
    #expect(try refusal { $0.priority = 1 } == .priorityUnsupported(priority: 1))
    #expect(
      try refusal { $0.sampling = try SamplingParameters(allowedTokens: [70]) }
        == .sampling(
          .tokenOutOfRange(parameter: .allowedTokens, token: 70, vocabularyCount: 70)))
    engine.drain()
    #expect(try refusal { _ in } == .draining)
    engine.stop()
    #expect(try refusal { _ in } == .engineStopped)
  }

  @Test("a full queue and a name in use are refused while the engine is busy") func fullQueue()
    throws
  {
    let gate = DispatchSemaphore(value: 0)
    let engine = try hashedEngine(sequences: 1, stepTokens: 64, queued: 2, gate: gate)
    let first = try engine.record(request(0, maximum: 1))
    // Whether the first one runs already or still waits, three more cannot all wait.
    var refused: [GenerationFailure] = []
    for index in 1...3 {
      let next = try request(index, maximum: 1)
      do throws(GenerationFailure) { try engine.submit(next) { _ in } } catch {
        refused.append(error)
      }
    }
    #expect(refused.last == .queueFull(limit: 2, retryAfterSeconds: 1))
    #expect(throws: GenerationFailure.duplicateID) { try engine.record(request(1, maximum: 1)) }
    for _ in 0..<10 { gate.signal() }
    #expect(first.finish()?.reason == .length)
    engine.stop()
  }

  @Test("rules that leave no token fail that request alone") func noToken() throws {
    let engine = try hashedEngine()
    var impossible = try request(
      1, sampling: SamplingParameters(temperature: 0, allowedTokens: [9]))
    impossible.constraint = Countdown(tokens: [3])
    let failed = try engine.record(impossible)
    let good = try engine.record(request(2))
    #expect(failed.finish()?.reason == .failed(.sampling(.noTokenAllowed(position: 20))))
    #expect(good.tokens().count == 12)
  }

  @Test("a lost peer fails the step's requests, later ones run") func lostPeer() throws {
    let engine = try hashedEngine(failingSteps: [3])
    let failed = try engine.record(request(4, maximum: 30, choices: 2))
    for choice in 0..<2 {
      #expect(failed.finish(choice: choice)?.reason == .failed(.peerLost(name: "b")))
    }
    #expect(try engine.record(request(5)).finish()?.reason == .length)
    #expect(engine.load.cacheUsage < 1)
  }

  @Test("a model that cannot be loaded stops the engine with the reason") func loadFailure() {
    let engine = Engine { (_) throws -> LoadedModel<HashedExecutor> in throw LoadError() }
    #expect(throws: LoadError.self) { try engine.waitUntilLoaded() }
    #expect(engine.state == .stopped(reason: "no weights here"))
    engine.stop()
  }

  @Test("while the model loads, progress shows and requests are refused") func loading() throws {
    let hold = DispatchSemaphore(value: 0)
    let reported = DispatchSemaphore(value: 0)
    let progress = LoadProgress(loadedByteCount: 3, totalByteCount: 4, seconds: 1)
    let engine = Engine { (report) throws -> LoadedModel<HashedExecutor> in
      report(progress)
      reported.signal()
      hold.wait()
      throw LoadError()
    }
    reported.wait()
    #expect(engine.state == .loading(progress) && engine.model == nil)
    #expect(throws: GenerationFailure.loading) { try engine.record(request(1)) }
    hold.signal()
    engine.stop()
  }
}

private struct LoadError: Error, CustomStringConvertible {
  var description: String { "no weights here" }
}

/// Allows exactly one text.
private struct Countdown: TokenConstraint {
  var tokens: [Int]

  mutating func allowedTokens() -> [UInt64] {
    var words: [UInt64] = [0, 0]
    if let first = tokens.first { words[first / 64] |= 1 << UInt64(first % 64) }
    return words
  }

  mutating func accept(_ token: Int) -> Bool {
    guard token == tokens.first else { return false }
    tokens.removeFirst()
    return true
  }

  var isFinished: Bool { tokens.isEmpty }
}
