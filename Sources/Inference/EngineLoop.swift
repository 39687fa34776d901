import KVCaching
import Sampling
import Scheduling
import Step3Model

/// The heartbeat: drain the mailbox → schedule → forward → sample → publish.
///
/// Everything in here belongs to one thread, which blocks nowhere but in an empty mailbox.
final class EngineLoop<Executor: StepExecutor & ~Copyable> {
  private var executor: Executor
  private let facts: ModelFacts
  private let mailbox: Mailbox
  private var scheduler: Scheduler
  private var sampler: Sampler
  /// Requests by the scheduler's number; looked up, walked only in order of number.
  private var requests: [Int: RequestRuntime] = [:]
  private var numbers: [String: Int] = [:]
  private var nextNumber = 0
  private var images: ImageStage
  private var load = EngineLoad()
  private let clock = ContinuousClock()
  private let origin: ContinuousClock.Instant
  private var isStopping = false

  init(_ model: consuming LoadedModel<Executor>, mailbox: Mailbox) {
    facts = model.facts
    let pool = BlockPool(
      blockCount: model.facts.cacheCapacityTokens / model.facts.blockSize,
      blockSize: model.facts.blockSize, isPrefixCachingEnabled: model.sharesPrefixes)
    scheduler = Scheduler(limits: model.limits, pool: pool)
    sampler = Sampler(vocabularyCount: model.facts.vocabularySize)
    images = ImageStage(cacheByteCount: model.featureCacheByteCount)
    executor = model.executor
    self.mailbox = mailbox
    origin = clock.now
  }

  /// Runs until it is told to stop.
  func run() {
    while !isStopping {
      let isIdle = scheduler.isIdle && images.isIdle
      for message in mailbox.take(isIdle: isIdle, atMost: executor.idleInterval) {
        handle(message)
      }
      if isIdle { executor.idle() }
      if !images.isIdle { encode() }
      deliverEnds()
      if !isStopping, let plan = scheduler.plan() { perform(plan) }
      publish()
    }
    for number in requests.keys.sorted() { cancel(number) }
    deliverEnds()
    publish()
    for case .submit(let request, let handler) in mailbox.close(reason: "stopped") {
      Self.refuse(request, .engineStopped, handler)
    }
  }

  private var now: Duration { clock.now - origin }

  // MARK: Messages

  private func handle(_ message: EngineMessage) {
    switch message {
    case .submit(let request, let handler): start(request, handler)
    case .cancel(let id):
      if let number = numbers[id] { cancel(number) }
    case .cancelChoice(let id, let choice):
      if let number = numbers[id], !images.contains(number) {
        scheduler.cancel(SequenceID(request: number, choice: choice))
      }
    case .stop: isStopping = true
    }
  }

  private func start(_ request: GenerationRequest, _ handler: @escaping EventHandler) {
    let number = nextNumber
    nextNumber += 1
    var runtime = RequestRuntime(request, facts: facts, now: now, handler: handler)
    // An answer that was over when it was handed on, before anybody was told.
    if request.resumedTokenCount > 0, let reason = runtime.choices[0].finishReason {
      mailbox.forget(request.id)
      runtime.finish(0, reason)
      return
    }
    numbers[request.id] = number
    requests[number] = runtime
    if request.images.isEmpty { enqueue(number) } else { images.add(number, request.images) }
  }

  /// Hands a request to the scheduler.
  private func enqueue(_ number: Int) {
    guard let runtime = requests[number] else { return }
    let request = runtime.request
    let contents = request.images.map {
      PrefixIdentity.Content(positions: $0.positions, digest: $0.image.digest)
    }
    do throws(AdmissionRefusal) {
      try scheduler.submit(
        SchedulingRequest(
          id: number, prompt: request.prompt, maximumTokens: request.maximumTokens,
          choiceCount: request.choiceCount, priority: request.priority,
          identity: PrefixIdentity(salt: request.cacheSalt, contents: contents),
          needsPromptLogits: request.promptLogprobCount != nil),
        now: now)
    } catch {
      forget(number)
      Self.refuse(request, GenerationFailure(error, load), runtime.handler)
    }
  }

  private func forget(_ number: Int) {
    guard let request = requests.removeValue(forKey: number)?.request else { return }
    numbers[request.id] = nil
    mailbox.forget(request.id)
  }

  /// Encodes a piece of the images that requests wait for; those that are complete are scheduled.
  private func encode() {
    for (number, features) in images.advance(&executor) {
      requests[number]?.features = features
      enqueue(number)
    }
  }

  /// Ends a request wherever it stands.
  private func cancel(_ number: Int) {
    guard images.contains(number), var runtime = requests[number] else {
      scheduler.cancel(request: number)
      return
    }
    images.remove(number)
    forget(number)
    for choice in 0..<runtime.request.choiceCount { runtime.finish(choice, .aborted) }
  }

  /// Ends a request that never began.
  private static func refuse(
    _ request: GenerationRequest, _ failure: GenerationFailure, _ handler: EventHandler
  ) {
    for choice in 0..<request.choiceCount {
      handler(
        .finished(
          FinishedChoice(choice: choice, reason: .failed(failure), generatedTokenCount: 0)))
    }
  }

  // MARK: A step

  private func perform(_ plan: StepPlan) {
    let began = now
    for entry in plan.entries { requests[entry.sequence.request]?.start(began) }
    for sequence in plan.preempted { requests[sequence.request]?.preemptionCount += 1 }
    // Published before the step too: the queue has shrunk, and the step may take long.
    publish()
    var samples = plan.entries.map { entry in
      entry.samplers.map { StepOutcome.Sample(sequence: $0, tokens: [], isFinished: false) }
    }
    do throws(FeedForwardError) {
      let features = plan.entries.map { requests[$0.sequence.request]?.features ?? [] }
      try executor.run(plan, images: features) { entry, position, logits in
        use(logits, at: position, of: plan.entries[entry], &samples[entry])
      }
    } catch {
      abandon(plan, GenerationFailure(error))
      return
    }
    // Prompts that nobody samples from, because no token was asked for.
    for entry in plan.entries where entry.completesPrompt { reportPrompt(entry) }
    scheduler.apply(StepOutcome(samples: samples.flatMap { $0 }))
    load.stepCount += 1
    load.stepTokenCount += plan.tokenCount
    load.noteStep(ofTokens: plan.tokenCount)
    load.stepSeconds += (now - began).seconds
    deliverEnds()
  }

  /// Scores the prompt and lets the samplers choose by one row of logits.
  private func use(
    _ logits: Span<Float>, at position: Int, of entry: StepPlan.Entry,
    _ samples: inout [StepOutcome.Sample]
  ) {
    let number = entry.sequence.request
    do throws(SamplingError) {
      try requests[number]?.score(logits, at: position, &sampler)
    } catch {
      requests[number]?.failure = .sampling(error)
    }
    let firstRow = entry.end - entry.draftCount - 1
    guard position >= firstRow, !entry.samplers.isEmpty else { return }
    if position == firstRow && entry.completesPrompt { reportPrompt(entry) }
    for index in samples.indices where !samples[index].isFinished {
      // A guess that was wrong ends the verification: the rows after it are of another text.
      let accepted = samples[index].tokens
      guard accepted.count == position - firstRow,
        accepted.isEmpty || accepted.last == entry.tokens[position - entry.start]
      else { continue }
      choose(logits, number, &samples[index])
    }
  }

  private func choose(
    _ logits: Span<Float>, _ number: Int, _ sample: inout StepOutcome.Sample
  ) {
    let choice = sample.sequence.choice
    guard requests[number]?.failure == nil else {
      sample.isFinished = true
      return
    }
    do throws(SamplingError) {
      guard let token = try requests[number]?.choices[choice].next(logits, &sampler) else { return }
      sample.tokens.append(token.id)
      sample.isFinished = requests[number]?.choices[choice].finishReason != nil
      requests[number]?.handler(
        .token(GeneratedToken(choice: choice, id: token.id, logprobs: token.logprobs)))
    } catch {
      requests[number]?.failure = .sampling(error)
      sample.isFinished = true
    }
  }

  private func reportPrompt(_ entry: StepPlan.Entry) {
    requests[entry.sequence.request]?.reportPrompt(cachedCount: entry.cachedCount, now: now)
  }

  /// Ends the requests of a step that could not be computed.
  private func abandon(_ plan: StepPlan, _ failure: GenerationFailure) {
    scheduler.abandonStep()
    for entry in plan.entries {
      requests[entry.sequence.request]?.failure = failure
      // Its other choices have lost their answer too.
      scheduler.cancel(request: entry.sequence.request)
    }
    deliverEnds()
  }

  // MARK: News

  private func deliverEnds() {
    for end in scheduler.takeEnded() {
      let number = end.id.request
      guard var request = requests[number] else { continue }
      requests[number] = nil
      let reason = reason(of: end, request)
      // The name is free before the last event tells so.
      if request.openChoiceCount == 1 {
        numbers[request.request.id] = nil
        mailbox.forget(request.request.id)
      }
      request.finish(end.id.choice, reason)
      if request.openChoiceCount > 0 { requests[number] = request }
    }
  }

  private func reason(of end: EndedSequence, _ request: RequestRuntime) -> FinishReason {
    if let failure = request.failure { return .failed(failure) }
    return switch end.reason {
    case .stopped: request.choices[end.id.choice].finishReason ?? .aborted
    case .length: .length
    case .cancelled: .aborted
    }
  }

  private func publish() {
    let metrics = scheduler.metrics
    load.runningRequestCount = metrics.runningRequestCount
    load.waitingRequestCount = metrics.waitingRequestCount + images.requestCount
    load.waitingTokenCount = metrics.waitingTokenCount
    load.cacheUsage = metrics.cacheUsage
    load.preemptionCount = metrics.preemptionCount
    load.prefixCacheQueriedTokenCount = metrics.queriedTokenCount
    load.prefixCacheHitTokenCount = metrics.hitTokenCount
    load.missingPeers = executor.missingPeers
    mailbox.publish(load)
  }
}

extension GenerationFailure {
  /// What a refusal of the scheduler means to the request.
  init(_ refusal: AdmissionRefusal, _ load: EngineLoad) {
    self =
      switch refusal {
      case .queueFull(let limit, _):
        .queueFull(limit: limit, retryAfterSeconds: load.estimatedQueueSeconds)
      case .queuedTokensFull(let limit, _):
        .queuedTokensFull(limit: limit, retryAfterSeconds: load.estimatedQueueSeconds)
      case .cacheTooSmall(let needed, let available):
        .cacheTooSmall(neededTokens: needed, availableTokens: available)
      case .priorityUnsupported(let priority): .priorityUnsupported(priority: priority)
      }
  }

  /// What a failure beyond the cut means to the request.
  init(_ error: FeedForwardError) {
    self =
      switch error {
      case .timedOut(let layer, _): .peerLost(name: "of layer \(layer)")
      case .peerLost(_, let peer): .peerLost(name: peer)
      case .refused(_, let peer, let reason): .peerLost(name: "\(peer), which says: \(reason),")
      case .outOfSlots(let reason): .peerLost(name: "that takes what is sent (\(reason))")
      }
  }
}
