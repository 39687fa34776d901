import Dispatch
import Sampling
import Scheduling
import Synchronization

/// Receives what a request's sequences generate; called on the engine's thread.
package typealias EventHandler = @Sendable (GenerationEvent) -> Void

/// What the edges ask of the engine's thread.
enum EngineMessage: Sendable {
  case submit(GenerationRequest, EventHandler)
  case cancel(String)
  case cancelChoice(String, Int)
  /// End everything and leave the thread.
  case stop
}

/// The one place where the edges' threads and the engine's meet: messages in, snapshots out.
///
/// The engine's thread sleeps on a semaphore while it has nothing to do, at no cost; it never waits
/// for the lock longer than a message takes to be appended.
final class Mailbox: Sendable {
  private struct Content {
    var messages: [EngineMessage] = []
    /// Requests among the messages that the loop has not seen.
    var unseenRequestCount = 0
    /// Tokens of their prompts.
    var unseenTokenCount = 0
    var liveIDs: Set<String> = []
    var model: ModelFacts?
    var state: EngineState
    var load = EngineLoad()
    var queueLimit = 0
    var queuedTokenLimit = Int.max
    var allowsPriority = false
    var loadError: (any Error)?
  }

  private let content: Mutex<Content>
  private let wakeUps = DispatchSemaphore(value: 0)
  private let loaded = DispatchSemaphore(value: 0)

  init() {
    content = Mutex(
      Content(state: .loading(LoadProgress(loadedByteCount: 0, totalByteCount: 0, seconds: 0))))
  }

  // MARK: The edges' side

  var model: ModelFacts? { content.withLock { $0.model } }
  var state: EngineState { content.withLock { $0.state } }
  var load: EngineLoad {
    content.withLock {
      var load = $0.load
      load.waitingRequestCount += $0.unseenRequestCount
      return load
    }
  }

  /// Waits for the end of loading; throws what it threw.
  func waitUntilLoaded() throws {
    loaded.wait()
    loaded.signal()
    if let error = content.withLock({ $0.loadError }) { throw error }
  }

  /// Checks a request and queues it.
  func submit(
    _ request: GenerationRequest, _ handler: @escaping EventHandler
  ) throws(GenerationFailure) {
    let failure: GenerationFailure? = content.withLock { content in
      if let failure = Self.refusal(of: request, content) { return failure }
      content.liveIDs.insert(request.id)
      content.unseenRequestCount += 1
      content.unseenTokenCount += request.prompt.count
      content.messages.append(.submit(request, handler))
      return nil
    }
    if let failure { throw failure }
    wakeUps.signal()
  }

  func post(_ message: EngineMessage) {
    content.withLock { $0.messages.append(message) }
    wakeUps.signal()
  }

  /// Takes nothing new from now on, unless it is over already.
  func drain() {
    content.withLock { content in
      switch content.state {
      case .loading, .ready: content.state = .draining
      case .draining, .stopped: break
      }
    }
  }

  private static func refusal(
    of request: GenerationRequest, _ content: Content
  ) -> GenerationFailure? {
    switch content.state {
    case .loading: return .loading
    case .draining: return .draining
    case .stopped: return .engineStopped
    case .ready: break
    }
    guard let facts = content.model else { return .loading }
    if let failure = request.failure(facts) { return failure }
    if content.liveIDs.contains(request.id) { return .duplicateID }
    if request.priority != 0 && !content.allowsPriority {
      return .priorityUnsupported(priority: request.priority)
    }
    guard content.load.waitingRequestCount + content.unseenRequestCount < content.queueLimit
    else {
      return .queueFull(
        limit: content.queueLimit, retryAfterSeconds: content.load.estimatedQueueSeconds)
    }
    // A request that nobody waits before is taken, however long it is.
    let waitingTokenCount = content.load.waitingTokenCount + content.unseenTokenCount
    guard
      waitingTokenCount == 0
        || waitingTokenCount <= content.queuedTokenLimit - request.prompt.count
    else {
      return .queuedTokensFull(
        limit: content.queuedTokenLimit,
        retryAfterSeconds: content.load.estimatedQueueSeconds)
    }
    return nil
  }

  // MARK: The engine's side

  /// Takes the messages; sleeps until there are some when `isIdle`, for `interval` if given.
  func take(isIdle: Bool, atMost interval: Duration? = nil) -> [EngineMessage] {
    if isIdle, let interval {
      let nanoseconds = Int(interval / .nanoseconds(1))
      _ = wakeUps.wait(timeout: .now() + .nanoseconds(nanoseconds))
    } else if isIdle {
      wakeUps.wait()
    }
    return content.withLock { content in
      defer {
        content.messages = []
        // Counted as waiting until the loop publishes; see `publish`.
        content.load.waitingRequestCount += content.unseenRequestCount
        content.unseenRequestCount = 0
        content.load.waitingTokenCount += content.unseenTokenCount
        content.unseenTokenCount = 0
      }
      return content.messages
    }
  }

  func report(_ progress: LoadProgress) {
    content.withLock { content in
      if case .loading = content.state { content.state = .loading(progress) }
    }
  }

  /// Opens for requests, unless draining has begun while the model was loading.
  func open(_ facts: ModelFacts, limits: AdmissionLimits) {
    content.withLock { content in
      content.model = facts
      content.queueLimit = limits.queuedRequestCount
      content.queuedTokenLimit = limits.queuedTokenCount
      content.allowsPriority = limits.handicapPerPriority != nil
      if case .loading = content.state { content.state = .ready }
    }
    loaded.signal()
  }

  func fail(_ error: any Error) {
    content.withLock { content in
      content.state = .stopped(reason: "\(error)")
      content.loadError = error
    }
    loaded.signal()
  }

  /// Closes for good and returns what came too late.
  func close(reason: String) -> [EngineMessage] {
    content.withLock { content in
      content.state = .stopped(reason: reason)
      content.load.waitingRequestCount = 0
      content.unseenRequestCount = 0
      defer { content.messages = [] }
      return content.messages
    }
  }

  func publish(_ load: EngineLoad) { content.withLock { $0.load = load } }

  func forget(_ id: String) { _ = content.withLock { $0.liveIDs.remove(id) } }
}

extension EngineLoad {
  /// When half of what waits should have been processed: from one second to ten minutes.
  var estimatedQueueSeconds: Int {
    guard stepSeconds > 0, stepTokenCount > 0 else { return 1 }
    let tokensPerSecond = Double(stepTokenCount) / stepSeconds
    return Int(min(600, max(1, (Double(waitingTokenCount) / 2 / tokensPerSecond).rounded(.up))))
  }
}

extension GenerationRequest {
  /// Why a model with these facts can never run the request.
  package func failure(_ facts: ModelFacts) -> GenerationFailure? {
    precondition(choiceCount > 0 && maximumTokens >= 0, "request \(id) asks for nothing")
    if prompt.isEmpty { return .emptyPrompt }
    guard prompt.count <= facts.contextLength - maximumTokens else {
      return .contextTooLong(
        promptTokenCount: prompt.count, maximumTokens: maximumTokens,
        contextLength: facts.contextLength)
    }
    let needed = prompt.count + max(0, maximumTokens - 1)
    guard needed <= facts.cacheCapacityTokens else {
      return .cacheTooSmall(neededTokens: needed, availableTokens: facts.cacheCapacityTokens)
    }
    let range = 0..<facts.vocabularySize
    for tokens in [prompt, stopTokenIDs, thinkEnd] {
      if let bad = tokens.first(where: { !range.contains($0) }) {
        return .tokenOutOfRange(id: bad, vocabularySize: facts.vocabularySize)
      }
    }
    do throws(SamplingError) {
      try sampling.validate(vocabularyCount: facts.vocabularySize)
    } catch { return .sampling(error) }
    return nil
  }
}
