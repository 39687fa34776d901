import CKernels
package import Tensors

extension Compute {
  /// Prepares rows for matrix products.
  ///
  /// - Shape: `x` [rowCount, columns] from element `offset`; to be multiplied by matrices of
  ///   `formats`.
  package func prepare(
    _ input: inout LinearInput, from x: borrowing Buffer<Float>, rowCount: Int, columns: Int,
    at offset: Int = 0, for formats: WeightMatrix.FormatSet = .all
  ) {
    precondition(
      offset >= 0 && offset + rowCount * columns <= x.count, "rows outside the buffer")
    input.reshape(tokenCount: rowCount, columns: columns, formats: formats)
    unsafe prepare(&input, x) { unsafe $0 + offset + $1 * columns }
  }

  /// Prepares the rows of `x` that `rows` lists, in that order; for rows whose logits are wanted.
  ///
  /// - Shape: `x` [any, columns].
  package func prepare(
    _ input: inout LinearInput, from x: borrowing Buffer<Float>, rows: [Int32], columns: Int
  ) {
    let available = x.count / columns
    for row in rows {
      precondition(row >= 0 && row < available, "row \(row) outside 0..<\(available)")
    }
    input.reshape(tokenCount: rows.count, columns: columns)
    unsafe prepare(&input, x) { unsafe $0 + Int(rows[$1]) * columns }
  }

  private func prepare(
    _ input: inout LinearInput, _ x: borrowing Buffer<Float>,
    _ source: (UnsafePointer<Float>, Int) -> UnsafePointer<Float>
  ) {
    precondition(input.kernels == kernels, "the input was made for other kernels")
    let grain = max(1, 65_536 / input.columns)
    let count = input.tokenCount
    let (recorder, address, columns) = (recorder, input.address, input.columns)
    unsafe x.withUnsafePointer { base in
      unsafe recorder?.prepare(address, tokenCount: count, columns: columns) {
        unsafe source(base, $0)
      }
      input.withWriter { writer in
        forEachRange(count, grain: grain) { tokens, _ in
          for token in tokens { unsafe writer.prepare(token, source(base, token)) }
        }
      }
    }
  }

  /// output[t][n] = Σₖ weights[n][k] · input[t][k]
  ///
  /// - Shape: `output` [T, N] from element `offset`, rows `stride` elements apart (N unless given).
  /// - Precision: Float32 sums in an order that depends on n and K alone.
  package func linear(
    _ weights: WeightMatrix, _ input: borrowing LinearInput, into output: inout Buffer<Float>,
    at offset: Int = 0, stride: Int? = nil
  ) {
    let tokens = input.tokenCount
    let stride = stride ?? weights.rows
    precondition(input.kernels == kernels, "the input was made for other kernels")
    precondition(
      input.columns == weights.columns,
      "\(input.columns) activations do not fit [\(weights.rows), \(weights.columns)]")
    if tokens == 0 { return }
    recorder?.multiply(weights.values, input.address)
    precondition(
      offset >= 0 && stride >= weights.rows
        && offset + (tokens - 1) * stride + weights.rows <= output.count,
      "products outside the buffer")
    unsafe output.withUnsafeMutablePointer { y in
      unsafe input.withRows(for: weights.format) { rows, kind in
        var task = unsafe ck_linear(weights, operand: rows, kind: kind, columns: input.columns)
        unsafe task.output = y + offset
        unsafe task.output_stride = stride
        unsafe run(task, weights, tokens: tokens)
      }
    }
  }

  /// Splits a product over the team, by rows of weights first and tokens second.
  private func run(_ task: ck_linear, _ weights: WeightMatrix, tokens: Int) {
    let plan = LinearPlan(weights, tokens: tokens, workers: team.workerCount)
    let function = unsafe kernels.linear(weights.format)
    let (scratch, workers) = (scratch, team.workerCount)
    team.run(chunkCount: plan.rowChunks * plan.tokenChunks) { chunk, worker in
      let row = chunk / plan.tokenChunks * plan.rowsPerChunk
      let token = chunk % plan.tokenChunks * plan.tokensPerChunk
      var task = unsafe task
      // A worker's next chunk is likely to be the one behind the other workers'.
      let later = row + workers * plan.rowsPerChunk
      if later < weights.rows { unsafe task.next = task.values + later * task.row_stride }
      unsafe function(
        &task, row, min(weights.rows, row + plan.rowsPerChunk), token,
        min(tokens, token + plan.tokensPerChunk), scratch.piece(of: worker))
    }
  }

  /// Writes row `rows[i]` of `weights`, widened to Float32, into row i of `output`.
  ///
  /// - Shape: `output` [rows.count, columns] from its start.
  package func lookUp(
    _ weights: WeightMatrix, rows: [Int32], into output: inout Buffer<Float>
  ) {
    let columns = weights.columns
    precondition(rows.count * columns <= output.count, "rows outside the buffer")
    for row in rows {
      precondition(row >= 0 && row < weights.rows, "row \(row) outside 0..<\(weights.rows)")
    }
    unsafe output.withUnsafeMutablePointer { y in
      forEachRange(rows.count, grain: 64) { range, _ in
        for index in range {
          let row = Int(rows[index])
          let values = unsafe weights.values.base + row * weights.format.byteCount(weights.stride)
          if let integer = weights.integer {
            var description = unsafe integer.description
            unsafe kernels.table.pointee.widen_integer(
              weights.format.rawValue, y + index * columns, values, &description, row, columns)
            continue
          }
          let scales = unsafe weights.scaleInverse.map {
            unsafe ($0.base + row / Int(CK_SCALE_BLOCK) * weights.scaleStride * 4)
              .assumingMemoryBound(to: Float.self)
          }
          unsafe kernels.table.pointee.widen(
            weights.format.rawValue, y + index * columns, values, scales, columns)
        }
      }
    }
  }
}

extension ck_linear {
  /// Products with prepared rows of `columns`; the output is to be filled in.
  init(_ weights: WeightMatrix, operand: UnsafeRawPointer, kind: Int32, columns: Int) {
    unsafe self.init(
      values: weights.values.base, row_stride: weights.format.byteCount(weights.stride),
      scales: weights.scaleInverse?.base.assumingMemoryBound(to: Float.self),
      scale_stride: weights.scaleStride, columns: weights.columns, slices: 1, slice_stride: 0,
      operand: operand, operand_stride: ck_operand_bytes(kind, columns), operand_kind: kind,
      output: nil, output_stride: 0, next: nil,
      integer: weights.integer?.description ?? ck_integer())
  }
}

extension KernelSet {
  func linear(_ format: WeightMatrix.Format) -> ck_linear_fn {
    switch format {
    case .float32: unsafe table.pointee.linear_float32
    case .bfloat16: unsafe table.pointee.linear_bfloat16
    case .e4m3: unsafe table.pointee.linear_e4m3
    case .int8: unsafe table.pointee.linear_int8
    case .int4: unsafe table.pointee.linear_int4
    }
  }
}

/// How one product is cut into chunks; the cut never changes the results.
private struct LinearPlan {
  /// Below this many multiply-adds and bytes of weights a second thread costs more than it gives.
  private static let serialWork = 1 << 16
  private static let chunkByteCount = 1 << 17

  var rowsPerChunk: Int
  var rowChunks: Int
  var tokensPerChunk: Int
  var tokenChunks: Int

  init(_ weights: WeightMatrix, tokens: Int, workers: Int) {
    let rows = weights.rows
    rowsPerChunk = rows
    tokensPerChunk = tokens
    if workers > 1 && rows * weights.columns * tokens >= Self.serialWork {
      let rowBytes = weights.format.byteCount(weights.columns)
      // Long enough for the prefetchers, short enough that the threads end together.
      let balanced = Self.roundUp(rows, dividedBy: 4 * workers)
      let target = tokens <= 16 ? max(16, Self.chunkByteCount / rowBytes) : 256
      rowsPerChunk = max(1, min(target, balanced))
      // The kernels take groups of 8 rows.
      rowsPerChunk = min(rows, (rowsPerChunk + 7) / 8 * 8)
      if tokens >= 256 && rows / rowsPerChunk < 4 * workers {
        tokensPerChunk = Self.roundUp(tokens, dividedBy: 4) / 48 * 48
        rowsPerChunk = min(256, rows)
      }
    }
    rowChunks = Self.roundUp(rows, dividedBy: rowsPerChunk)
    tokenChunks = Self.roundUp(tokens, dividedBy: tokensPerChunk)
  }

  private static func roundUp(_ count: Int, dividedBy size: Int) -> Int {
    (count + size - 1) / size
  }
}
