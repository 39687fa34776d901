import CKernels
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The owner's thread and pinned helpers that share the chunks of one job at a time.
///
/// A job opens a gate; helpers that come through it claim chunks from a counter, and so does the
/// owner. When no chunk is left the owner closes the gate and waits only for helpers that are
/// inside: one that the system has not scheduled yet is simply too late. So on a machine whose
/// cores others use as well, speed falls with the cores that are lost and no further. Between
/// jobs helpers spin for a moment, then sleep, and cost nothing.
@safe
package final class WorkTeam: Sendable {
  /// Number of threads, the owner's included.
  package let workerCount: Int
  private let state: TeamState
  // Set once; joined by deinit.
  private let threads: [pthread_t]

  /// Starts `workerCount - 1` helpers; nil takes every core that this process may use.
  package init(workerCount requested: Int? = nil) {
    let cores = MemoryNodes.current.spread(usableCores())
    let count = max(1, requested ?? cores.count)
    let state = TeamState(workerCount: count, spins: count <= cores.count)
    var threads: [pthread_t] = []
    for index in 1..<max(1, count) {
      let start = WorkerStart(
        state: state, index: index, core: count <= cores.count ? cores[index] : nil)
      let context = unsafe Unmanaged.passRetained(start)
      var thread = pthread_t()
      let code = unsafe pthread_create(&thread, nil, workerMain, context.toOpaque())
      precondition(code == 0, "thread \(index) of \(count) cannot be started (\(code))")
      threads.append(thread)
    }
    self.workerCount = count
    self.state = state
    self.threads = threads
  }

  deinit {
    state.stop()
    for thread in threads { pthread_join(thread, nil) }
  }

  /// Runs `body(chunk, worker)` once for each chunk in `0..<chunkCount`, in any order, on any
  /// worker in `0..<workerCount`; returns when all are done. From one thread at a time.
  package func run(chunkCount: Int, _ body: (_ chunk: Int, _ worker: Int) -> Void) {
    if workerCount == 1 || chunkCount <= 1 {
      for chunk in 0..<max(0, chunkCount) {
        body(chunk, 0)
        state.betweenChunks?()
      }
      return
    }
    withoutActuallyEscaping(body) { body in
      state.run(chunkCount: chunkCount, body)
    }
  }

  /// Lets the owner's thread call `hook` after each of its chunks, so that messages move while it
  /// computes; nil ends it. Called by the owner between jobs; the hook must not run jobs.
  package func callBetweenChunks(_ hook: (() -> Void)?) { state.betweenChunks = hook }

  /// Pins the calling thread to the team's first core; for an owner that lives long.
  package func pinOwner() {
    let cores = MemoryNodes.current.spread(usableCores())
    if workerCount <= cores.count, let first = cores.first { ck_pin_thread(Int32(first)) }
  }
}

/// The numbers of the cores that this process may use.
package func usableCores() -> [Int] {
  var cores = [Int32](repeating: 0, count: 1024)
  let count = unsafe ck_usable_cores(&cores, Int32(cores.count))
  if count > 0 { return cores.prefix(Int(count)).map(Int.init) }
  return Array(0..<max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))
}

private final class WorkerStart: Sendable {
  let state: TeamState
  let index: Int
  let core: Int?

  init(state: TeamState, index: Int, core: Int?) {
    self.state = state
    self.index = index
    self.core = core
  }
}

private func workerMain(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let context = unsafe context else { return nil }
  let start = unsafe Unmanaged<WorkerStart>.fromOpaque(context).takeRetainedValue()
  if let core = start.core { ck_pin_thread(Int32(core)) }
  start.state.work(as: start.index)
  return nil
}

/// An atomic word with cache lines of its own.
private final class SharedWord: Sendable {
  private let before = InlineArray<14, UInt64>(repeating: 0)
  let value = Atomic<UInt64>(0)
  private let after = InlineArray<16, UInt64>(repeating: 0)
}

/// What the owner and the helpers share.
@safe
private final class TeamState: @unchecked Sendable {
  // Unchecked: `body` and `chunkCount` are written by the owner while the gate is closed and
  // nobody is inside, and read by helpers that came through the gate.
  private typealias Body = (Int, Int) -> Void

  /// The gate's word: generation above, then three flags, then the number of helpers inside.
  private enum Gate {
    static let helpers: UInt64 = 0xFFFF
    static let open: UInt64 = 1 << 16
    static let ownerSleeps: UInt64 = 1 << 17
    static let stopped: UInt64 = 1 << 18
    static let generation: UInt64 = 1 << 20
  }

  private let gate = SharedWord()
  private let nextChunk = SharedWord()
  private let sleeping: [SharedWord]
  private let wakeUps: [Semaphore]
  private let ownerWakeUp = Semaphore()
  private let spins: Bool
  private let busy = Atomic<Bool>(false)
  /// Set and called by the owner's thread alone.
  var betweenChunks: (() -> Void)?
  private var body: Body?
  private var chunkCount = 0

  init(workerCount: Int, spins: Bool) {
    sleeping = (0..<workerCount).map { _ in SharedWord() }
    wakeUps = (0..<workerCount).map { _ in Semaphore() }
    self.spins = spins
  }

  // MARK: The owner's side

  func run(chunkCount count: Int, _ newBody: @escaping (Int, Int) -> Void) {
    precondition(
      !busy.exchange(true, ordering: .acquiring), "a team runs one job of one thread at a time")
    body = newBody
    chunkCount = count
    nextChunk.value.store(0, ordering: .relaxed)
    open(Gate.open)
    claimChunks(newBody, worker: 0)
    close()
    body = nil
    busy.store(false, ordering: .releasing)
  }

  func stop() {
    open(Gate.stopped)
  }

  private func open(_ flag: UInt64) {
    let old = gate.value.load(ordering: .relaxed)
    let generation = (old / Gate.generation &+ 1) &* Gate.generation
    gate.value.store(generation | flag, ordering: .sequentiallyConsistent)
    for index in 1..<sleeping.count
    where sleeping[index].value.exchange(0, ordering: .sequentiallyConsistent) == 1 {
      wakeUps[index].post()
    }
  }

  private func close() {
    var word = gate.value.bitwiseAnd(~Gate.open, ordering: .acquiringAndReleasing).newValue
    if word & Gate.helpers == 0 { return }
    let deadline = Deadline(spins: spins)
    while word & Gate.helpers != 0 {
      if deadline.passed() {
        let flagged = gate.value.bitwiseOr(Gate.ownerSleeps, ordering: .acquiringAndReleasing)
        if flagged.oldValue & Gate.helpers != 0 { ownerWakeUp.wait() }
        return
      }
      word = gate.value.load(ordering: .acquiring)
    }
  }

  // MARK: The helpers' side

  func work(as index: Int) {
    var seen: UInt64 = 0
    while true {
      var word = waitForGeneration(after: seen, as: index)
      seen = word / Gate.generation
      while word & Gate.open != 0 && word / Gate.generation == seen {
        let entry = gate.value.weakCompareExchange(
          expected: word, desired: word + 1, ordering: .acquiringAndReleasing)
        word = entry.original
        guard entry.exchanged else { continue }
        if let body { claimChunks(body, worker: index) }
        let left = gate.value.subtract(1, ordering: .acquiringAndReleasing).newValue
        if left & Gate.helpers == 0 && left & Gate.ownerSleeps != 0 { ownerWakeUp.post() }
        break
      }
      if word & Gate.stopped != 0 { return }
    }
  }

  private func waitForGeneration(after seen: UInt64, as index: Int) -> UInt64 {
    let deadline = Deadline(spins: spins)
    while true {
      let word = gate.value.load(ordering: .acquiring)
      if word / Gate.generation != seen { return word }
      if deadline.passed() { break }
    }
    while true {
      sleeping[index].value.store(1, ordering: .sequentiallyConsistent)
      let word = gate.value.load(ordering: .sequentiallyConsistent)
      if word / Gate.generation != seen {
        // The owner may have taken the flag already: then its post is on the way.
        if sleeping[index].value.exchange(0, ordering: .sequentiallyConsistent) == 0 {
          wakeUps[index].wait()
        }
        return word
      }
      wakeUps[index].wait()
    }
  }

  private func claimChunks(_ body: (Int, Int) -> Void, worker: Int) {
    while true {
      let chunk = Int(nextChunk.value.add(1, ordering: .relaxed).oldValue)
      if chunk >= chunkCount { return }
      body(chunk, worker)
      if worker == 0 { betweenChunks?() }
    }
  }
}

/// The end of a spin: about 50 µs, or at once where threads outnumber the cores.
private struct Deadline {
  private static let spinNanoseconds: UInt64 = 50_000
  private let start: UInt64
  private let spins: Bool

  init(spins: Bool) {
    self.spins = spins
    start = spins ? clock_gettime_nsec() : 0
  }

  /// Pauses for a moment; true when the spin is over.
  func passed() -> Bool {
    guard spins else { return true }
    for _ in 0..<4 { ck_pause() }
    return clock_gettime_nsec() - start > Self.spinNanoseconds
  }
}

private func clock_gettime_nsec() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A counting semaphore of the system.
@safe
private final class Semaphore: @unchecked Sendable {
  // Unchecked: a semaphore is made for use by several threads.
  private let handle: UnsafeMutablePointer<sem_t>

  init() {
    unsafe handle = .allocate(capacity: 1)
    let code = unsafe sem_init(handle, 0, 0)
    precondition(code == 0, "a semaphore cannot be made (\(errno))")
  }

  deinit {
    unsafe sem_destroy(handle)
    unsafe handle.deallocate()
  }

  func post() {
    unsafe sem_post(handle)
  }

  func wait() {
    while unsafe sem_wait(handle) != 0 {}
  }
}
