package import Tensors

/// Times of kernels over shapes that matter, with the work that each does.
package struct KernelBenchmark: ~Copyable {
  /// One timed shape.
  package struct Result: Sendable, Equatable {
    /// What ran, such as "linear bfloat16".
    package let name: String
    /// The shape, in words.
    package let shape: String
    /// Bytes of weights or cache that one run reads.
    package let byteCount: Int
    /// Multiplications and additions of one run.
    package let operations: Double
    /// Runs per second.
    package let rate: MeasuredRate

    /// Bytes per second, by the median.
    package var bytesPerSecond: Double { Double(byteCount) * rate.median }
    /// Operations per second, by the median.
    package var operationsPerSecond: Double { operations * rate.median }
  }

  private let compute: Compute
  private let repeats: Int
  /// Weights: one block of random bytes that every matrix is a part of.
  private let pool: ByteRegion
  private let scales: ByteRegion

  /// A benchmark whose decode matrices together fill `byteCount`.
  package init(compute: Compute, byteCount: Int = 256 << 20, repeats: Int = 7) {
    self.compute = compute
    self.repeats = repeats
    pool = ByteRegion(allocating: byteCount)
    var state: UInt64 = 88_172_645_463_325_252
    // The block is new and nothing else refers to it yet.
    let words = unsafe UnsafeMutableRawPointer(mutating: pool.base)
      .assumingMemoryBound(to: UInt64.self)
    for index in 0..<byteCount / 8 {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      // Ordinary numbers in every format: exponents near 1, no subnormal E4M3 codes.
      unsafe words[index] = state & 0xBFBF_BFBF_BFBF_BFBF | 0x3030_3030_3030_3030
    }
    scales = ByteRegion(allocating: 4 * (byteCount / (128 * 128) + 4096))
  }

  private func matrix(
    _ format: WeightMatrix.Format, rows: Int, columns: Int
  ) -> WeightMatrix {
    let bytes = pool[0..<rows * format.byteCount(columns)]
    switch format {
    case .float32: return .float32(bytes, rows: rows, columns: columns)
    case .bfloat16: return .bfloat16(bytes, rows: rows, columns: columns)
    case .e4m3:
      let count = WeightMatrix.scaleBlockCount(rows) * WeightMatrix.scaleBlockCount(columns)
      return .e4m3(bytes, scaleInverse: scales[0..<4 * count], rows: rows, columns: columns)
    case .int8:
      let factors = IntegerFactors(
        pool[0..<2 * rows], .bfloat16, .row, rows: rows, columns: columns)
      return .int8(bytes, factors, rows: rows, columns: columns)
    case .int4:
      // The factors come from the end of the pool, as far from the elements as in a file.
      let groups = rows * (columns / 32)
      let factors = IntegerFactors(
        pool[pool.byteCount - 2 * groups..<pool.byteCount], .bfloat16, .columns(32), rows: rows,
        columns: columns)
      return .int4(bytes, factors, rows: rows, columns: columns)
    }
  }

  /// A matrix product with `tokens` rows; nil rows take as many as fit the pool.
  package func linear(
    _ format: WeightMatrix.Format, _ activation: ActivationType, rows: Int? = nil, columns: Int,
    tokens: Int
  ) -> Result {
    let factorBytes = format == .int4 ? columns / 16 : 0
    let fit = pool.byteCount / (format.byteCount(columns) + factorBytes)
    let weights = matrix(format, rows: min(fit, rows ?? fit), columns: columns)
    var input = LinearInput(
      kernels: compute.kernels, activation: activation, maxTokens: tokens, maxColumns: columns,
      formats: WeightMatrix.FormatSet(format))
    var x = Buffer<Float>(count: tokens * columns)
    for index in 0..<x.count { x[index] = Float(index % 101) / 50 - 1 }
    var y = Buffer<Float>(count: tokens * weights.rows)
    let rate = MeasuredRate.of(work: 1, repeats: repeats) {
      compute.prepare(&input, from: x, rowCount: tokens, columns: columns)
      compute.linear(weights, input, into: &y)
    }
    return Result(
      name: "linear \(format) × \(activation.rawValue)",
      shape: "[\(weights.rows), \(columns)] × \(tokens)", byteCount: weights.byteCount,
      operations: 2 * Double(weights.rows) * Double(columns) * Double(tokens), rate: rate)
  }

  /// Attention of `rows` rows at the end of a context of `positions`.
  package func attention(
    _ type: KVElementType, heads: Int, headDimension: Int, rows: Int, positions: Int
  ) throws(MemoryError) -> Result {
    let layout = KVLayout(elementType: type, headDimension: headDimension)
    let blocks = (positions + layout.blockSize - 1) / layout.blockSize
    let arena = try ByteArena(byteCount: layout.layerByteCount(blockCount: blocks))
    let memory = KVLayerMemory(layout: layout, blockCount: blocks, layer: 0, arena: arena)
    var row = Buffer<Float>(count: headDimension)
    for index in 0..<headDimension { row[index] = Float(index % 13) / 13 - 0.5 }
    for slot in 0..<positions {
      compute.storeKeysValues(keys: row, values: row, slots: [Int32(slot)], into: memory)
    }
    var queries = Buffer<Float>(count: rows * heads * headDimension)
    for index in 0..<queries.count { queries[index] = Float(index % 17) / 17 - 0.5 }
    var output = Buffer<Float>(count: queries.count)
    let span = AttentionSpan(
      firstRow: 0, rowCount: rows, startPosition: positions - rows, blockTableOffset: 0)
    let tables = (0..<blocks).map(Int32.init)
    let rate = MeasuredRate.of(work: 1, repeats: repeats) {
      compute.attend(
        queries: queries, heads: heads, spans: [span], blockTables: tables, memory: memory,
        scale: 0.1, into: &output)
    }
    let seen = Double(rows) * (Double(positions) - Double(rows - 1) / 2)
    return Result(
      name: "attention \(type.rawValue)",
      shape: "\(rows) × \(heads) heads of \(headDimension), \(positions) positions",
      byteCount: 2 * blocks * layout.blockByteCount,
      operations: 4 * seen * Double(heads) * Double(headDimension), rate: rate)
  }
}
