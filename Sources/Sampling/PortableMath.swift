// exp and log of our own: the C library's differ in the last bit between versions and machines,
// and one bit can move the border between two tokens. These use only additions, multiplications
// and one division of IEEE formats, whose results the standard fixes, and Swift never fuses them.

/// Elementary functions with the same bits on every machine.
package enum PortableMath {
  private static let ln2High = 0x1.62e42fefa3800p-1
  private static let ln2Low = 0x1.ef35793c76730p-45

  /// e to the power `x` for x ≤ 0; exactly 0 below -87, so that what is forbidden stays so.
  ///
  /// Float32 because a row has up to 129 thousand of them: four fit a baseline vector register.
  ///
  /// - Precision: relative error below 2e-7 of e^x, the argument taken as exact.
  /// - Source: the polynomial of Moshier's Cephes library, `expf`.
  @inline(__always)
  package static func expOfNonPositive(_ x: Float) -> Float {
    // Adding 1.5 · 2^23 leaves the nearest integer in the low bits of the significand.
    let rounder: Float = 12_582_912
    let clamped = x > -87 ? x : -87
    let shifted = clamped * 1.442_695_04 + rounder
    let k = shifted - rounder
    let r = (clamped - k * 0.693_359_375) + k * 2.121_944_4e-4
    var p: Float = 1.987_569_15e-4
    p = p * r + 1.398_199_950_7e-3
    p = p * r + 8.333_451_907_3e-3
    p = p * r + 4.166_579_589_4e-2
    p = p * r + 1.666_666_545_9e-1
    p = p * r + 5.000_000_120_1e-1
    p = p * (r * r) + r + 1
    // 2^k by adding k to the exponent; p lies in [0.7, 1.42] and k ≥ -126, so at worst the result
    // is the smallest normal number's neighbour.
    let scaled = Float(bitPattern: p.bitPattern &+ (shifted.bitPattern &<< 23))
    return x > -87 ? scaled : 0
  }

  /// Natural logarithm of a positive, finite, normal `x`.
  ///
  /// - Precision: relative error below 1e-14.
  package static func log(_ x: Double) -> Double {
    precondition(x.isNormal && x > 0, "log needs a positive normal number")
    var exponent = Double(x.exponent)
    var m = x.significand
    if m > 1.4142135623730951 {
      m *= 0.5
      exponent += 1
    }
    // ln m = 2 artanh(s), |s| ≤ 0.172; the odd series to s^21.
    let s = (m - 1) / (m + 1)
    let square = s * s
    var sum = 1 / 21.0
    for denominator in [19.0, 17, 15, 13, 11, 9, 7, 5, 3, 1] {
      sum = sum * square + 1 / denominator
    }
    return exponent * ln2High + (exponent * ln2Low + 2 * s * sum)
  }
}
