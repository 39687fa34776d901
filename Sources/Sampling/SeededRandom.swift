/// Random numbers as a pure function of (seed, position): no stream, no state, no order.
///
/// A sequence draws the same number for its n-th token whether it runs alone or in a batch, before
/// or after a preemption, in one process or another. The generator is Philox 4x64 with ten rounds
/// (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), key (seed, 0), counter
/// (position, purpose, 0, 0).
package struct SeededRandom: Equatable, Sendable {
  /// Names the numbers.
  package let seed: UInt64

  /// What a number is drawn for; different purposes at one position are independent.
  package enum Purpose: UInt64, Sendable {
    /// Choosing a token from its distribution.
    case token = 0
  }

  /// The numbers that belong to `seed`.
  package init(seed: UInt64) {
    self.seed = seed
  }

  /// A number in [0, 1) with 53 random bits.
  package func uniform(position: Int, purpose: Purpose = .token) -> Double {
    let counter = (UInt64(position), purpose.rawValue, UInt64(0), UInt64(0))
    let block = Self.philox(counter: counter, key: (seed, 0))
    return Double(block.0 >> 11) * 0x1p-53
  }

  /// One block of Philox 4x64-10.
  package static func philox(
    counter: (UInt64, UInt64, UInt64, UInt64), key: (UInt64, UInt64)
  ) -> (UInt64, UInt64, UInt64, UInt64) {
    var c = counter
    var k = key
    for _ in 0..<10 {
      let a = c.0.multipliedFullWidth(by: 0xD2E7_470E_E14C_6C93)
      let b = c.2.multipliedFullWidth(by: 0xCA5A_8263_9512_1157)
      c = (b.high ^ c.1 ^ k.0, b.low, a.high ^ c.3 ^ k.1, a.low)
      k.0 &+= 0x9E37_79B9_7F4A_7C15
      k.1 &+= 0xBB67_AE85_84CA_A73B
    }
    return c
  }
}
