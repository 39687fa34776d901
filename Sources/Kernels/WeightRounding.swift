import CKernels
package import Tensors

/// Importance-weighted squares: of the weights, and of what rounding changed.
package struct RoundingLoss: Sendable, Equatable {
  /// Σ importance · (rounded - weight)².
  package var error = 0.0
  /// Σ importance · weight².
  package var norm = 0.0

  /// No weights.
  package init() {}

  /// Root of the error's share of the norm; 0 for weights that are all zero.
  package var relativeError: Double { norm > 0 ? (error / norm).squareRoot() : 0 }

  /// Adds the loss of other weights.
  package static func += (left: inout RoundingLoss, right: RoundingLoss) {
    left.error += right.error
    left.norm += right.norm
  }
}

/// A matrix rounded to few bits, in the layouts that checkpoints use.
package struct RoundedMatrix: Sendable {
  /// The elements, row by row; those of INT4 two a byte, the lower half first.
  package var elements: [UInt8]
  /// Integers: BF16 factors [rows, groups]; E4M3: Float32 factors of blocks of 128 × 128.
  package var factors: [UInt8]
  /// INT4 with zero points: 32-bit words [⌈rows / 8⌉, groups], the first row in the low bits.
  package var zeros: [UInt8]
  /// What was lost.
  package var loss: RoundingLoss
}

/// Rounds matrices of a checkpoint to fewer bits: with the least squared error that a search over
/// the factors finds, or, where inputs are known, the least error of products that rounding column
/// by column with feedback finds.
package struct WeightRounding: Sendable {
  private let team: WorkTeam
  private let type = IntegerFactors.ElementType.bfloat16.rawValue

  /// Rounds on the threads of `team`.
  package init(team: WorkTeam) { self.team = team }

  /// Integers of 4 or 8 bits.
  ///
  /// - Parameters:
  ///   - matrix: [rows, columns], of a floating-point type.
  ///   - zeros: whether groups of 4 bits have zero points of their own.
  ///   - inputs: What meets the matrix; nil when that is not known.
  package func integers(
    _ matrix: Tensor, bits: Int, _ grouping: IntegerFactors.Grouping, zeros: Bool,
    inputs: InputProducts?
  ) -> RoundedMatrix {
    precondition(matrix.shape.count == 2 && (bits == 8 || bits == 4 && grouping != .row))
    let (rows, columns) = (matrix.shape[0], matrix.shape[1])
    let groups = IntegerFactors.groupCount(grouping, columns)
    let size = columns / groups
    precondition(bits == 8 || size % 2 == 0)
    var result = RoundedMatrix(
      elements: Array(repeating: 0, count: rows * columns * bits / 8),
      factors: Array(repeating: 0, count: 2 * rows * groups),
      zeros: Array(repeating: 0, count: zeros ? (rows + 7) / 8 * groups * 4 : 0),
      loss: RoundingLoss())
    // Eight rows share the words of their zero points, so that they are one worker's.
    let lines = Int(CK_FEEDBACK_ROWS)
    let chunks = (rows + lines - 1) / lines
    var losses = Array(repeating: RoundingLoss(), count: chunks)
    let rowBytes = columns * bits / 8
    let grid = RoundingGrid(
      columns: columns, group: grouping == .row ? 0 : size, bits: Int32(bits), zeros: zeros)
    unsafe Self.withPointers(&result, &losses) { elements, factors, words, losses in
      team.run(chunkCount: chunks) { chunk, _ in
        let part = chunk * lines..<min(rows, (chunk + 1) * lines)
        var rounded = RoundedRows(count: part.count, columns: columns, groups: groups)
        unsafe losses[chunk] = round(matrix, part, grid, inputs, &rounded)
        for (line, row) in part.enumerated() {
          for group in 0..<groups {
            let place = row * groups + group
            unsafe (factors + 2 * place).storeBytes(
              of: bfloat16Bits(rounded.factors[line * groups + group]), as: UInt16.self)
            if zeros {
              let at = unsafe words + 4 * (row / 8 * groups + group)
              let zero = UInt32(rounded.zeros[line * groups + group])
              let word = unsafe at.load(as: UInt32.self) | zero << UInt32(4 * (row % 8))
              unsafe at.storeBytes(of: word, as: UInt32.self)
            }
          }
          let target = unsafe elements + row * rowBytes
          let first = line * columns
          if bits == 8 {
            for k in 0..<columns { unsafe target[k] = rounded.codes[first + k] }
          } else {
            for k in 0..<columns / 2 {
              unsafe target[k] =
                rounded.codes[first + 2 * k] | rounded.codes[first + 2 * k + 1] << 4
            }
          }
        }
      }
    }
    for loss in losses { result.loss += loss }
    return result
  }

  /// E4M3 with a factor for each block of 128 × 128, edge blocks cut.
  ///
  /// - Shape: `matrix` [rows, columns].
  package func e4m3(_ matrix: Tensor, inputs: InputProducts?) -> RoundedMatrix {
    precondition(matrix.shape.count == 2)
    let (rows, columns) = (matrix.shape[0], matrix.shape[1])
    let (down, across) = (
      WeightMatrix.scaleBlockCount(rows), WeightMatrix.scaleBlockCount(columns)
    )
    var result = RoundedMatrix(
      elements: Array(repeating: 0, count: rows * columns),
      factors: Array(repeating: 0, count: 4 * down * across), zeros: [], loss: RoundingLoss())
    var losses = Array(repeating: RoundingLoss(), count: down)
    let grid = RoundingGrid(columns: columns, group: 128, bits: 0, zeros: false)
    unsafe Self.withPointers(&result, &losses) { elements, factors, _, losses in
      team.run(chunkCount: down) { chunk, _ in
        let part = chunk * 128..<min(rows, chunk * 128 + 128)
        var blocks = RoundedRows(count: part.count, columns: columns, groups: across)
        unsafe losses[chunk] = roundBlocks(matrix, part, &blocks)
        for block in 0..<across {
          unsafe (factors + 4 * (chunk * across + block)).storeBytes(
            of: blocks.factors[block].bitPattern, as: UInt32.self)
        }
        if inputs != nil {
          unsafe losses[chunk] = RoundingLoss()
          let lines = Int(CK_FEEDBACK_ROWS)
          for first in stride(from: part.lowerBound, to: part.upperBound, by: lines) {
            let some = first..<min(part.upperBound, first + lines)
            var rounded = RoundedRows(count: some.count, columns: columns, groups: across)
            for line in 0..<some.count {
              for block in 0..<across {
                rounded.factors[line * across + block] = blocks.factors[block]
              }
            }
            unsafe losses[chunk] += round(matrix, some, grid, inputs, &rounded)
            let place = (first - part.lowerBound) * columns
            blocks.codes.replaceSubrange(place..<place + rounded.codes.count, with: rounded.codes)
          }
        }
        let target = unsafe elements + part.lowerBound * columns
        for k in blocks.codes.indices { unsafe target[k] = blocks.codes[k] }
      }
    }
    for loss in losses { result.loss += loss }
    return result
  }

  /// Rows of integers, or of E4M3 whose factors are given.
  private func round(
    _ matrix: Tensor, _ part: Range<Int>, _ grid: RoundingGrid, _ inputs: InputProducts?,
    _ rounded: inout RoundedRows
  ) -> RoundingLoss {
    let weights = Self.floats(matrix, part)
    guard let inputs else { return roundGroups(weights, grid, &rounded) }
    let columns = grid.columns
    precondition(inputs.columns == columns, "inputs of \(inputs.columns) for \(columns) columns")
    var scratch = [Float](repeating: 0, count: 2 * Int(CK_FEEDBACK_ROWS) * columns)
    return unsafe inputs.factored.withUnsafeBufferPointer { products in
      unsafe weights.withUnsafeBufferPointer { weights in
        guard let products = products.baseAddress, let weights = weights.baseAddress else {
          preconditionFailure("a matrix cannot be empty")
        }
        var task = unsafe grid.task(products, type)
        return unsafe RoundingLoss(
          ck_round_rows(
            &task, weights, part.count, &rounded.factors, &rounded.zeros, &rounded.codes,
            &scratch))
      }
    }
  }

  /// Each group of integers by itself.
  private func roundGroups(
    _ weights: [Float], _ grid: RoundingGrid, _ rounded: inout RoundedRows
  ) -> RoundingLoss {
    let size = grid.group == 0 ? grid.columns : grid.group
    var loss = RoundingLoss()
    unsafe weights.withUnsafeBufferPointer { weights in
      guard let weights = weights.baseAddress else { return }
      unsafe rounded.codes.withUnsafeMutableBufferPointer { codes in
        guard let codes = codes.baseAddress else { return }
        for group in rounded.factors.indices {
          var (factor, zero) = (Float(0), Int32(0))
          unsafe loss += RoundingLoss(
            ck_round_group(
              weights + group * size, nil, size, grid.bits, grid.zeros ? 1 : 0, type, &factor,
              &zero, codes + group * size))
          rounded.factors[group] = factor
          rounded.zeros[group] = zero
        }
      }
    }
    return loss
  }

  /// E4M3: each block of 128 columns of up to 128 rows by itself. The factors of a block are those
  /// of its first row.
  private func roundBlocks(
    _ matrix: Tensor, _ part: Range<Int>, _ rounded: inout RoundedRows
  ) -> RoundingLoss {
    let columns = matrix.shape[1]
    let weights = Self.floats(matrix, part)
    var loss = RoundingLoss()
    for block in 0..<WeightMatrix.scaleBlockCount(columns) {
      let range = block * 128..<min(columns, block * 128 + 128)
      let values = (0..<part.count).flatMap { line in
        weights[line * columns + range.lowerBound..<line * columns + range.upperBound]
      }
      var codes = [UInt8](repeating: 0, count: values.count)
      loss += unsafe values.withUnsafeBufferPointer { values in
        guard let base = values.baseAddress else { preconditionFailure("an empty block") }
        return unsafe RoundingLoss(
          ck_round_e4m3(base, nil, values.count, &rounded.factors[block], &codes))
      }
      for line in 0..<part.count {
        for k in range {
          rounded.codes[line * columns + k] = codes[line * range.count + k - range.lowerBound]
        }
      }
    }
    return loss
  }

  private static func floats(_ matrix: Tensor, _ rows: Range<Int>) -> [Float] {
    rows.flatMap { row in
      guard let values = matrix.slice(row).floats() else {
        preconditionFailure("\(matrix.elementType.rawValue) cannot be rounded")
      }
      return values
    }
  }

  /// Workers write disjoint parts of the arrays.
  private static func withPointers(
    _ result: inout RoundedMatrix, _ losses: inout [RoundingLoss],
    _ body: (
      UnsafeMutablePointer<UInt8>, UnsafeMutableRawPointer, UnsafeMutableRawPointer,
      UnsafeMutablePointer<RoundingLoss>
    ) -> Void
  ) {
    unsafe result.elements.withUnsafeMutableBytes { elements in
      unsafe result.factors.withUnsafeMutableBytes { factors in
        unsafe result.zeros.withUnsafeMutableBytes { zeros in
          unsafe losses.withUnsafeMutableBufferPointer { losses in
            guard let elements = elements.baseAddress, let factors = factors.baseAddress,
              let losses = losses.baseAddress
            else { preconditionFailure("a matrix cannot be empty") }
            unsafe body(
              elements.assumingMemoryBound(to: UInt8.self), factors,
              zeros.baseAddress ?? factors, losses)
          }
        }
      }
    }
  }
}

extension RoundingLoss {
  init(_ loss: ck_rounding_loss) {
    error = loss.error
    norm = loss.norm
  }
}

/// Some rows as the kernels round them, [rows, columns], with [rows, groups] factors and zeros.
private struct RoundedRows {
  var factors: [Float]
  var zeros: [Int32]
  var codes: [UInt8]

  init(count: Int, columns: Int, groups: Int) {
    factors = Array(repeating: 0, count: count * groups)
    zeros = Array(repeating: 0, count: count * groups)
    codes = Array(repeating: 0, count: count * columns)
  }
}

/// How rows are rounded: bits 0 is E4M3, group 0 the whole row.
private struct RoundingGrid {
  let columns: Int
  let group: Int
  let bits: Int32
  let zeros: Bool

  func task(_ products: UnsafePointer<Float>, _ type: Int32) -> ck_feedback {
    unsafe ck_feedback(
      products: products, columns: columns, group: group, bits: bits, with_zero: zeros ? 1 : 0,
      factor_type: type)
  }
}
