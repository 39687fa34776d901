import Tensors

/// The learned positions of the vision tower, for any grid of patches.
package struct PositionTable: Sendable {
  /// Patches on a side of the table.
  package let side: Int
  private let width: Int
  /// [1 + side², width]; row 0 belongs to the class token.
  private let values: [Float]

  /// A table [1 + side², width].
  package init(_ values: [Float], side: Int, width: Int) {
    precondition(values.count == (side * side + 1) * width, "positions of another shape")
    self.values = values
    self.side = side
    self.width = width
  }

  /// The class token's row, [width].
  package var classRow: ArraySlice<Float> { values[0..<width] }

  /// The positions of `grid` × `grid` patches, [grid², width].
  ///
  /// Another grid than the table's own is reached by bicubic resizing with antialiasing.
  ///
  /// - Precision: Double within, rounded once.
  package func rows(grid: Int) -> [Float] {
    let squares = Array(values[width...])
    if grid == side { return squares }
    let taps = Self.bicubicTaps(from: side, to: grid)
    // Rows of patches first, then columns: [side, side] → [grid, side] → [grid, grid].
    var half = [Double](repeating: 0, count: grid * side * width)
    for y in 0..<grid {
      for tap in taps[y] {
        let source = tap.index * side * width
        let target = y * side * width
        for i in 0..<side * width {
          half[target + i] += tap.weight * Double(squares[source + i])
        }
      }
    }
    var result = [Float](repeating: 0, count: grid * grid * width)
    var sums = [Double](repeating: 0, count: width)
    for y in 0..<grid {
      for x in 0..<grid {
        for i in 0..<width { sums[i] = 0 }
        for tap in taps[x] {
          let source = (y * side + tap.index) * width
          for i in 0..<width { sums[i] += tap.weight * half[source + i] }
        }
        for i in 0..<width { result[(y * grid + x) * width + i] = Float(sums[i]) }
      }
    }
    return result
  }

  /// A source element and its share in a target element.
  package struct Tap: Sendable, Equatable {
    /// Which source element.
    package var index: Int
    /// Its share.
    package var weight: Double
  }

  /// What each of `target` elements takes from `source` elements.
  ///
  /// Corners are not aligned. Shrinking widens the kernel by the ratio, so that every element
  /// counts; at the edges the weights that are left are scaled to sum to 1.
  package static func bicubicTaps(from source: Int, to target: Int) -> [[Tap]] {
    let scale = Double(source) / Double(target)
    let support = max(scale, 1)
    return (0..<target).map { index in
      let centre = scale * (Double(index) + 0.5)
      let low = max(0, Int(centre - 2 * support + 0.5))
      let high = min(source, Int(centre + 2 * support + 0.5))
      let weights = (low..<high).map { cubic((Double($0) - centre + 0.5) / support) }
      let sum = weights.reduce(0, +)
      return zip(low..<high, weights).map { Tap(index: $0, weight: $1 / sum) }
    }
  }

  /// The cubic kernel with coefficient −1/2, zero beyond 2.
  private static func cubic(_ x: Double) -> Double {
    let a = -0.5
    let x = abs(x)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a }
    return 0
  }
}
