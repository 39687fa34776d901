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
  package init(frequencies: [Double], magnitude: Double, positionCount: Int) {
    var cosines = Buffer<Float>(count: positionCount * frequencies.count)
    var sines = Buffer<Float>(count: positionCount * frequencies.count)
    var index = 0
    for position in 0..<positionCount {
      for frequency in frequencies {
        let angle = Double(position) * frequency
        cosines[index] = Float(magnitude * cos(angle))
        sines[index] = Float(magnitude * sin(angle))
        index += 1
      }
    }
    self.cosines = cosines
    self.sines = sines
  }
}
