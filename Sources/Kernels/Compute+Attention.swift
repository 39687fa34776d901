import CKernels
package import Tensors

/// Consecutive rows of one sequence that attend to its cache in one call.
package struct AttentionSpan: Sendable, Equatable {
  /// The first of its rows among the queries.
  package var firstRow: Int
  /// How many rows.
  package var rowCount: Int
  /// The position of its first row in the sequence.
  package var startPosition: Int
  /// Where its block table begins in the list of all tables.
  package var blockTableOffset: Int

  /// A span.
  package init(firstRow: Int, rowCount: Int, startPosition: Int, blockTableOffset: Int) {
    self.firstRow = firstRow
    self.rowCount = rowCount
    self.startPosition = startPosition
    self.blockTableOffset = blockTableOffset
  }
}

/// A piece of attention that one worker does at a time.
struct AttentionUnit {
  /// Rows of the queries; one unless the unit walks all partitions.
  var rows: Range<Int>
  /// The position of the first of them.
  var position: Int
  var tableOffset: Int
  var heads: Range<Int>
  /// The partition, where the unit does only one.
  var partition: Int
  /// Where its partial results go, in rows of d + 2.
  var slot: Int
}

/// The shape of one call.
private struct AttentionShape {
  let heads: Int
  let dimension: Int
  let scale: Float

  /// Floats of one query's running result.
  var stateCount: Int { dimension + 2 }
  /// Floats of one row of queries.
  var rowCount: Int { heads * dimension }
}

private let partitionSize = Int(CK_PARTITION)

// How attention is summed, whatever the batch, the chunks and the threads: a query's positions
// are cut at multiples of 512; each partition has one softmax of its own; the partitions' results
// are folded in order. Few rows with long contexts put every partition's result into memory and
// fold afterwards, so that all threads share one sequence; many rows fold as they walk. Both do
// the same arithmetic in the same order.
extension Compute {
  /// Writes keys and values into the cache.
  ///
  /// - Shape: `keys` and `values` [slots.count, d] from their starts; slot = block · P + offset.
  /// - Precision: rounded to the cache's element type.
  package func storeKeysValues(
    keys: borrowing Buffer<Float>, values: borrowing Buffer<Float>, slots: [Int32],
    into memory: KVLayerMemory
  ) {
    let d = memory.layout.headDimension
    precondition(
      slots.count * d <= keys.count && slots.count * d <= values.count, "rows outside the buffer")
    let slotCount = memory.blockCount * memory.layout.blockSize
    for slot in slots {
      precondition(slot >= 0 && slot < slotCount, "slot \(slot) outside 0..<\(slotCount)")
    }
    var kv = unsafe ck_kv(memory, table: nil)
    let store = unsafe kernels.store(memory.layout.elementType)
    unsafe keys.withUnsafePointer { keys in
      unsafe values.withUnsafePointer { values in
        for (index, slot) in slots.enumerated() {
          unsafe store(&kv, Int(slot), keys + index * d, values + index * d)
        }
      }
    }
  }

  /// Causal attention of rotated queries over the cache; every head shares its keys and values.
  ///
  /// - Shape: `queries` and `output` [T, heads, d]; `blockTables` holds the spans' tables.
  /// - Precision: BF16 caches multiply queries and probabilities rounded to BF16, with Float32
  ///   sums; Float32 caches are Float32 throughout.
  package func attend(
    queries: borrowing Buffer<Float>, heads: Int, spans: [AttentionSpan], blockTables: [Int32],
    memory: KVLayerMemory, scale: Float, into output: inout Buffer<Float>
  ) {
    let shape = AttentionShape(
      heads: heads, dimension: memory.layout.headDimension, scale: scale)
    for span in spans {
      check(span, blockTables, memory)
      precondition(
        (span.firstRow + span.rowCount) * shape.rowCount <= min(queries.count, output.count),
        "rows outside the buffer")
    }
    unsafe queries.withUnsafePointer { queries in
      unsafe output.withUnsafeMutablePointer { output in
        unsafe blockTables.withUnsafeBufferPointer { tables in
          guard let tables = tables.baseAddress else { return }
          let call = unsafe AttentionCall(
            shape: shape, queries: queries, output: output, tables: tables, memory: memory)
          let rows = spans.reduce(0) { $0 + $1.rowCount }
          if rows <= 2 * team.workerCount && team.workerCount > 1 {
            attendSplit(call, spans)
          } else {
            attendWalking(call, spans)
          }
        }
      }
    }
  }

  private func check(_ span: AttentionSpan, _ tables: [Int32], _ memory: KVLayerMemory) {
    let end = span.startPosition + span.rowCount
    let blocks = (end + memory.layout.blockSize - 1) / memory.layout.blockSize
    precondition(
      span.firstRow >= 0 && span.rowCount >= 0 && span.startPosition >= 0
        && span.blockTableOffset >= 0 && span.blockTableOffset + blocks <= tables.count,
      "a span of \(end) positions exceeds its block table")
    for index in span.blockTableOffset..<span.blockTableOffset + blocks {
      precondition(
        tables[index] >= 0 && tables[index] < memory.blockCount,
        "block \(tables[index]) outside 0..<\(memory.blockCount)")
    }
  }

  /// Units of a few rows that walk their partitions in order, folding on the way.
  private func attendWalking(_ call: AttentionCall, _ spans: [AttentionSpan]) {
    let shape = call.shape
    let rowsPerUnit = 4
    scratch.attentionUnits.removeAll(keepingCapacity: true)
    for span in spans {
      for first in stride(from: 0, to: span.rowCount, by: rowsPerUnit) {
        let end = min(span.rowCount, first + rowsPerUnit)
        scratch.attentionUnits.append(
          AttentionUnit(
            rows: span.firstRow + first..<span.firstRow + end,
            position: span.startPosition + first, tableOffset: span.blockTableOffset,
            heads: 0..<shape.heads, partition: 0, slot: 0))
      }
    }
    let stateBytes = 4 * shape.heads * shape.stateCount
    let kernelBytes = call.kernelScratchByteCount(rows: rowsPerUnit)
    scratch.reserve(perWorker: kernelBytes + 2 * rowsPerUnit * stateBytes, shared: 0)
    let scratch = scratch
    let units = scratch.attentionUnits
    let kernels = kernels
    team.run(chunkCount: units.count) { chunk, worker in
      // Late rows of a prefill see the most positions: start with them.
      let unit = units[units.count - 1 - chunk]
      let piece = unsafe scratch.piece(of: worker)
      unsafe call.walk(
        unit, kernels, kernelScratch: piece, states: piece + kernelBytes,
        partials: piece + kernelBytes + rowsPerUnit * stateBytes)
    }
  }

  /// Units of one row, some heads and one partition; a second job folds.
  private func attendSplit(_ call: AttentionCall, _ spans: [AttentionSpan]) {
    let shape = call.shape
    scratch.attentionUnits.removeAll(keepingCapacity: true)
    var slots = 0
    for span in spans {
      for row in 0..<span.rowCount {
        let position = span.startPosition + row
        let partitions = position / partitionSize + 1
        for partition in 0..<partitions {
          scratch.attentionUnits.append(
            AttentionUnit(
              rows: span.firstRow + row..<span.firstRow + row + 1, position: position,
              tableOffset: span.blockTableOffset, heads: 0..<shape.heads, partition: partition,
              slot: slots))
          slots += shape.heads
        }
      }
    }
    let units = scratch.attentionUnits
    // With few partitions the threads share a partition's heads.
    let groups = units.count >= 4 * team.workerCount ? 1 : min(2 * team.workerCount, shape.heads)
    let headsPerGroup = (shape.heads + groups - 1) / groups
    scratch.reserve(
      perWorker: call.kernelScratchByteCount(rows: 1), shared: 4 * slots * shape.stateCount)
    let scratch = scratch
    let kernels = kernels
    let partials = unsafe scratch.shared.assumingMemoryBound(to: Float.self)
    team.run(chunkCount: units.count * groups) { chunk, worker in
      var unit = units[chunk / groups]
      unit.heads =
        call.headGroup(chunk % groups, size: headsPerGroup)
      unsafe call.attendPartition(
        unit, kernels, into: partials + (unit.slot + unit.heads.lowerBound) * shape.stateCount,
        kernelScratch: scratch.piece(of: worker))
    }
    team.run(chunkCount: units.count * groups) { chunk, _ in
      // The unit of the last partition folds its row, in place over the first partition.
      var unit = units[chunk / groups]
      guard unit.position / partitionSize == unit.partition else { return }
      unit.heads =
        call.headGroup(chunk % groups, size: headsPerGroup)
      unsafe call.fold(unit, kernels, partials: partials)
    }
  }
}

/// The addresses of one call, and the steps that workers take.
@safe
private struct AttentionCall {
  let shape: AttentionShape
  let queries: UnsafePointer<Float>
  let output: UnsafeMutablePointer<Float>
  let tables: UnsafePointer<Int32>
  let memory: KVLayerMemory

  /// Scratch of one kernel call for some rows, a multiple of 64.
  func kernelScratchByteCount(rows: Int) -> Int {
    ck_attention_scratch(rows * shape.heads, shape.dimension)
  }

  func headGroup(_ group: Int, size: Int) -> Range<Int> {
    min(shape.heads, group * size)..<min(shape.heads, (group + 1) * size)
  }

  /// One partition's result for the heads of the unit's rows, all of which see the same of it.
  func attendPartition(
    _ unit: AttentionUnit, _ kernels: KernelSet, into partial: UnsafeMutablePointer<Float>,
    kernelScratch: UnsafeMutableRawPointer
  ) {
    if unit.heads.isEmpty { return }
    let start = unit.partition * partitionSize
    var kv = unsafe ck_kv(memory, table: tables + unit.tableOffset)
    unsafe kernels.attend(memory.layout.elementType)(
      &kv,
      queries + unit.rows.lowerBound * shape.rowCount + unit.heads.lowerBound * shape.dimension,
      unit.rows.count * unit.heads.count, start, min(partitionSize, unit.position + 1 - start),
      shape.scale, partial, kernelScratch)
  }

  /// All partitions of a few rows. Rows that see all of a partition take it together; where the
  /// last ones end, each row sees more than the one before it and takes it by itself.
  func walk(
    _ unit: AttentionUnit, _ kernels: KernelSet, kernelScratch: UnsafeMutableRawPointer,
    states: UnsafeMutableRawPointer, partials: UnsafeMutableRawPointer
  ) {
    let size = shape.heads * shape.stateCount
    let states = unsafe states.assumingMemoryBound(to: Float.self)
    let partials = unsafe partials.assumingMemoryBound(to: Float.self)
    let last = unit.position + unit.rows.count - 1
    for partition in 0...last / partitionSize {
      let isWhole = unit.position + 1 >= (partition + 1) * partitionSize
      let step = isWhole ? unit.rows.count : 1
      for index in stride(from: 0, to: unit.rows.count, by: step)
      where unit.position + index >= partition * partitionSize {
        var some = unit
        some.rows = unit.rows.lowerBound + index..<unit.rows.lowerBound + index + step
        some.position = unit.position + index
        some.partition = partition
        let state = unsafe states + index * size
        let target = unsafe partition == 0 ? state : partials
        unsafe attendPartition(some, kernels, into: target, kernelScratch: kernelScratch)
        if partition > 0 {
          unsafe kernels.table.pointee.attention_merge(
            state, partials, step * shape.heads, shape.dimension)
        }
      }
    }
    unsafe kernels.table.pointee.attention_finish(
      output + unit.rows.lowerBound * shape.rowCount, states, unit.rows.count * shape.heads,
      shape.dimension)
  }

  /// Folds the partitions of one row, the last of which is `unit`.
  func fold(
    _ unit: AttentionUnit, _ kernels: KernelSet, partials: UnsafeMutablePointer<Float>
  ) {
    if unit.heads.isEmpty { return }
    let d = shape.dimension
    let first = unit.slot - unit.partition * shape.heads + unit.heads.lowerBound
    let state = unsafe partials + first * shape.stateCount
    for partition in 0..<unit.partition {
      let next = first + (partition + 1) * shape.heads
      unsafe kernels.table.pointee.attention_merge(
        state, partials + next * shape.stateCount, unit.heads.count, d)
    }
    unsafe kernels.table.pointee.attention_finish(
      output + unit.rows.lowerBound * shape.rowCount + unit.heads.lowerBound * d, state,
      unit.heads.count, d)
  }
}

extension ck_kv {
  fileprivate init(_ memory: KVLayerMemory, table: UnsafePointer<Int32>?) {
    let layout = memory.layout
    unsafe self.init(
      keys: memory.keys.base.assumingMemoryBound(to: UInt8.self),
      values: memory.values.base.assumingMemoryBound(to: UInt8.self),
      block_bytes: layout.blockByteCount, block_size: layout.blockSize,
      dimension: layout.headDimension, table: table)
  }
}

extension KernelSet {
  fileprivate func store(_ type: KVElementType) -> ck_store_kv_fn {
    type == .bfloat16 ? unsafe table.pointee.store_bfloat16 : unsafe table.pointee.store_float32
  }

  fileprivate func attend(_ type: KVElementType) -> ck_attend_fn {
    type == .bfloat16
      ? unsafe table.pointee.attend_bfloat16 : unsafe table.pointee.attend_float32
  }
}
