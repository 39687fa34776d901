/// Proves on every private request between nodes that its sender has the cluster key.
///
/// The proof covers method, path, time and body. It holds for a minute, and a receiver remembers
/// the nonces of that time, so that nothing can be played back.
package struct RequestSignature: Sendable {
  /// The header field that carries it.
  package static let header = "x-step3-cluster"
  private static let validSeconds = 60
  private static let memoryLimit = 100_000

  private let key: [UInt8]
  private var seen: [String: Int] = [:]

  /// Signatures under the cluster's key.
  package init(key: [UInt8]) { self.key = key }

  /// The field's value for a request made at `seconds` (since 1970).
  package static func sign(
    key: [UInt8], method: String, path: String, body: [UInt8], seconds: Int
  ) -> String {
    let nonce = Authentication.hexadecimal(Array(Authentication.nonce().prefix(16)))
    let proof = proof(key, method, path, body, "\(seconds)", nonce)
    return "\(seconds).\(nonce).\(proof)"
  }

  /// What a receiver makes of a request.
  package enum Verdict: Sendable, Equatable {
    /// A peer's, for the first time.
    case admitted
    /// A peer's, but by its clock, this much ahead of the receiver's, it is not from now.
    case otherTime(ahead: Int)
    /// Not a peer's, or played back.
    case refused
  }

  /// What to make of a request received at `seconds`.
  package mutating func judge(
    _ value: String?, method: String, path: String, body: [UInt8], seconds: Int
  ) -> Verdict {
    let parts = (value ?? "").split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let time = Int(parts[0]), (0...1 << 40).contains(time),
      parts[1].utf8.count == 32
    else { return .refused }
    let nonce = String(parts[1])
    let proof = Self.proof(key, method, path, body, "\(time)", nonce)
    guard Authentication.areEqual(Array(parts[2].utf8), Array(proof.utf8)) else {
      return .refused
    }
    guard abs(time - seconds) <= Self.validSeconds else {
      return .otherTime(ahead: time - seconds)
    }
    if seen.count >= Self.memoryLimit {
      seen = seen.filter { seconds - $0.value <= 2 * Self.validSeconds }
      guard seen.count < Self.memoryLimit else { return .refused }
    }
    return seen.updateValue(seconds, forKey: nonce) == nil ? .admitted : .refused
  }

  private static func proof(
    _ key: [UInt8], _ method: String, _ path: String, _ body: [UInt8], _ time: String,
    _ nonce: String
  ) -> String {
    Authentication.hexadecimal(
      Authentication.proof(
        key: key,
        [Array("request".utf8), Array(method.utf8), Array(path.utf8), body, Array(time.utf8)]
          + [Array(nonce.utf8)]))
  }
}
