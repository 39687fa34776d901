import CKernels
package import Tensors

// Operations of the vision tower: convolutions as matrix products of windows, norms of branches,
// and attention of whole views, every head with keys and values of its own.
extension Compute {
  private static let elementGrain = 65_536

  /// Lays the patches of a planar image side by side as rows, ready for a matrix product.
  ///
  /// - Shape: `image` [channels, side, side] → `output` [(side / patch)², channels · patch²] from
  ///   row `row`.
  package func gatherPatches(
    _ image: borrowing Buffer<Float>, side: Int, channels: Int, patch: Int,
    into output: inout Buffer<Float>, at row: Int
  ) {
    let grid = side / patch
    let columns = channels * patch * patch
    precondition(
      image.count == channels * side * side && row >= 0
        && (row + grid * grid) * columns <= output.count, "patches outside the buffer")
    unsafe image.withUnsafePointer { image in
      unsafe output.withUnsafeMutablePointer { output in
        forEachRange(grid * grid, grain: Self.elementGrain / columns) { cells, _ in
          for cell in cells {
            unsafe ck_gather_pixels(
              output + (row + cell) * columns, image, side, channels, patch,
              cell / grid * patch, cell % grid * patch)
          }
        }
      }
    }
  }

  /// Lays the windows of a convolution over a grid of rows side by side, zero where they overhang.
  ///
  /// - Shape: `cells` [grid², channels] from row `first` → `output` [n², channels · size²] from its
  ///   start, n = `window.count(grid)`.
  package func gatherWindows(
    _ cells: borrowing Buffer<Float>, first: Int, grid: Int, channels: Int,
    _ window: ConvolutionWindow, into output: inout Buffer<Float>
  ) {
    let count = window.count(grid)
    let columns = channels * window.size * window.size
    precondition(
      first >= 0 && (first + grid * grid) * channels <= cells.count
        && count * count * columns <= output.count, "windows outside the buffer")
    unsafe cells.withUnsafePointer { cells in
      unsafe output.withUnsafeMutablePointer { output in
        forEachRange(count * count, grain: Self.elementGrain / columns) { range, _ in
          for index in range {
            let top = index / count * window.stride - window.padding
            let left = index % count * window.stride - window.padding
            unsafe ck_gather_cells(
              output + index * columns, cells + first * channels, grid, channels, window.size, top,
              left)
          }
        }
      }
    }
  }

  /// x = quick_gelu(x + bias), quick_gelu(t) = t · sigmoid(1.702 t).
  ///
  /// - Shape: `x` [rowCount, columns] from its start, `bias` [columns].
  package func addBiasQuickGELU(
    _ x: inout Buffer<Float>, bias: borrowing Buffer<Float>, rowCount: Int
  ) {
    let columns = bias.count
    precondition(rowCount * columns <= x.count, "rows outside the buffer")
    unsafe bias.withUnsafePointer { bias in
      unsafe x.withUnsafeMutablePointer { x in
        forEachRange(rowCount, grain: Self.elementGrain / 4 / columns) { rows, _ in
          for row in rows { unsafe ck_bias_quick_gelu(x + row * columns, bias, columns) }
        }
      }
    }
  }

  /// y += LayerNorm(x + bias); x is used up.
  ///
  /// - Shape: `x` [rowCount, columns] from its start, `y` the same from row `row`; `bias`, `weight`
  ///   and `shift` [columns].
  /// - Precision: Float32, mean and variance in two passes, summed in 16 lanes.
  package func addLayerNorm(
    _ x: inout Buffer<Float>, bias: borrowing Buffer<Float>, weight: borrowing Buffer<Float>,
    shift: borrowing Buffer<Float>, epsilon: Float, rowCount: Int, into y: inout Buffer<Float>,
    at row: Int
  ) {
    let columns = weight.count
    precondition(
      bias.count == columns && shift.count == columns && rowCount * columns <= x.count
        && row >= 0 && (row + rowCount) * columns <= y.count, "rows outside the buffer")
    unsafe bias.withUnsafePointer { bias in
      unsafe weight.withUnsafePointer { weight in
        unsafe shift.withUnsafePointer { shift in
          unsafe x.withUnsafeMutablePointer { x in
            unsafe y.withUnsafeMutablePointer { y in
              forEachRange(rowCount, grain: Self.elementGrain / columns) { rows, _ in
                for index in rows {
                  unsafe ck_add_layer_norm(
                    y + (row + index) * columns, x + index * columns, bias, weight, shift,
                    columns, epsilon)
                }
              }
            }
          }
        }
      }
    }
  }

  /// y[row + i] += x[i mod n], row by row; n rows of `x` in turn.
  ///
  /// - Shape: `x` [n, columns], `y` [any, columns], `rowCount` rows of it from `row`.
  package func addRows(
    _ x: borrowing Buffer<Float>, columns: Int, rowCount: Int, into y: inout Buffer<Float>,
    at row: Int = 0
  ) {
    let period = x.count / columns
    precondition(
      period > 0 && row >= 0 && (row + rowCount) * columns <= y.count, "rows outside the buffer")
    unsafe x.withUnsafePointer { x in
      unsafe y.withUnsafeMutablePointer { y in
        forEachRange(rowCount, grain: Self.elementGrain / columns) { rows, _ in
          for index in rows {
            unsafe ck_add_row(
              y + (row + index) * columns, x + index % period * columns, columns)
          }
        }
      }
    }
  }

  /// Copies rows within or between buffers of one width.
  ///
  /// - Shape: `count` rows of `columns` from row `first` of `x` to row `row` of `y`.
  package func copyRows(
    _ x: borrowing Buffer<Float>, from first: Int, count: Int, columns: Int,
    into y: inout Buffer<Float>, at row: Int
  ) {
    precondition(
      first >= 0 && row >= 0 && count >= 0 && (first + count) * columns <= x.count
        && (row + count) * columns <= y.count, "rows outside the buffer")
    unsafe x.withUnsafePointer { x in
      unsafe y.withUnsafeMutablePointer { y in
        unsafe (y + row * columns).update(from: x + first * columns, count: count * columns)
      }
    }
  }
}

/// The window of a square convolution.
package struct ConvolutionWindow: Sendable, Equatable {
  /// Rows and columns that it covers.
  package let size: Int
  /// Cells from one window to the next.
  package let stride: Int
  /// Zero cells around the grid.
  package let padding: Int

  /// A window.
  package init(size: Int, stride: Int, padding: Int = 0) {
    self.size = size
    self.stride = stride
    self.padding = padding
  }

  /// How many windows lie side by side on a grid; 0 when not even one fits.
  package func count(_ grid: Int) -> Int {
    let room = grid + 2 * padding - size
    return room < 0 ? 0 : room / stride + 1
  }
}
