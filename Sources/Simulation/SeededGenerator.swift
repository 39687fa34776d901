#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Random numbers that a seed determines on every machine (SplitMix64), and the laws drawn from it.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  /// A generator; equal seeds give equal sequences.
  package init(seed: UInt64) {
    state = seed
  }

  /// The next 64 bits.
  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// Even between 0 and 1, never 0.
  package mutating func unit() -> Double { (Double(next() >> 11) + 0.5) * 0x1p-53 }

  /// Exponential with this mean.
  package mutating func exponential(mean: Double) -> Double { -mean * log(unit()) }

  /// Normal with mean 0 and deviation 1 (Box and Muller, one of the pair).
  package mutating func normal() -> Double {
    sqrt(-2 * log(unit())) * cos(2 * Double.pi * unit())
  }

  /// A generator for an independent purpose, so that one law's draws do not shift another's.
  package mutating func fork() -> SeededGenerator { SeededGenerator(seed: next()) }
}
