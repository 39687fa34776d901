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

/// Rounds matrices of a checkpoint to fewer bits, with the least squared error that a search over
/// the factors finds.
package struct WeightRounding: Sendable {
  private let team: WorkTeam

  /// Rounds on the threads of `team`.
  package init(team: WorkTeam) { self.team = team }

  /// Integers of 4 or 8 bits.
  ///
  /// - Parameters:
  ///   - matrix: [rows, columns], of a floating-point type.
  ///   - importance: [columns], such as the mean squares of the inputs; nil for all the same.
  ///   - zeros: whether groups of 4 bits have zero points of their own.
  package func integers(
    _ matrix: Tensor, bits: Int, _ grouping: IntegerFactors.Grouping, zeros: Bool,
    importance: [Float]?
  ) -> RoundedMatrix {
    precondition(matrix.shape.count == 2 && (bits == 8 || bits == 4 && grouping != .row))
    let (rows, columns) = (matrix.shape[0], matrix.shape[1])
    precondition(importance == nil || importance?.count == columns)
    let groups = IntegerFactors.groupCount(grouping, columns)
    let size = columns / groups
    precondition(bits == 8 || size % 2 == 0)
    var result = RoundedMatrix(
      elements: Array(repeating: 0, count: rows * columns * bits / 8),
      factors: Array(repeating: 0, count: 2 * rows * groups),
      zeros: Array(repeating: 0, count: zeros ? (rows + 7) / 8 * groups * 4 : 0),
      loss: RoundingLoss())
    // Eight rows share the words of their zero points, so that they are one worker's.
    let chunks = (rows + 7) / 8
    var losses = Array(repeating: RoundingLoss(), count: chunks)
    let type = IntegerFactors.ElementType.bfloat16.rawValue
    let rowBytes = columns * bits / 8
    unsafe Self.withPointers(&result, &losses) { elements, factors, words, losses in
      team.run(chunkCount: chunks) { chunk, _ in
        var codes = [UInt8](repeating: 0, count: size)
        for row in chunk * 8..<min(rows, chunk * 8 + 8) {
          let weights = Self.floats(matrix, row: row)
          for group in 0..<groups {
            var (factor, zero) = (Float(0), Int32(0))
            let first = group * size
            let loss = unsafe Self.withOptional(weights) { weights in
              unsafe Self.withOptional(importance) { importance in
                guard let weights = unsafe weights else { preconditionFailure("no weights") }
                return unsafe ck_round_group(
                  weights + first, importance.map { unsafe $0 + first }, size,
                  Int32(bits), zeros ? 1 : 0, type, &factor, &zero, &codes)
              }
            }
            unsafe losses[chunk] += RoundingLoss(loss)
            let place = row * groups + group
            unsafe (factors + 2 * place).storeBytes(of: bfloat16Bits(factor), as: UInt16.self)
            if zeros {
              let at = unsafe words + 4 * (row / 8 * groups + group)
              let word = unsafe at.load(as: UInt32.self) | UInt32(zero) << UInt32(4 * (row % 8))
              unsafe at.storeBytes(of: word, as: UInt32.self)
            }
            let target = unsafe elements + row * rowBytes + first * bits / 8
            if bits == 8 {
              for k in 0..<size { unsafe target[k] = codes[k] }
            } else {
              for k in 0..<size / 2 { unsafe target[k] = codes[2 * k] | codes[2 * k + 1] << 4 }
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
  /// - Shape: `matrix` [rows, columns]; `importance` [columns].
  package func e4m3(_ matrix: Tensor, importance: [Float]?) -> RoundedMatrix {
    precondition(matrix.shape.count == 2)
    let (rows, columns) = (matrix.shape[0], matrix.shape[1])
    let (down, across) = (
      WeightMatrix.scaleBlockCount(rows), WeightMatrix.scaleBlockCount(columns)
    )
    var result = RoundedMatrix(
      elements: Array(repeating: 0, count: rows * columns),
      factors: Array(repeating: 0, count: 4 * down * across), zeros: [], loss: RoundingLoss())
    var losses = Array(repeating: RoundingLoss(), count: down)
    unsafe Self.withPointers(&result, &losses) { elements, factors, _, losses in
      team.run(chunkCount: down) { chunk, _ in
        let lines = (chunk * 128..<min(rows, chunk * 128 + 128)).map {
          Self.floats(matrix, row: $0)
        }
        for block in 0..<across {
          let range = block * 128..<min(columns, block * 128 + 128)
          let weights = lines.flatMap { $0[range] }
          let spread = importance.map { values in lines.flatMap { _ in values[range] } }
          var codes = [UInt8](repeating: 0, count: weights.count)
          var factor = Float(0)
          let loss = unsafe Self.withOptional(spread) { spread in
            unsafe ck_round_e4m3(weights, spread, weights.count, &factor, &codes)
          }
          unsafe losses[chunk] += RoundingLoss(loss)
          unsafe (factors + 4 * (chunk * across + block)).storeBytes(
            of: factor.bitPattern, as: UInt32.self)
          for line in lines.indices {
            let target = unsafe elements + (chunk * 128 + line) * columns + range.lowerBound
            for k in 0..<range.count { unsafe target[k] = codes[line * range.count + k] }
          }
        }
      }
    }
    for loss in losses { result.loss += loss }
    return result
  }

  private static func floats(_ matrix: Tensor, row: Int) -> [Float] {
    guard let values = matrix.slice(row).floats() else {
      preconditionFailure("\(matrix.elementType.rawValue) cannot be rounded")
    }
    return values
  }

  private static func withOptional<R>(
    _ values: [Float]?, _ body: (UnsafePointer<Float>?) -> R
  ) -> R {
    guard let values else { return body(nil) }
    return unsafe values.withUnsafeBufferPointer { values in
      unsafe body(values.baseAddress)
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
