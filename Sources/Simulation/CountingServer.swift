/// A server that follows the scheduler's rules on counts alone, many steps at once.
///
/// Sequences carry the step count at which they end, so a step costs nothing per sequence. What is
/// lost against the real scheduler: blocks are counted half full at the end, and admission happens
/// between advances only. A test compares both on the same requests.
struct CountingServer: BatchServer {
  private struct Slot {
    var id = 0
    /// Tokens at admission, tokens still wanted then, and the step count then.
    var held = 0
    var wanted = 0
    var admitted = 0
    var isLive = false
    /// Counts the uses of the slot, so that old tickets are told apart.
    var generation = 0
  }

  private struct Ticket {
    let index: Int
    let generation: Int
  }

  private struct Waiting {
    let id: Int
    let held: Int
    let wanted: Int
    let isFresh: Bool
  }

  private let limits: ServerLimits
  private var waiting: [Waiting] = []
  private var waitingHead = 0
  private var slots: [Slot] = []
  private var freeSlots: [Int] = []
  private var ends = EventQueue<Int, Ticket>()
  private var admissionOrder: [Ticket] = []
  private var firstTokens: [Int] = []
  private var stepCount = 0
  private(set) var runningCount = 0
  private(set) var cachedTokenCount = 0
  private(set) var preemptionCount = 0

  init(_ limits: ServerLimits) {
    self.limits = limits
  }

  var waitingCount: Int { waiting.count - waitingHead }

  private var occupied: Int { cachedTokenCount + runningCount * ServerLimits.blockSize / 2 }

  private func isValid(_ ticket: Ticket) -> Bool {
    slots[ticket.index].isLive && slots[ticket.index].generation == ticket.generation
  }

  mutating func submit(_ id: Int, promptCount: Int, outputCount: Int, now: Double) {
    waiting.append(Waiting(id: id, held: promptCount, wanted: outputCount, isFresh: true))
  }

  mutating func admit() {
    while waitingHead < waiting.count, runningCount < limits.sequenceCount,
      occupied + waiting[waitingHead].held + ServerLimits.blockSize <= limits.tokenCapacity
    {
      start(waiting[waitingHead])
      waitingHead += 1
    }
    if waitingHead > 1024, waitingHead * 2 > waiting.count {
      waiting.removeFirst(waitingHead)
      waitingHead = 0
    }
  }

  private mutating func start(_ next: Waiting) {
    if freeSlots.isEmpty {
      freeSlots.append(slots.count)
      slots.append(Slot())
    }
    guard let index = freeSlots.popLast() else { return }
    slots[index].id = next.id
    slots[index].held = next.held
    slots[index].wanted = next.wanted
    slots[index].admitted = stepCount
    slots[index].isLive = true
    slots[index].generation += 1
    let ticket = Ticket(index: index, generation: slots[index].generation)
    ends.insert(ticket, at: stepCount + next.wanted)
    admissionOrder.append(ticket)
    runningCount += 1
    cachedTokenCount += next.held
    if next.isFresh { firstTokens.append(next.id) }
  }

  mutating func advance(by count: Int, into events: inout [ServerEvent]) {
    for id in firstTokens { events.append(ServerEvent(request: id, kind: .firstToken, step: 0)) }
    firstTokens.removeAll(keepingCapacity: true)
    let last = stepCount + count
    cachedTokenCount += runningCount * count
    while let end = ends.firstKey, end <= last, let (_, ticket) = ends.popFirst() {
      guard isValid(ticket) else { continue }
      let slot = slots[ticket.index]
      events.append(
        ServerEvent(request: slot.id, kind: .finished, step: max(0, end - stepCount - 1)))
      cachedTokenCount -= slot.held + slot.wanted + (last - end)
      release(ticket.index)
    }
    stepCount = last
    while occupied > limits.tokenCapacity, runningCount > 1 { preemptLatest() }
    if admissionOrder.count > 4 * runningCount + 64 {
      admissionOrder = admissionOrder.filter { isValid($0) }
    }
  }

  private mutating func release(_ index: Int) {
    slots[index].isLive = false
    freeSlots.append(index)
    runningCount -= 1
  }

  private mutating func preemptLatest() {
    while let ticket = admissionOrder.popLast() {
      guard isValid(ticket) else { continue }
      let slot = slots[ticket.index]
      let done = stepCount - slot.admitted
      cachedTokenCount -= slot.held + done
      release(ticket.index)
      preemptionCount += 1
      let entry = Waiting(
        id: slot.id, held: slot.held + done, wanted: slot.wanted - done, isFresh: false)
      if waitingHead > 0 {
        waitingHead -= 1
        waiting[waitingHead] = entry
      } else {
        waiting.insert(entry, at: 0)
      }
      return
    }
  }

  mutating func drain() -> [(id: Int, held: Int, wanted: Int)] {
    var lost: [(id: Int, held: Int, wanted: Int)] = []
    for ticket in admissionOrder where isValid(ticket) {
      let slot = slots[ticket.index]
      let done = stepCount - slot.admitted
      lost.append((slot.id, slot.held + done, slot.wanted - done))
    }
    lost += waiting[waitingHead...].map { ($0.id, $0.held, $0.wanted) }
    let preemptions = preemptionCount
    self = CountingServer(limits)
    preemptionCount = preemptions
    return lost
  }
}
