import KVCaching

extension Scheduler {
  /// Takes a running sequence's blocks; it waits at its old place and is computed again.
  ///
  /// Full blocks stay in the prefix cache until somebody needs the memory, so that much of the work
  /// is often found again. Recomputing beats swapping to other memory here: there is no faster and
  /// slower memory on a CPU.
  mutating func preempt(_ slot: Int, _ plan: inout StepPlan) {
    precondition(running.last == slot, "the latest arrival is preempted first")
    running.removeLast()
    pool.release(&states[slot].table)
    states[slot].computedCount = 0
    states[slot].draft = []
    states[slot].isRunning = false
    states[slot].preemptionCount += 1
    preemptionCount += 1
    insert(slot, into: \.waiting)
    plan.preempted.append(states[slot].id)
  }
}
