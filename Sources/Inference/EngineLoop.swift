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
  private let sampling: SamplingStage
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
    sampling = SamplingStage(
      vocabularyCount: model.facts.vocabularySize, team: model.executor.team)
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
      try executor.run(plan, images: features) { positions, rows in
        let jobs = jobs(positions, plan, samples)
        sampling.run(jobs, rows)
        for job in jobs { use(job, of: plan.entries[job.entry], &samples[job.entry]) }
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

  /// What the requests do with rows of logits, in the order of the rows.
  private func jobs(
    _ positions: [LogitPosition], _ plan: StepPlan, _ samples: [[StepOutcome.Sample]]
  ) -> [SamplingJob] {
    var jobs: [SamplingJob] = []
    var row = 0
    while row < positions.count {
      let index = positions[row].entry
      let entry = plan.entries[index]
      let firstToChoose = entry.end - entry.draftCount - 1
      let request = requests[entry.sequence.request]
      var rows: [SamplingJob.Row] = []
      var position = positions[row].position
      while row < positions.count, positions[row].entry == index {
        position = positions[row].position
        if let task = request?.scoring(after: position, row: row) {
          jobs.append(SamplingJob(entry: index, task))
        }
        if position >= firstToChoose {
          let isGuess = position > firstToChoose
          rows.append(
            SamplingJob.Row(
              index: row, guess: isGuess ? entry.tokens[position - entry.start] : nil))
        }
        row += 1
      }
      guard let request, !rows.isEmpty else { continue }
      let before = position - firstToChoose - rows.count + 1
      for (sampler, sample) in samples[index].enumerated()
      where !sample.isFinished && sample.tokens.count == before {
        jobs.append(
          SamplingJob(
            entry: index, previous: sample.tokens.last,
            .choose(sampler: sampler, request.choices[sample.sequence.choice], rows: rows)))
      }
    }
    return jobs
  }

  /// Tells the requests what came of a job.
  private func use(
    _ job: SamplingJob, of entry: StepPlan.Entry, _ samples: inout [StepOutcome.Sample]
  ) {
    let number = entry.sequence.request
    if let error = job.error { requests[number]?.failure = .sampling(error) }
    switch job.task {
    case .score(_, let position, _, _):
      if let report = job.report { requests[number]?.note(report, at: position) }
    case .choose(let sampler, let sequence, _):
      if entry.completesPrompt { reportPrompt(entry) }
      guard requests[number]?.failure == nil else {
        samples[sampler].isFinished = true
        return
      }
      for token in job.tokens {
        samples[sampler].tokens.append(token.id)
        requests[number]?.handler(
          .token(
            GeneratedToken(
              choice: samples[sampler].sequence.choice, id: token.id, logprobs: token.logprobs)))
      }
      samples[sampler].isFinished = sequence.finishReason != nil
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
    load.expertTokens = executor.expertTokens
    load.imageQueryCount = images.queryCount
    load.imageHitCount = images.hitCount
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
