import Foundation
import Kernels
import Tensors
import Testing

/// One cache with a few sequences in scattered blocks, and the rows that attend to it.
private struct AttentionScene {
  var layout: KVLayout
  var heads: Int
  /// Positions of each sequence.
  var lengths: [Int]

  /// Blocks of sequence s, scattered over the memory; the tables stand one after the other.
  func tables() -> (tables: [Int32], offsets: [Int], blockCount: Int) {
    var tables: [Int32] = []
    var offsets: [Int] = []
    for length in lengths {
      offsets.append(tables.count)
      for _ in 0..<(length + layout.blockSize - 1) / layout.blockSize {
        tables.append(Int32(tables.count))
      }
    }
    let count = tables.count
    return (tables.map { Int32(count) - $0 }, offsets, count + 1)
  }
}

private struct AttentionData {
  let queries: [[Float]]
  let keys: [[Float]]
  let values: [[Float]]

  init(_ scene: AttentionScene, seed: UInt64) {
    var numbers = TestNumbers(seed: seed)
    let d = scene.layout.headDimension
    queries = scene.lengths.map { numbers.floats($0 * scene.heads * d).map { 4 * $0 } }
    keys = scene.lengths.map { numbers.floats($0 * d) }
    values = scene.lengths.map { numbers.floats($0 * d) }
  }
}

/// Runs all rows of all sequences in chunks of the given size; one row's bits per (sequence, row).
private func run(
  _ scene: AttentionScene, _ data: AttentionData, set: KernelSet, threads: Int, chunk: Int,
  garbage: UInt8
) throws -> [[UInt32]] {
  let compute = Compute(kernels: set, threadCount: threads)
  let (tables, offsets, blockCount) = scene.tables()
  let layout = scene.layout
  let d = layout.headDimension
  let width = scene.heads * d
  let arena = try ByteArena(byteCount: 2 * layout.layerByteCount(blockCount: blockCount))
  let memory = KVLayerMemory(layout: layout, blockCount: blockCount, layer: 1, arena: arena)
  memory.keys.fill(garbage)
  memory.values.fill(garbage)
  var found = scene.lengths.map { _ in [UInt32]() }
  var start = 0
  while start < scene.lengths.max() ?? 0 {
    var spans: [AttentionSpan] = []
    var (queries, keys, values, slots) = ([Float](), [Float](), [Float](), [Int32]())
    for (index, length) in scene.lengths.enumerated() where start < length {
      let end = min(length, start + chunk)
      spans.append(
        AttentionSpan(
          firstRow: slots.count, rowCount: end - start, startPosition: start,
          blockTableOffset: offsets[index]))
      queries += data.queries[index][start * width..<end * width]
      keys += data.keys[index][start * d..<end * d]
      values += data.values[index][start * d..<end * d]
      for position in start..<end {
        let block = tables[offsets[index] + position / layout.blockSize]
        slots.append(block * Int32(layout.blockSize) + Int32(position % layout.blockSize))
      }
    }
    compute.storeKeysValues(
      keys: Buffer(keys), values: Buffer(values), slots: slots, into: memory)
    var output = Buffer<Float>(count: queries.count)
    compute.attend(
      queries: Buffer(queries), heads: scene.heads, spans: spans, blockTables: tables,
      memory: memory, scale: 1 / Float(d).squareRoot(), into: &output)
    let all = bits(output)
    var sequence = 0
    for index in scene.lengths.indices where start < scene.lengths[index] {
      let span = spans[sequence]
      found[index] += all[span.firstRow * width..<(span.firstRow + span.rowCount) * width]
      sequence += 1
    }
    start += chunk
  }
  return found
}

/// Softmax attention of one query in Float64.
private func expected(
  query: ArraySlice<Float>, keys: [Float], values: [Float], positions: Int, half: Bool
) -> [Double] {
  let d = query.count
  let round: (Float) -> Double = { Double(half ? rounded($0) : $0) }
  let q = query.map(round)
  var scores: [Double] = []
  for p in 0..<positions {
    var sum = 0.0
    for c in 0..<d { sum += q[c] * round(keys[p * d + c]) }
    scores.append(sum / Double(d).squareRoot())
  }
  let largest = scores.max() ?? 0
  let weights: [Double] = scores.map { exp($0 - largest) }
  let total = weights.reduce(0, +)
  var output = [Double](repeating: 0, count: d)
  for p in 0..<positions {
    for c in 0..<d { output[c] += weights[p] / total * round(values[p * d + c]) }
  }
  return output
}

@Suite struct AttentionTests {
  @Test(
    "attention is a softmax over the visible positions", arguments: KernelSet.available,
    KVElementType.allCases)
  func matchesDouble(set: KernelSet, type: KVElementType) throws {
    for (d, heads, size, lengths) in [
      (16, 3, 32, [70, 1, 33]), (192, 5, 16, [40]), (6, 13, 64, [1100]), (256, 12, 32, [35]),
      (34, 17, 128, [200]),
    ] {
      let scene = AttentionScene(
        layout: KVLayout(elementType: type, blockSize: size, headDimension: d), heads: heads,
        lengths: lengths)
      let data = AttentionData(scene, seed: UInt64(d))
      let found = try run(scene, data, set: set, threads: 2, chunk: 4096, garbage: 0xFF)
      var worst = 0.0
      for (s, length) in lengths.enumerated() {
        for row in stride(from: 0, to: length, by: length > 100 ? 37 : 1) {
          for head in [0, heads / 2, heads - 1] {
            let at = (row * heads + head) * d
            let wanted = expected(
              query: data.queries[s][at..<at + d], keys: data.keys[s], values: data.values[s],
              positions: row + 1, half: type == .bfloat16)
            for c in 0..<d {
              let value = Double(Float(bitPattern: found[s][at + c]))
              worst = max(worst, abs(value - wanted[c]))
            }
          }
        }
      }
      // BF16 probabilities are off by up to 2^-9 each, at random.
      #expect(worst < (type == .bfloat16 ? 4e-3 : 5e-6), "d \(d), \(heads) heads")
    }
  }

  @Test(
    "bits depend on neither chunks, threads, batch nor what lies beyond the end",
    arguments: KernelSet.available, KVElementType.allCases)
  func sameBits(set: KernelSet, type: KVElementType) throws {
    let scene = AttentionScene(
      layout: KVLayout(elementType: type, headDimension: 20), heads: 7, lengths: [600, 45, 3])
    let data = AttentionData(scene, seed: 9)
    let whole = try run(scene, data, set: set, threads: 1, chunk: 1000, garbage: 0)
    for (threads, chunk) in [(2, 1000), (1, 37), (3, 64), (2, 1), (1, 1)] {
      let found = try run(
        scene, data, set: set, threads: threads, chunk: chunk, garbage: 0xFF)
      #expect(found == whole, "\(threads) threads, chunks of \(chunk)")
    }
  }
}
