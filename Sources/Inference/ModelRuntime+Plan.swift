import KVCaching
package import Kernels
package import Scheduling
package import Step3Model
import Tensors

extension ModelRuntime {
  /// Computes one step of the scheduler.
  ///
  /// - Parameters:
  ///   - images: For each entry of the plan, the features that stand in its sequence.
  ///   - body: Gets the logits of every position that the plan asks for, in the plan's order.
  package mutating func run(
    _ plan: StepPlan, images: [[PlacedFeatures]],
    _ body: (_ positions: [LogitPosition], _ rows: borrowing LogitRows) -> Void
  ) throws(FeedForwardError) {
    cache.perform(plan.copies)
    let wanted = place(plan, images)
    try forward()
    var first = 0
    while first < wanted.count {
      let microBatch = wanted[first].microBatch
      let last = wanted[first...].firstIndex { $0.microBatch != microBatch } ?? wanted.count
      withLogitRows(of: wanted[first..<last].map(\.row), in: microBatch) { range, rows in
        body(
          wanted[first + range.lowerBound..<first + range.upperBound].map {
            LogitPosition(entry: $0.entry, position: $0.position)
          }, rows)
      }
      first = last
    }
  }

  /// The threads that computed the rows.
  package var team: WorkTeam? { decoder.compute.team }

  /// A row whose logits are wanted.
  private struct WantedRow {
    var microBatch: Int
    var row: Int32
    var entry: Int
    var position: Int
  }

  /// Describes the plan's rows to the step; returns the rows whose logits are wanted.
  ///
  /// The rows are cut into micro-batches of equal size wherever the cuts fall: a later piece of a
  /// prompt's chunk finds the keys of an earlier one in the cache, since at every layer the
  /// micro-batches come in order.
  private mutating func place(
    _ plan: StepPlan, _ images: [[PlacedFeatures]]
  ) -> [WantedRow] {
    let count = microBatchCount(rowCount: plan.tokenCount)
    step.microBatchCount = count
    let ends = (1...count).map { $0 * plan.tokenCount / count }
    var wanted: [WantedRow] = []
    var rows = MicroBatchRows()
    var (microBatch, rowCount) = (0, 0)
    for (index, entry) in plan.entries.enumerated() {
      var first = 0
      while first < entry.tokens.count {
        let part = first..<min(entry.tokens.count, first + ends[microBatch] - rowCount)
        rows.embedded += Self.embeddedRows(
          images[index], start: entry.start + part.lowerBound, count: part.count,
          row: rows.tokens.count)
        rows.add(entry, part, blockSize: options.blockSize)
        for position in entry.logitPositions where part.contains(position - entry.start) {
          let row = rows.tokens.count - part.upperBound + position - entry.start
          wanted.append(
            WantedRow(
              microBatch: microBatch, row: Int32(row), entry: index, position: position))
        }
        rowCount += part.count
        first = part.upperBound
        if rowCount == ends[microBatch] {
          rows.move(to: &step.microBatches[microBatch])
          microBatch += 1
        }
      }
    }
    precondition(microBatch == count, "\(rowCount) rows do not fill \(count) micro-batches")
    return wanted
  }
}

/// The rows of a micro-batch while they are gathered.
private struct MicroBatchRows {
  var tokens: [Int32] = []
  var positions: [Int32] = []
  var slots: [Int32] = []
  var spans: [AttentionSpan] = []
  var tables: [Int32] = []
  var embedded: [EmbeddedRows] = []

  /// Adds some of an entry's rows.
  mutating func add(_ entry: StepPlan.Entry, _ part: Range<Int>, blockSize: Int) {
    spans.append(
      AttentionSpan(
        firstRow: tokens.count, rowCount: part.count,
        startPosition: entry.start + part.lowerBound, blockTableOffset: tables.count))
    for offset in part {
      let position = entry.start + offset
      tokens.append(Int32(entry.tokens[offset]))
      positions.append(Int32(position))
      slots.append(
        entry.blocks[position / blockSize] * Int32(blockSize) + Int32(position % blockSize))
    }
    tables += entry.blocks
  }

  /// Hands the rows over and begins anew.
  mutating func move(to microBatch: inout MicroBatch) {
    microBatch.tokens = tokens
    microBatch.positions = positions
    microBatch.slots = slots
    microBatch.spans = spans
    microBatch.blockTables = tables
    microBatch.embedded = embedded
    self = MicroBatchRows()
  }
}
