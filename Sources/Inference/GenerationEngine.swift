/// The engine as the edges see it: a mailbox for requests and a source of events.
///
/// The server and the command line talk to nothing else, and tests put a scripted one in its place.
package protocol GenerationEngine: Sendable {
  /// Facts of the loaded model, nil while it loads.
  var model: ModelFacts? { get }

  /// How far loading has come.
  var state: EngineState { get }

  /// What the engine is doing now, for `/load` and the metrics.
  var load: EngineLoad { get }

  /// Queues a request, or says at once why it cannot be.
  ///
  /// `onEvent` is called from the engine's thread, in order, and must return at once: it may store
  /// the event and wake somebody, nothing else. After the last choice's `finished` event it is
  /// released.
  func submit(
    _ request: GenerationRequest, onEvent: @escaping @Sendable (GenerationEvent) -> Void
  ) throws(GenerationFailure)

  /// Ends a request within one step; its choices finish with `aborted`. Unknown ids are ignored,
  /// for the request may have finished meanwhile.
  func cancel(_ id: String)

  /// Ends one choice of a request within one step, as when a stop string was found in its text.
  func cancel(_ id: String, choice: Int)

  /// Takes no new requests from now on; those in flight go on.
  func drain()

  /// The processes that this one depends on; none for an engine of its own.
  var peers: [EnginePeer] { get }

  /// How often requests have gone on at another process; nil where there is only one.
  var failoverCount: Int? { get }
}

extension GenerationEngine {
  /// An engine of its own has no peers.
  package var peers: [EnginePeer] { [] }
  /// An engine of its own has nowhere to go on.
  package var failoverCount: Int? { nil }
}

/// A process that an engine depends on.
package struct EnginePeer: Sendable, Equatable {
  /// Its name in the cluster file.
  package var id: String
  /// What it does: "attention" or "ffn".
  package var role: String
  /// Whether it takes part.
  package var isUp: Bool
  /// Whether nothing works while it is missing, for no other stands in.
  package var isNeeded: Bool
  /// Why it does not take part; empty when it does.
  package var reason: String

  /// A peer and how it stands.
  package init(id: String, role: String, isUp: Bool, isNeeded: Bool, reason: String = "") {
    self.id = id
    self.role = role
    self.isUp = isUp
    self.isNeeded = isNeeded
    self.reason = reason
  }
}

/// Facts of a loaded model that requests are checked against.
package struct ModelFacts: Sendable, Equatable {
  /// Prompt and answer together may hold this many tokens.
  package var contextLength: Int
  /// Token ids lie in 0..<vocabularySize.
  package var vocabularySize: Int
  /// Ids that end an answer.
  package var endOfSequenceIDs: [Int]
  /// How many positions the KV cache holds, over all requests.
  package var cacheCapacityTokens: Int
  /// Positions per block of the KV cache.
  package var blockSize: Int
  /// Bytes of weights.
  package var weightByteCount: Int
  /// A short hash of weights and configuration, for `system_fingerprint`.
  package var fingerprint: String

  package init(
    contextLength: Int, vocabularySize: Int, endOfSequenceIDs: [Int], cacheCapacityTokens: Int,
    blockSize: Int, weightByteCount: Int, fingerprint: String
  ) {
    self.contextLength = contextLength
    self.vocabularySize = vocabularySize
    self.endOfSequenceIDs = endOfSequenceIDs
    self.cacheCapacityTokens = cacheCapacityTokens
    self.blockSize = blockSize
    self.weightByteCount = weightByteCount
    self.fingerprint = fingerprint
  }
}

/// Where the engine stands between start and end.
package enum EngineState: Sendable, Equatable {
  /// Weights are being read.
  case loading(LoadProgress)
  /// Requests are served.
  case ready
  /// Requests in flight are finished, new ones refused.
  case draining
  /// The engine cannot serve any more, or could not be loaded.
  case stopped(reason: String)
}

/// How much of the weights has been read.
package struct LoadProgress: Sendable, Equatable {
  /// Bytes read so far, and in all.
  package var loadedByteCount: Int
  package var totalByteCount: Int
  /// Seconds since loading began.
  package var seconds: Double

  package init(loadedByteCount: Int, totalByteCount: Int, seconds: Double) {
    self.loadedByteCount = loadedByteCount
    self.totalByteCount = totalByteCount
    self.seconds = seconds
  }

  /// The share that has been read, 0...1.
  package var fraction: Double {
    totalByteCount > 0 ? min(1, Double(loadedByteCount) / Double(totalByteCount)) : 0
  }

  /// Seconds left if the rest goes as fast as what is done, nil before anything is known.
  package var estimatedSecondsLeft: Double? {
    fraction > 0 ? seconds * (1 - fraction) / fraction : nil
  }
}

/// What an engine is doing, and what it has done since it started.
package struct EngineLoad: Sendable, Equatable {
  /// Requests that are computed, and that wait.
  package var runningRequestCount = 0
  package var waitingRequestCount = 0
  /// Tokens of the prompts that wait.
  package var waitingTokenCount = 0
  /// Share of the cache's blocks in use, 0...1.
  package var cacheUsage = 0.0
  package var preemptionCount = 0
  package var prefixCacheQueriedTokenCount = 0
  package var prefixCacheHitTokenCount = 0
  /// Steps run since the start.
  package var stepCount = 0
  /// Tokens processed in all steps, prompt and generated together.
  package var stepTokenCount = 0
  /// Seconds spent in steps.
  package var stepSeconds = 0.0
  /// Peers that hold part of the model and cannot be reached now.
  package var missingPeers: [String] = []
  /// Tokens by the experts they were sent to.
  package var expertTokens = ExpertTokens()
  /// Images looked up among those whose features are kept, and those of them that were found.
  package var imageQueryCount = 0
  package var imageHitCount = 0
  /// Steps by their number of tokens: entry i counts those of at most `stepTokenBounds[i]` and of
  /// more than the bound before it, the last entry the rest.
  package private(set) var stepSizes = [Int](repeating: 0, count: stepTokenBounds.count + 1)

  /// The bounds of `stepSizes`.
  package static let stepTokenBounds = [
    1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384,
  ]

  /// Counts a step of `count` tokens by its size.
  mutating func noteStep(ofTokens count: Int) {
    let index = Self.stepTokenBounds.firstIndex { count <= $0 } ?? Self.stepTokenBounds.count
    stepSizes[index] += 1
  }

  package init() {}
}

/// How many tokens went to each expert of each layer since the start.
package struct ExpertTokens: Sendable, Equatable {
  /// Experts of a layer; 0 for a model without any.
  package var expertCount = 0
  /// Tokens, [layers, experts]; zeros for layers without a router.
  package var counts: [Int] = []

  package init(expertCount: Int = 0, counts: [Int] = []) {
    self.expertCount = expertCount
    self.counts = counts
  }

  /// Tokens by expert, all layers together, [expertCount]; zeros before the first step.
  package func ofAllLayers(expertCount: Int) -> [Int] {
    var sum = Array(repeating: 0, count: expertCount)
    guard expertCount > 0 else { return sum }
    for (place, count) in counts.enumerated() { sum[place % expertCount] += count }
    return sum
  }
}
