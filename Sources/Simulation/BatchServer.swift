import KVCaching
import Scheduling

/// Something that happened to a request on a server, `step` steps into the advance.
struct ServerEvent {
  enum Kind {
    case firstToken
    case finished
  }

  let request: Int
  let kind: Kind
  let step: Int
}

/// One attention server: it batches requests and advances them by decoding steps.
///
/// Two kinds exist. `SchedulerServer` runs the scheduler of the real server, step by step and block
/// by block. `CountingServer` follows the same rules (strict order of arrival, admission when the
/// tokens fit, the latest arrival gives way) on counts alone, many steps at once; a test holds the
/// two together.
protocol BatchServer {
  /// Sequences that decode, their cached tokens, and requests that wait for a place.
  var runningCount: Int { get }
  var cachedTokenCount: Int { get }
  var waitingCount: Int { get }
  var preemptionCount: Int { get }

  /// Queues a request whose prompt is already processed elsewhere.
  mutating func submit(_ id: Int, promptCount: Int, outputCount: Int, now: Double)
  /// Lets in what fits; must be called before loads are read for a step.
  mutating func admit()
  /// Decodes `count` steps.
  mutating func advance(by count: Int, into events: inout [ServerEvent])
  /// Loses everything, as by a crash: ids with the tokens they had and still want.
  mutating func drain() -> [(id: Int, held: Int, wanted: Int)]
}

/// Bounds of one server.
struct ServerLimits {
  let sequenceCount: Int
  let tokenCapacity: Int
  static let blockSize = 64
}

/// A server that decides by the real scheduler.
struct SchedulerServer: BatchServer {
  private var scheduler: Scheduler
  private let limits: ServerLimits
  private var plan: StepPlan?
  private var live: [Int: (held: Int, wanted: Int)] = [:]
  private var order: [Int] = []
  private var submitted = 0
  private var names: [Int: Int] = [:]
  private var clock = Duration.zero

  init(_ limits: ServerLimits) throws(AdmissionLimitError) {
    self.limits = limits
    let pool = BlockPool(
      blockCount: limits.tokenCapacity / ServerLimits.blockSize, blockSize: ServerLimits.blockSize,
      isPrefixCachingEnabled: false)
    // Prompts arrive processed, so a step's token budget does not hold them back.
    scheduler = Scheduler(
      limits: try AdmissionLimits(
        sequenceCount: limits.sequenceCount, stepTokenCount: 1 << 40,
        queuedRequestCount: 1 << 40),
      pool: pool)
  }

  var runningCount: Int { plan?.entries.count ?? 0 }
  var cachedTokenCount: Int { plan?.entries.reduce(0) { $0 + $1.end } ?? 0 }
  var waitingCount: Int { scheduler.metrics.waitingRequestCount }
  var preemptionCount: Int { scheduler.metrics.preemptionCount }

  mutating func submit(_ id: Int, promptCount: Int, outputCount: Int, now: Double) {
    let request = SchedulingRequest(
      id: submitted, prompt: [Int](repeating: 0, count: promptCount), maximumTokens: outputCount)
    clock = max(clock, .seconds(now))
    do {
      try scheduler.submit(request, now: clock)
    } catch {
      // The run checks sizes and the queue is unbounded, so nothing is ever refused.
      preconditionFailure("request \(id) was refused: \(error)")
    }
    names[submitted] = id
    live[submitted] = (promptCount, outputCount)
    order.append(submitted)
    submitted += 1
    if order.count > 4 * live.count + 64 { order = order.filter { live[$0] != nil } }
  }

  mutating func admit() {
    if plan == nil { plan = scheduler.plan() }
  }

  mutating func advance(by count: Int, into events: inout [ServerEvent]) {
    for step in 0..<count {
      admit()
      guard let current = plan else { return }
      plan = nil
      var samples: [StepOutcome.Sample] = []
      samples.reserveCapacity(current.entries.count)
      for entry in current.entries {
        for sampler in entry.samplers {
          samples.append(.init(sequence: sampler, tokens: [0], isFinished: false))
          let name = names[sampler.request] ?? sampler.request
          if entry.completesPrompt, live[sampler.request]?.held == entry.promptCount {
            events.append(ServerEvent(request: name, kind: .firstToken, step: step))
          }
          live[sampler.request]?.held += 1
          live[sampler.request]?.wanted -= 1
        }
      }
      scheduler.apply(StepOutcome(samples: samples))
      for ended in scheduler.takeEnded() {
        let id = ended.id.request
        events.append(ServerEvent(request: names[id] ?? id, kind: .finished, step: step))
        names[id] = nil
        live[id] = nil
      }
    }
  }

  mutating func drain() -> [(id: Int, held: Int, wanted: Int)] {
    plan = nil
    scheduler.abandonStep()
    var lost: [(id: Int, held: Int, wanted: Int)] = []
    for id in order {
      guard let state = live[id], let name = names[id] else { continue }
      lost.append((name, state.held, state.wanted))
      scheduler.cancel(request: id)
    }
    _ = scheduler.takeEnded()
    live = [:]
    names = [:]
    order = []
    return lost
  }
}
