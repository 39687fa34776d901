import CKernels
package import Tensors

// Operations that work on rows one by one, or on elements one by one.
extension Compute {
  /// Elements that one chunk of an element-wise operation covers.
  private static let elementGrain = 65_536

  /// y = x / √(mean(x²) + ε) · weight, row by row.
  ///
  /// - Shape: `x` [rowCount, columns] from element `offset`, rows `stride` elements apart (columns
  ///   unless given); `weight` [columns]; `y` [rowCount, columns] from its start.
  /// - Precision: Float32, squares added in a fixed order.
  package func rmsNorm(
    _ x: borrowing Buffer<Float>, weight: borrowing Buffer<Float>, epsilon: Float, rowCount: Int,
    columns: Int, at offset: Int = 0, stride: Int? = nil, into y: inout Buffer<Float>
  ) {
    let stride = stride ?? columns
    precondition(
      weight.count == columns && rowCount * columns <= y.count && offset >= 0
        && (rowCount == 0 || offset + (rowCount - 1) * stride + columns <= x.count),
      "rows outside the buffer")
    let table = unsafe kernels.table
    unsafe x.withUnsafePointer { x in
      unsafe weight.withUnsafePointer { weight in
        unsafe y.withUnsafeMutablePointer { y in
          forEachRange(rowCount, grain: Self.elementGrain / columns) { rows, _ in
            for row in rows {
              unsafe table.pointee.rms_norm(
                y + row * columns, x + offset + row * stride, weight, columns, epsilon)
            }
          }
        }
      }
    }
  }

  /// Rotates each head's features by position-dependent angles, in place.
  ///
  /// - Shape: `x` [positions.count, heads, d] from element `offset`; `cosines` and `sines`
  ///   [maxPositions, d/2]; `positions` names each row's angles.
  /// - Precision: Float32.
  /// - Source: Step3 `modeling_step3.py`, `apply_rotary_pos_emb`; halves are rotated, not pairs.
  package func rotate(
    _ x: inout Buffer<Float>, heads: Int, headDimension d: Int, positions: [Int32],
    cosines: borrowing Buffer<Float>, sines: borrowing Buffer<Float>, at offset: Int = 0
  ) {
    let half = d / 2
    let row = heads * d
    precondition(
      offset >= 0 && offset + positions.count * row <= x.count && d % 2 == 0,
      "rows outside the buffer")
    let angles = min(cosines.count, sines.count) / max(1, half)
    for position in positions {
      precondition(position >= 0 && position < angles, "position \(position) has no angles")
    }
    let table = unsafe kernels.table
    unsafe cosines.withUnsafePointer { cosines in
      unsafe sines.withUnsafePointer { sines in
        unsafe x.withUnsafeMutablePointer { x in
          forEachRange(positions.count, grain: Self.elementGrain / row) { range, _ in
            for index in range {
              let angle = Int(positions[index]) * half
              unsafe table.pointee.rotary(
                x + offset + index * row, cosines + angle, sines + angle, heads, d)
            }
          }
        }
      }
    }
  }

  /// y = gate / (1 + e^-gate) · up, element by element.
  ///
  /// - Shape: the first `count` elements of each.
  package func swiglu(
    gate: borrowing Buffer<Float>, up: borrowing Buffer<Float>, count: Int,
    into y: inout Buffer<Float>
  ) {
    precondition(
      count <= gate.count && count <= up.count && count <= y.count, "elements outside the buffer")
    let table = unsafe kernels.table
    unsafe gate.withUnsafePointer { gate in
      unsafe up.withUnsafePointer { up in
        unsafe y.withUnsafeMutablePointer { y in
          forEachRange(count, grain: Self.elementGrain / 4) { range, _ in
            let at = range.lowerBound
            unsafe table.pointee.swiglu(y + at, gate + at, up + at, range.count)
          }
        }
      }
    }
  }

  /// y += x over the first `count` elements.
  package func add(
    _ x: borrowing Buffer<Float>, count: Int, into y: inout Buffer<Float>
  ) {
    precondition(count <= x.count && count <= y.count, "elements outside the buffer")
    let table = unsafe kernels.table
    unsafe x.withUnsafePointer { x in
      unsafe y.withUnsafeMutablePointer { y in
        forEachRange(count, grain: Self.elementGrain) { range, _ in
          unsafe table.pointee.add(y + range.lowerBound, x + range.lowerBound, range.count)
        }
      }
    }
  }

  /// Rounds the first `count` elements to BF16 precision, to nearest even, in place.
  package func roundToBFloat16(_ x: inout Buffer<Float>, count: Int) {
    precondition(count <= x.count, "elements outside the buffer")
    let table = unsafe kernels.table
    unsafe x.withUnsafeMutablePointer { x in
      forEachRange(count, grain: Self.elementGrain) { range, _ in
        let at = unsafe x + range.lowerBound
        unsafe table.pointee.round_bfloat16(at, at, range.count)
      }
    }
  }

  /// The largest of `count` logits, where it first stands, and the logarithm of Σ e^logit.
  package func logSumExp(
    _ logits: borrowing Buffer<Float>, at offset: Int = 0, count: Int
  ) -> LogSumExp {
    precondition(
      count > 0 && offset >= 0 && offset + count <= logits.count, "logits outside the buffer")
    var largest: Float = 0
    var index = 0
    var sum: Float = 0
    unsafe logits.withUnsafePointer { x in
      unsafe kernels.table.pointee.log_sum_exp(x + offset, count, &largest, &index, &sum)
    }
    return LogSumExp(largest: largest, index: index, sum: sum)
  }
}

/// What a row of logits comes to: its maximum and the weight of all relative to it.
package struct LogSumExp: Sendable, Equatable {
  /// The largest logit; NaN counts as smallest.
  package let largest: Float
  /// Where it first stands.
  package let index: Int
  /// Σ e^(logit − largest), at least 1.
  package let sum: Float
}
