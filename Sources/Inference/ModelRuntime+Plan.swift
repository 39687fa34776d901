import KVCaching
import Kernels
package import Scheduling
package import Step3Model
import Tensors

extension ModelRuntime {
  /// Computes one step of the scheduler.
  ///
  /// - Parameter body: Gets the logits [V] of every position that the plan asks for, in the plan's
  ///   order.
  package mutating func run(
    _ plan: StepPlan,
    _ body: (_ entry: Int, _ position: Int, _ logits: Span<Float>) -> Void
  ) throws(FeedForwardError) {
    cache.perform(plan.copies)
    let wanted = place(plan)
    try forward()
    withLogits(of: wanted.map(\.row)) { index, logits in
      body(wanted[index].entry, wanted[index].position, logits)
    }
  }

  /// Describes the plan's rows to the step; returns the rows whose logits are wanted.
  private mutating func place(_ plan: StepPlan) -> [(row: Int32, entry: Int, position: Int)] {
    let size = options.blockSize
    var tokens: [Int32] = []
    var positions: [Int32] = []
    var slots: [Int32] = []
    var spans: [AttentionSpan] = []
    var tables: [Int32] = []
    var wanted: [(row: Int32, entry: Int, position: Int)] = []
    for (index, entry) in plan.entries.enumerated() {
      spans.append(
        AttentionSpan(
          firstRow: tokens.count, rowCount: entry.tokens.count, startPosition: entry.start,
          blockTableOffset: tables.count))
      for position in entry.logitPositions {
        wanted.append((Int32(tokens.count + position - entry.start), index, position))
      }
      for (offset, token) in entry.tokens.enumerated() {
        let position = entry.start + offset
        tokens.append(Int32(token))
        positions.append(Int32(position))
        slots.append(entry.blocks[position / size] * Int32(size) + Int32(position % size))
      }
      tables += entry.blocks
    }
    step.microBatches[0].tokens = tokens
    step.microBatches[0].positions = positions
    step.microBatches[0].slots = slots
    step.microBatches[0].spans = spans
    step.microBatches[0].blockTables = tables
    return wanted
  }
}
