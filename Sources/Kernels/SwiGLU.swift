import Tensors

/// `down(silu(gate(x)) · up(x))`.
package struct SwiGLU: Sendable {
  /// D → F.
  package let gateProjection: WeightMatrix
  /// D → F.
  package let upProjection: WeightMatrix
  /// F → D.
  package let downProjection: WeightMatrix

  /// Three matrices that fit each other.
  package init(
    gateProjection: WeightMatrix, upProjection: WeightMatrix, downProjection: WeightMatrix
  ) {
    let width = downProjection.columns
    precondition(
      gateProjection.rows == width && upProjection.rows == width
        && gateProjection.columns == upProjection.columns,
      "[\(gateProjection.rows), \(gateProjection.columns)], [\(upProjection.rows), "
        + "\(upProjection.columns)] and [\(downProjection.rows), \(width)] make no SwiGLU")
    self.gateProjection = gateProjection
    self.upProjection = upProjection
    self.downProjection = downProjection
  }

  /// Asks the system to read the matrices from their file.
  package func readAhead() {
    for matrix in [gateProjection, upProjection, downProjection] { matrix.values.readAhead() }
  }

  /// Reads the matrices' pages from their file, so that the first product need not wait.
  package func read() {
    for matrix in [gateProjection, upProjection, downProjection] { matrix.values.touch() }
  }

  /// F.
  package var width: Int { gateProjection.rows }

  /// The part that holds slices `range` of the `count` equal ones that F is cut into.
  package func slices(_ range: Range<Int>, of count: Int) -> SwiGLU {
    precondition(width % count == 0, "\(width) columns cannot be cut in \(count) slices")
    let part = range.lowerBound * width / count..<range.upperBound * width / count
    return SwiGLU(
      gateProjection: gateProjection.rows(part), upProjection: upProjection.rows(part),
      downProjection: downProjection.columns(part))
  }

  /// The formats of what multiplies the input.
  package var inputFormats: WeightMatrix.FormatSet {
    [gateProjection.formats, upProjection.formats]
  }

  /// The formats of all three.
  package var formats: WeightMatrix.FormatSet { inputFormats.union(downProjection.formats) }
}
