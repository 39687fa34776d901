import Disaggregation
import DisaggregationTestSupport
import Foundation
import Inference
import KVCaching
import Kernels
import ModelConfiguration
import Sampling
import Scheduling
import Step3Model
import Synchronization
import Tensors
import Testing

/// The engine with its scheduler, the exchange, the control plane and the workers as they are in
/// production, on a network with a clock of its own that loses, delays, reorders and repeats, and
/// with nodes that die, hang, leave, return and change their experts, all as a seed says.
@Suite("Whole clusters in simulation")
struct ScheduledSimulationTests {
  /// As many as a test run has time for; `make test-soak` tries thousands.
  private static let seeds: Range<UInt64> = {
    let variable = ProcessInfo.processInfo.environment["STEP3_SIMULATION_SEEDS"]
    #if DEBUG
      let standard: UInt64 = 60
    #else
      let standard: UInt64 = 400
    #endif
    return 0..<(variable.flatMap { UInt64($0) } ?? standard)
  }()

  @Test(
    "every request ends once, tokens are those of one process, nothing leaks, time is bounded")
  func faults() throws {
    let model = try TinyModel(.bfloat16, activation: .bfloat16)
    var expected: [UInt64: [[Int]]] = [:]
    var sums = Findings()
    for seed in Self.seeds {
      let workload = seed % 8
      if expected[workload] == nil {
        expected[workload] = try Workload(workload).runAlone(model)
      }
      let found = try Workload(workload).runRemote(model, seed: seed)
      #expect(found.faults == [], "seed \(seed)")
      #expect(found.tokens == expected[workload], "seed \(seed)")
      sums.failedRequests += found.failedRequests
      sums.resends += found.resends
      sums.mapChanges += found.mapChanges
      sums.copies += found.copies
      sums.lostLinks += found.lostLinks
    }
    // The faults are there, and so is what stands against them.
    #expect(sums.failedRequests > 0 && sums.resends > 0 && sums.lostLinks > 0)
    #expect(sums.mapChanges > 0 && sums.copies > 0)
  }
}

/// What came of a run.
private struct Findings: Sendable {
  var tokens: [[Int]] = []
  var faults: [String] = []
  var failedRequests = 0
  var resends = 0
  var mapChanges = 0
  var copies = 0
  var lostLinks = 0
}

/// Requests that follow from a number.
private struct Workload {
  static let capacity = 256
  static let blockSize = 4
  private let requests: [(prompt: [Int], length: Int, seed: UInt64)]

  init(_ number: UInt64) {
    var generator = SplitMix(seed: number &+ 500)
    requests = (0..<6).map { _ in
      let count = Int.random(in: 1...20, using: &generator)
      return (
        (0..<count).map { _ in Int.random(in: 0..<60, using: &generator) },
        Int.random(in: 2...8, using: &generator), generator.next()
      )
    }
  }

  /// A request, or what is left of it when some tokens have come, as the gateway would go on.
  private func request(_ index: Int, after done: [Int], attempt: Int) throws -> GenerationRequest {
    var request = GenerationRequest(
      id: "\(index).\(attempt)", prompt: requests[index].prompt + done,
      sampling: try SamplingParameters(temperature: index % 2 == 0 ? 0 : 1),
      seed: requests[index].seed, maximumTokens: requests[index].length - done.count,
      ignoreEndOfSequence: true)
    request.resumedTokenCount = done.count
    return request
  }

  private static func engine<Half: FeedForward & SendableMetatype & ~Copyable>(
    _ make: @escaping @Sendable () throws -> ExchangedExecutor<Half>
  ) throws -> Engine {
    let limits = try AdmissionLimits(
      sequenceCount: 6, stepTokenCount: 24, queuedRequestCount: 100)
    let engine = Engine { _ in
      LoadedModel(
        executor: try make(),
        facts: ModelFacts(
          contextLength: 64, vocabularySize: 61, endOfSequenceIDs: [60],
          cacheCapacityTokens: capacity, blockSize: blockSize, weightByteCount: 0,
          fingerprint: "simulated"),
        limits: limits, sharesPrefixes: true)
    }
    try engine.waitUntilLoaded()
    return engine
  }

  /// The tokens of one process that holds everything.
  func runAlone(_ model: TinyModel) throws -> [[Int]] {
    let engine = try Self.engine {
      ExchangedExecutor(model, microBatches: 1, world: nil, through: model.local())
    }
    defer { engine.stop() }
    return try run(engine).tokens
  }

  /// The tokens over a simulated network.
  func runRemote(_ model: TinyModel, seed: UInt64) throws -> Findings {
    let box = WorldBox()
    let engine = try Self.engine {
      let world = try SimulatedCluster(seed: seed, model: model)
      box.put(world)
      return ExchangedExecutor(
        model, microBatches: world.microBatches, world: world,
        through: ServedFeedForward(world.remote))
    }
    var found = try run(engine)
    // What the engine shows follows its events by a moment.
    for _ in 0..<5000 where engine.load.runningRequestCount + engine.load.waitingRequestCount > 0 {
      Thread.sleep(forTimeInterval: 0.0005)
    }
    if engine.load.runningRequestCount + engine.load.waitingRequestCount > 0 {
      found.faults.append("the engine still has requests")
    }
    engine.stop()
    guard let world = box.take() else { return found }
    let end = world.network.now
    // Four faults of half a second at most, and the deadlines that follow each.
    if end > .seconds(20) { found.faults.append("it took \(end)") }
    found.faults += world.leaks()
    found.resends = world.remote.statistics.traffic.reduce(0) { $0 + $1.resendCount }
    found.lostLinks = world.remote.statistics.lostLinkCount
    found.mapChanges = world.mapChangeCount
    found.copies = world.hasCopies ? 1 : 0
    return found
  }

  /// Asks for everything at once, and goes on with what failed.
  private func run(_ engine: Engine) throws -> Findings {
    var found = Findings()
    found.tokens = requests.map { _ in [] }
    var open = Array(requests.indices)
    for attempt in 0..<60 where !open.isEmpty {
      let listeners = open.map { _ in Listener() }
      for (index, listener) in zip(open, listeners) {
        let rest = try request(index, after: found.tokens[index], attempt: attempt)
        try engine.submit(rest) { listener.note($0) }
      }
      var failed: [Int] = []
      for (index, listener) in zip(open, listeners) {
        let (tokens, ends, failure) = listener.wait()
        if ends != 1 { found.faults.append("request \(index) ended \(ends) times") }
        if let failure {
          failed.append(index)
          if attempt == 59 { found.faults.append("the last failure: \(failure)") }
          found.failedRequests += 1
        }
        found.tokens[index] += tokens
      }
      open = failed
    }
    if !open.isEmpty { found.faults.append("\(open.count) requests never came through") }
    return found
  }
}

/// The tokens and the ends of a request.
private final class Listener: Sendable {
  private struct State {
    var tokens: [Int] = []
    var ends = 0
    var failure: GenerationFailure?
  }

  private let state = Mutex(State())

  func note(_ event: GenerationEvent) {
    state.withLock { state in
      switch event {
      case .token(let token): state.tokens.append(token.id)
      case .finished(let end):
        state.ends += 1
        if case .failed(let failure) = end.reason { state.failure = failure }
      default: break
      }
    }
  }

  func wait() -> (tokens: [Int], ends: Int, failure: GenerationFailure?) {
    while state.withLock({ $0.ends == 0 }) { Thread.sleep(forTimeInterval: 0.0002) }
    return state.withLock { ($0.tokens, $0.ends, $0.failure) }
  }
}

/// A model whose attention half is a hash of the prefix, kept in cache slots as keys would be, and
/// whose feed-forward halves are a tiny model's first layers.
private struct ExchangedExecutor<Half: FeedForward & SendableMetatype & ~Copyable>: StepExecutor,
  ~Copyable
{
  private var memory = [UInt64](repeating: 0xDEAD, count: Workload.capacity)
  private var batches: [Box]
  private var half: Half
  private let layers: [FeedForwardLayer]
  private let columns: Int
  private let expertCount: Int
  private let world: SimulatedCluster?

  /// A micro-batch, which cannot stand in an array itself.
  private final class Box {
    var batch: MicroBatch
    var rows: [Int] = []
    init(_ batch: consuming MicroBatch) { self.batch = batch }
  }

  init(
    _ model: TinyModel, microBatches: Int, world: SimulatedCluster?, through half: consuming Half
  ) {
    batches = (0..<microBatches).map { index in
      Box(
        MicroBatch(
          tokenLimit: TinyModel.tokenLimit, configuration: model.configuration,
          activation: model.activation, compute: model.compute, index: index))
    }
    self.half = half
    layers = Array(model.layers.prefix(SimulatedCluster.layerCount))
    columns = model.configuration.hiddenSize
    expertCount = model.configuration.expertCount
    self.world = world
  }

  func encodingRowCount(side: Int) -> Int { side }
  mutating func beginEncoding(_ views: [PixelView]) {}
  mutating func advanceEncoding() -> [VisionFeatures]? { [] }

  mutating func run(
    _ plan: StepPlan, images: [[PlacedFeatures]],
    _ body: ([LogitPosition], borrowing LogitRows) -> Void
  ) throws(FeedForwardError) {
    world?.beginStep()
    for copy in plan.copies {
      for offset in 0..<Workload.blockSize {
        memory[Int(copy.target) * Workload.blockSize + offset] =
          memory[Int(copy.source) * Workload.blockSize + offset]
      }
    }
    var states: [UInt64] = []
    for entry in plan.entries {
      var hash = entry.start > 0 ? memory[slot(entry, entry.start - 1)] : 1
      for (offset, token) in entry.tokens.enumerated() {
        hash = Self.mix(hash &+ UInt64(token))
        memory[slot(entry, entry.start + offset)] = hash
        states.append(hash)
      }
    }
    try exchange(&states)
    var positions: [LogitPosition] = []
    var logits: [Float] = []
    var row = 0
    for (index, entry) in plan.entries.enumerated() {
      for position in entry.start..<entry.end {
        if entry.logitPositions.contains(position) {
          positions.append(LogitPosition(entry: index, position: position))
          logits += (0..<61).map { Float(Self.mix(states[row] &+ UInt64($0)) >> 40) / 2e6 }
        }
        row += 1
      }
    }
    body(positions, LogitRows(logits: logits.span, width: 61))
  }

  /// Runs the rows through the feed-forward halves, in micro-batches.
  private mutating func exchange(_ states: inout [UInt64]) throws(FeedForwardError) {
    let count = min(batches.count, states.count)
    for m in 0..<count {
      batches[m].rows = Array(m * states.count / count..<(m + 1) * states.count / count)
      batches[m].batch.tokens = batches[m].rows.map { Int32($0) }
    }
    for layer in layers.indices {
      for m in 0..<count {
        if layer > 0 { try collect(layer - 1, m, &states) }
        fill(m, layer, states)
        try half.submit(LayerIndex(layer), batches[m].batch)
      }
    }
    for m in 0..<count { try collect(layers.count - 1, m, &states) }
  }

  private mutating func collect(
    _ layer: Int, _ m: Int, _ states: inout [UInt64]
  ) throws(FeedForwardError) {
    try half.collect(LayerIndex(layer), into: &batches[m].batch)
    for (place, row) in batches[m].rows.enumerated() {
      for column in 0..<columns {
        let bits = batches[m].batch.feedForwardOutput[place * columns + column].bitPattern
        states[row] = Self.mix(states[row] ^ UInt64(bits))
      }
    }
  }

  /// The half's input: values and experts that follow from the rows' states.
  private func fill(_ m: Int, _ layer: Int, _ states: [UInt64]) {
    for (place, row) in batches[m].rows.enumerated() {
      for column in 0..<columns {
        let bits = Self.mix(states[row] &+ UInt64(column + 1000 * layer))
        batches[m].batch.normed[place * columns + column] =
          Float(Int8(truncatingIfNeeded: bits)) / 64
      }
      let topK = batches[m].batch.routing.expertsPerToken
      let first = Int(states[row] % UInt64(expertCount))
      for choice in 0..<topK {
        // Low experts more often, so that balancing has something to do.
        let expert = (first * first / expertCount + choice) % expertCount
        batches[m].batch.routing.experts[place * topK + choice] = Int32(expert)
        world?.count(expert: expert)
        batches[m].batch.routing.weights[place * topK + choice] = 0.5 / Float(1 + choice)
      }
    }
  }

  private func slot(_ entry: StepPlan.Entry, _ position: Int) -> Int {
    Int(entry.blocks[position / Workload.blockSize]) * Workload.blockSize
      + position % Workload.blockSize
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var x = value &+ 0x9E37_79B9_7F4A_7C15
    x = (x ^ x >> 30) &* 0xBF58_476D_1CE4_E5B9
    x = (x ^ x >> 27) &* 0x94D0_49BB_1331_11EB
    return x ^ x >> 31
  }
}
