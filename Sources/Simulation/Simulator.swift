import CostModel
import Scheduling

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Runs requests through a simulated system under a virtual clock.
///
/// The loop: deliver what has arrived, let servers admit, read their loads, ask the cost model how
/// long a step takes with the busiest server, advance all servers, and record what came of it. All
/// servers step together, as the pipeline makes them. Randomness comes from the seed alone.
package struct Simulator: Sendable {
  private let system: SimulatedSystem
  private let workload: Workload
  private let options: SimulationOptions
  /// Seconds per token that requests should not exceed.
  private let limit: Double

  /// A simulation that has not run.
  package init(
    _ system: SimulatedSystem, workload: Workload, limit: Double, options: SimulationOptions
  ) throws(SimulationError) {
    try options.validate()
    if case .random(let rate, _, _, let swing) = workload {
      guard rate > 0, rate.isFinite else { throw .notPositive(quantity: "load", value: rate) }
      guard swing >= 0, swing < 1 else {
        throw .notPositive(quantity: "the daily swing, below 1,", value: swing)
      }
    }
    self.system = system
    self.workload = workload
    self.limit = limit
    self.options = options
    try checkSizes()
  }

  private func checkSizes() throws(SimulationError) {
    let capacity = system.limits.tokenCapacity - 2 * ServerLimits.blockSize
    let longest: Int
    switch workload {
    case .random(_, let prompt, let output, _): longest = prompt.limit + output.limit
    case .trace(let requests):
      longest = requests.map { $0.promptCount + $0.outputCount }.max() ?? 0
    }
    guard longest <= capacity else {
      throw .requestTooLarge(tokens: longest, capacity: capacity)
    }
  }

  /// Steps times sequences that a full system would take.
  private var work: Double {
    let full = Double(system.limits.sequenceCount * system.serverCount)
    return options.duration / max(limit, 1e-3) * full
  }

  /// Runs to the end.
  package func run() throws(SimulationError) -> SimulationResult {
    let usesScheduler =
      options.fidelity == .scheduler
      || (options.fidelity == .auto && work <= options.schedulerBudget)
    if usesScheduler {
      let server: SchedulerServer
      do {
        server = try SchedulerServer(system.limits)
      } catch {
        throw .notPositive(quantity: "places per server", value: 0)
      }
      var run = SimulationRun(
        system, workload, options, limit: limit, server: server, stepsPerAdvance: 1)
      run.execute()
      return run.result(.scheduler)
    }
    // Requests are let in between advances, so first tokens are known to this many steps.
    let steps = 4
    var run = SimulationRun(
      system, workload, options, limit: limit, server: CountingServer(system.limits),
      stepsPerAdvance: steps)
    run.execute()
    return run.result(.counting)
  }
}

/// The state of one run.
private struct SimulationRun<Server: BatchServer> {
  private struct Record {
    var arrival = 0.0
    var firstToken: Double?
    var outputCount = 0
    var server = 0
    var weight = 0.0
  }

  private let system: SimulatedSystem
  private let options: SimulationOptions
  private let limit: Double
  private let stepsPerAdvance: Int
  private var servers: [Server]
  private var source: RequestSource
  private var jitter: SeededGenerator
  private var faults: SeededGenerator
  private var records: [Record] = []
  private var freeRecords: [Int] = []
  /// Tokens that requests on a server hold or will hold, for the router.
  private var assigned: [Double]
  private var pending: SimulatedRequest?
  /// Requests in the prefill machines, by the time they leave.
  private var prefilling = EventQueue<Double, SimulatedRequest>()
  private var prefillFree = 0.0
  private var now = 0.0
  private var nextFailure = Double.infinity
  private var batches: [BatchSums]
  private var tokenTimes = Histogram()
  private var firstTokenTimes = Histogram()
  private var arrivedCount = 0
  private var finishedCount = 0
  private var failureCount = 0
  private var events: [ServerEvent] = []

  init(
    _ system: SimulatedSystem, _ workload: Workload, _ options: SimulationOptions, limit: Double,
    server: Server, stepsPerAdvance: Int
  ) {
    self.system = system
    self.options = options
    self.limit = limit
    self.stepsPerAdvance = stepsPerAdvance
    servers = [Server](repeating: server, count: system.serverCount)
    assigned = [Double](repeating: 0, count: system.serverCount)
    var random = SeededGenerator(seed: options.seed)
    source = RequestSource(workload, random: random.fork())
    jitter = random.fork()
    faults = random.fork()
    batches = [BatchSums](repeating: BatchSums(), count: options.batchCount)
    pending = source.next()
    scheduleFailure()
  }

  // MARK: The loop

  mutating func execute() {
    while now < options.duration {
      deliver()
      for index in servers.indices { servers[index].admit() }
      if now >= nextFailure { fail() }
      let load = load()
      guard load.sequences > 0 else {
        guard let next = [pending?.arrival, prefilling.firstKey].compactMap({ $0 }).min() else {
          account(seconds: options.duration - now, load: load, step: nil)
          return
        }
        let until = min(max(next, now), options.duration)
        account(seconds: until - now, load: load, step: nil)
        now = until
        if next >= options.duration { return }
        continue
      }
      let step = stepTime(load)
      let start = now
      now += step.time * Double(stepsPerAdvance)
      account(seconds: now - start, load: load, step: step)
      for index in servers.indices {
        events.removeAll(keepingCapacity: true)
        servers[index].advance(by: stepsPerAdvance, into: &events)
        for event in events { record(event, start: start, step: step.time) }
      }
    }
  }

  private mutating func deliver() {
    while let request = pending, request.arrival <= now {
      pending = source.next()
      arrivedCount += 1
      guard let rate = options.prefillRate else {
        place(request)
        continue
      }
      prefillFree = max(prefillFree, request.arrival) + Double(request.promptCount) / rate
      prefilling.insert(request, at: prefillFree)
    }
    while let ready = prefilling.firstKey, ready <= now, let (_, request) = prefilling.popFirst() {
      place(request)
    }
  }

  /// Sends a request to the server whose requests hold the fewest tokens.
  private mutating func place(_ request: SimulatedRequest) {
    let id = freeRecords.popLast() ?? records.count
    if id == records.count { records.append(Record()) }
    let server = leastLoaded(besides: nil)
    let weight = Double(request.promptCount) + Double(request.outputCount) / 2
    records[id] = Record(
      arrival: request.arrival, outputCount: request.outputCount, server: server, weight: weight)
    assigned[server] += weight
    servers[server].submit(
      id, promptCount: request.promptCount, outputCount: request.outputCount, now: now)
  }

  private func leastLoaded(besides excluded: Int?) -> Int {
    var best = excluded == 0 && assigned.count > 1 ? 1 : 0
    for index in assigned.indices where index != excluded && assigned[index] < assigned[best] {
      best = index
    }
    return best
  }

  private func load() -> SimulatedSystem.Load {
    var load = SimulatedSystem.Load()
    var most = -1
    for server in servers where server.runningCount > 0 {
      load.sequences += Double(server.runningCount)
      if server.cachedTokenCount > most {
        most = server.cachedTokenCount
        load.busiestSequences = Double(server.runningCount)
        load.busiestContext = Double(server.cachedTokenCount) / Double(server.runningCount)
      }
    }
    return load
  }

  private mutating func stepTime(_ load: SimulatedSystem.Load) -> SimulatedSystem.Step {
    var attention = options.stragglers.map(\.factor).max() ?? 1
    var feedForward = 1.0
    if options.jitter > 0 {
      var slowest = 0.0
      for index in servers.indices {
        let own = options.stragglers.first { $0.server == index }?.factor ?? 1
        slowest = max(slowest, own * draw())
      }
      attention = slowest
      feedForward = draw()
    }
    if options.hasExpertNoise { feedForward *= expertImbalance(load) }
    return system.step(load, attentionFactor: attention, feedForwardFactor: feedForward)
  }

  private mutating func draw() -> Double {
    let sigma = sqrt(log(1 + options.jitter * options.jitter))
    return exp(sigma * jitter.normal() - sigma * sigma / 2)
  }

  private func expertImbalance(_ load: SimulatedSystem.Load) -> Double {
    let topK = system.pipeline.model.feedForward.map(\.topK).max() ?? 0
    guard topK > 0 else { return 1 }
    switch system.layout {
    case .disaggregated(let deployment):
      let groups = deployment.feedForwardServers
      let tokens = load.sequences / Double(deployment.microBatchCount)
      return statisticalImbalance(
        groupCount: groups, meanTokensPerGroup: tokens * Double(topK) / Double(groups))
    case .expertParallel(let deployment):
      return statisticalImbalance(
        groupCount: deployment.deviceCount,
        meanTokensPerGroup: load.sequences / 2 * Double(topK) / Double(deployment.deviceCount))
    }
  }

  // MARK: Failures

  private mutating func scheduleFailure() {
    guard options.failuresPerServerDay > 0 else { return }
    var count = system.serverCount
    if case .disaggregated(let deployment) = system.layout {
      count += deployment.feedForwardServers
    }
    let mean = 86_400 / (options.failuresPerServerDay * Double(count))
    nextFailure = now + faults.exponential(mean: mean)
  }

  /// An attention server loses its caches and its requests start again elsewhere; a feed-forward
  /// server holds weights only, but everybody waits until it is back.
  private mutating func fail() {
    failureCount += 1
    var count = servers.count
    if case .disaggregated(let deployment) = system.layout {
      count += deployment.feedForwardServers
    }
    let victim = Int(faults.next() % UInt64(count))
    if victim < servers.count {
      assigned[victim] = 0
      for lost in servers[victim].drain() {
        let server = leastLoaded(besides: victim)
        records[lost.id].server = server
        assigned[server] += records[lost.id].weight
        servers[server].submit(
          lost.id, promptCount: lost.held, outputCount: max(1, lost.wanted), now: now)
      }
      for index in servers.indices { servers[index].admit() }
    } else {
      account(seconds: options.recovery, load: SimulatedSystem.Load(), step: nil)
      now += options.recovery
    }
    scheduleFailure()
  }

  // MARK: Records

  /// The part of the run that `time` falls into; nil during warm-up and after the end.
  private func batch(at time: Double) -> Int? {
    let start = options.duration * options.warmUp
    guard time >= start, time < options.duration else { return nil }
    let place = Int((time - start) / (options.duration - start) * Double(options.batchCount))
    return min(place, options.batchCount - 1)
  }

  private mutating func account(
    seconds: Double, load: SimulatedSystem.Load, step: SimulatedSystem.Step?
  ) {
    guard let batch = batch(at: now), seconds > 0 else { return }
    batches[batch].seconds += seconds
    batches[batch].running += load.sequences * seconds
    batches[batch].waiting += Double(servers.reduce(0) { $0 + $1.waitingCount }) * seconds
    let held = Double(servers.reduce(0) { $0 + $1.cachedTokenCount })
    let capacity = Double(system.limits.tokenCapacity * servers.count)
    batches[batch].usage += held / capacity * seconds
    guard let step else { return }
    let count = Double(stepsPerAdvance)
    batches[batch].steps += count
    batches[batch].tokens +=
      load.sequences * count * system.pipeline.assumptions.speculation.tokensPerStep
    batches[batch].attentionBusy += step.attentionBusy * count
    batches[batch].feedForwardBusy += step.feedForwardBusy * count
  }

  private mutating func record(_ event: ServerEvent, start: Double, step: Double) {
    let time = start + Double(event.step + 1) * step
    let id = event.request
    switch event.kind {
    case .firstToken:
      guard records[id].firstToken == nil else { return }
      records[id].firstToken = time
      guard let batch = batch(at: time) else { return }
      let waited = time - records[id].arrival
      firstTokenTimes.add(waited)
      batches[batch].firstTokenTime += waited
      batches[batch].firstTokens += 1
    case .finished:
      let record = records[id]
      finishedCount += 1
      // Steps of an advance after the end of a sequence give no tokens.
      let idle = Double(stepsPerAdvance - 1 - event.step)
      if idle > 0, let batch = batch(at: start) { batches[batch].tokens -= idle }
      assigned[record.server] = max(0, assigned[record.server] - record.weight)
      freeRecords.append(id)
      guard let batch = batch(at: time), let first = record.firstToken, record.outputCount > 1
      else { return }
      let perToken = (time - first) / Double(record.outputCount - 1)
      tokenTimes.add(perToken)
      batches[batch].tokenTime += perToken
      batches[batch].requests += 1
      if perToken <= limit { batches[batch].onTime += 1 }
    }
  }

  /// Price of the whole run over its tokens; the interval comes from the parts.
  private func price() -> Estimate? {
    guard let hourly = system.hourlyPrice else { return nil }
    let parts = Estimate(
      batchMeans: batches.map { sums in
        sums.tokens > 0 ? hourly / 3600 * sums.seconds / sums.tokens * 1e6 : .nan
      })
    let seconds = batches.reduce(0) { $0 + $1.seconds }
    let tokens = batches.reduce(0) { $0 + $1.tokens }
    return Estimate(
      mean: tokens > 0 ? hourly / 3600 * seconds / tokens * 1e6 : 0, halfWidth: parts.halfWidth)
  }

  func result(_ fidelity: SimulationOptions.Fidelity) -> SimulationResult {
    func estimate(_ value: (BatchSums) -> Double) -> Estimate {
      Estimate(batchMeans: batches.filter { $0.seconds > 0 }.map(value))
    }
    let throughput = estimate { $0.tokens / $0.seconds }
    let devices = Double(system.deviceCount)
    let shares = [0.5, 0.9, 0.99]
    let start = options.duration * options.warmUp
    let width = (options.duration - start) / Double(options.batchCount)
    return SimulationResult(
      fidelity: fidelity, stepsPerAdvance: stepsPerAdvance, seed: options.seed,
      duration: min(now, options.duration), arrivedCount: arrivedCount,
      finishedCount: finishedCount, throughput: throughput,
      throughputPerDevice: estimate { $0.tokens / $0.seconds / devices },
      timePerOutputToken: estimate { $0.requests > 0 ? $0.tokenTime / $0.requests : .nan },
      timeToFirstToken: estimate { $0.firstTokens > 0 ? $0.firstTokenTime / $0.firstTokens : .nan },
      attentionBusy: estimate { $0.attentionBusy / $0.seconds },
      feedForwardBusy: estimate { $0.feedForwardBusy / $0.seconds },
      cacheUsage: estimate { $0.usage / $0.seconds },
      runningSequences: estimate { $0.running / $0.seconds },
      onTimeShare: estimate { $0.requests > 0 ? $0.onTime / $0.requests : .nan },
      usdPerMillionTokens: price(),
      tokenTimeQuantiles: shares.compactMap { share in
        tokenTimes.quantile(share).map { (share, $0) }
      },
      firstTokenQuantiles: shares.compactMap { share in
        firstTokenTimes.quantile(share).map { (share, $0) }
      }, preemptionCount: servers.reduce(0) { $0 + $1.preemptionCount },
      failureCount: failureCount,
      samples: batches.enumerated().filter { $0.element.seconds > 0 }.map { index, sums in
        SimulationResult.Sample(
          time: start + (Double(index) + 0.5) * width, tokensPerSecond: sums.tokens / sums.seconds,
          timePerOutputToken: sums.steps > 0 ? sums.seconds / sums.steps : 0,
          cacheUsage: sums.usage / sums.seconds, waiting: sums.waiting / sums.seconds)
      })
  }
}
