/// Limits which tokens an answer may consist of, such as a JSON schema.
///
/// A value: every choice of a request has its own copy. It sees the answer only, not what is in the
/// think block before it.
package protocol TokenConstraint: Sendable {
  /// The tokens allowed next: bit t % 64 of word t / 64 for token t. End-of-sequence ids are among
  /// them exactly where the answer may end; at least one token is allowed until it is finished.
  mutating func allowedTokens() -> [UInt64]

  /// Moves on by an allowed token; false for one that is not allowed.
  mutating func accept(_ token: Int) -> Bool

  /// Whether nothing more may follow.
  var isFinished: Bool { get }
}
