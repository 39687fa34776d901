import Dispatch
import Inference
import KVCaching
import Kernels
import Sampling
import Scheduling
import Step3Model
import Synchronization

/// A model made of hashes: what the cache holds at a position is the hash of the prefix up to it,
/// and the logits are drawn from that hash. Wrong tables, copies or positions change the text.
struct HashedExecutor: StepExecutor, ~Copyable {
  static let vocabularySize = 70
  static let endOfSequence = 69
  private var memory: [UInt64]
  private let blockSize: Int
  /// Steps that fail, from 1.
  private let failingSteps: Set<Int>
  private let gate: DispatchSemaphore?
  private var stepCount = 0
  let team: WorkTeam? = WorkTeam(workerCount: 3)

  init(
    capacity: Int, blockSize: Int, failingSteps: Set<Int> = [], gate: DispatchSemaphore? = nil
  ) {
    memory = [UInt64](repeating: 0xDEAD, count: capacity)
    self.blockSize = blockSize
    self.failingSteps = failingSteps
    self.gate = gate
  }

  func encodingRowCount(side: Int) -> Int { side }
  mutating func beginEncoding(_ views: [PixelView]) {}
  mutating func advanceEncoding() -> [VisionFeatures]? { [] }

  mutating func run(
    _ plan: StepPlan, images: [[PlacedFeatures]],
    _ body: ([LogitPosition], borrowing LogitRows) -> Void
  ) throws(FeedForwardError) {
    gate?.wait()
    stepCount += 1
    if failingSteps.contains(stepCount) { throw .peerLost(layer: 2, peer: "b") }
    for copy in plan.copies {
      for offset in 0..<blockSize {
        memory[Int(copy.target) * blockSize + offset] =
          memory[Int(copy.source) * blockSize + offset]
      }
    }
    var positions: [LogitPosition] = []
    var logits: [Float] = []
    for (index, entry) in plan.entries.enumerated() {
      var hash = entry.start > 0 ? memory[slot(entry, entry.start - 1)] : 1
      for (offset, token) in entry.tokens.enumerated() {
        let position = entry.start + offset
        hash = Self.mix(hash &+ UInt64(token))
        memory[slot(entry, position)] = hash
        guard entry.logitPositions.contains(position) else { continue }
        positions.append(LogitPosition(entry: index, position: position))
        logits += Self.logits(hash)
      }
    }
    body(positions, LogitRows(logits: logits.span, width: Self.vocabularySize))
  }

  private func slot(_ entry: StepPlan.Entry, _ position: Int) -> Int {
    Int(entry.blocks[position / blockSize]) * blockSize + position % blockSize
  }

  static func logits(_ hash: UInt64) -> [Float] {
    (0..<vocabularySize).map { Float(mix(hash &+ UInt64($0)) >> 40) / 16_777_216 * 8 - 4 }
  }

  static func mix(_ value: UInt64) -> UInt64 {
    var x = value &+ 0x9E37_79B9_7F4A_7C15
    x = (x ^ x >> 30) &* 0xBF58_476D_1CE4_E5B9
    x = (x ^ x >> 27) &* 0x94D0_49BB_1331_11EB
    return x ^ x >> 31
  }
}

/// An engine on hashes.
func hashedEngine(
  sequences: Int = 8, stepTokens: Int = 64, capacity: Int = 1024, blockSize: Int = 4,
  queued: Int = 100, sharesPrefixes: Bool = true, failingSteps: Set<Int> = [],
  gate: DispatchSemaphore? = nil
) throws -> Engine {
  let limits = try AdmissionLimits(
    sequenceCount: sequences, stepTokenCount: stepTokens, queuedRequestCount: queued)
  let engine = Engine { _ in
    LoadedModel(
      executor: HashedExecutor(
        capacity: capacity, blockSize: blockSize, failingSteps: failingSteps, gate: gate),
      facts: ModelFacts(
        contextLength: 512, vocabularySize: HashedExecutor.vocabularySize,
        endOfSequenceIDs: [HashedExecutor.endOfSequence], cacheCapacityTokens: capacity,
        blockSize: blockSize, weightByteCount: 0, fingerprint: "hash"),
      limits: limits, sharesPrefixes: sharesPrefixes)
  }
  try engine.waitUntilLoaded()
  return engine
}

/// What one request was told, and the end of it to wait for.
final class Recorder: Sendable {
  private let events = Mutex<[GenerationEvent]>([])
  private let ended = DispatchSemaphore(value: 0)
  private let started = DispatchSemaphore(value: 0)
  private let choiceCount: Int

  init(choiceCount: Int = 1) { self.choiceCount = choiceCount }

  func note(_ event: GenerationEvent) {
    let finished = events.withLock { events in
      events.append(event)
      return events.count {
        if case .finished = $0 { true } else { false }
      }
    }
    if case .token = event { started.signal() }
    if finished == choiceCount { ended.signal() }
  }

  /// Blocks until every choice has ended; what was told until then.
  func wait() -> [GenerationEvent] {
    ended.wait()
    ended.signal()
    return events.withLock { $0 }
  }

  func waitForToken() { started.wait() }

  func tokens(choice: Int = 0) -> [GeneratedToken] {
    wait().compactMap {
      if case .token(let token) = $0, token.choice == choice { token } else { nil }
    }
  }

  func finish(choice: Int = 0) -> FinishedChoice? {
    wait().lazy.compactMap {
      if case .finished(let end) = $0, end.choice == choice { end } else { nil }
    }.first
  }

  var prompt: PromptReport? {
    wait().lazy.compactMap { if case .promptProcessed(let report) = $0 { report } else { nil } }
      .first
  }
}

extension Engine {
  /// Submits and records.
  func record(_ request: GenerationRequest) throws -> Recorder {
    let recorder = Recorder(choiceCount: request.choiceCount)
    try submit(request) { recorder.note($0) }
    return recorder
  }
}
