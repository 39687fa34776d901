package import Tensors

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Cosine and sine of every position's angles, [positions, d/2] each.
///
/// - Precision: angles in Double, rounded once to Float32.
package final class RotaryTable: Sendable {
  /// cos, scaled by the magnitude.
  package let cosines: Buffer<Float>
  /// sin, scaled by the magnitude.
  package let sines: Buffer<Float>

  /// Tables for `positionCount` positions; `magnitude` multiplies every entry.
  ///
  /// A position is a block and a place in it, and its angle the sum of two: four products are far
  /// quicker than a sine and a cosine, which took most of the time of loading a long context.
  package init(frequencies: [Double], magnitude: Double, positionCount: Int) {
    let count = frequencies.count
    var cosines = Buffer<Float>(count: positionCount * count)
    var sines = Buffer<Float>(count: positionCount * count)
    let inner = (0..<min(Self.blockSize, positionCount)).map { place in
      frequencies.map { (cos(Double(place) * $0), sin(Double(place) * $0)) }
    }
    for first in stride(from: 0, to: positionCount, by: Self.blockSize) {
      let outer = frequencies.map { frequency in
        let angle = Double(first) * frequency
        return (magnitude * cos(angle), magnitude * sin(angle))
      }
      for place in 0..<min(Self.blockSize, positionCount - first) {
        let row = (first + place) * count
        let part = inner[place]
        for index in 0..<count {
          let ((c, s), (a, b)) = (outer[index], part[index])
          cosines[row + index] = Float(c * a - s * b)
          sines[row + index] = Float(s * a + c * b)
        }
      }
    }
    self.cosines = cosines
    self.sines = sines
  }

  private static let blockSize = 256
}
