import CCrypto

/// The cluster key's arithmetic: HMAC-SHA256, nonces, and a comparison that takes the same time
/// wherever the first difference is.
enum Authentication {
  /// Bytes of a proof.
  static let byteCount = 32

  /// Whether libcrypto has been told to outlive the process's other threads.
  private static let isReady: Bool = {
    ccrypto_outlive_exit()
    return true
  }()

  /// HMAC-SHA256 of the parts, each preceded by its length so that no two lists look alike.
  static func proof(key: [UInt8], _ parts: [[UInt8]]) -> [UInt8] {
    precondition(isReady)
    var message: [UInt8] = []
    for part in parts {
      for shift in stride(from: 0, to: 64, by: 8) {
        message.append(UInt8(truncatingIfNeeded: part.count >> shift))
      }
      message += part
    }
    var digest = [UInt8](repeating: 0, count: byteCount)
    var length = UInt32(byteCount)
    let result = unsafe HMAC(
      EVP_sha256(), key, Int32(key.count), message, message.count, &digest, &length)
    precondition(unsafe result != nil && length == byteCount, "libcrypto has no HMAC-SHA256")
    return digest
  }

  /// Whether two proofs are equal.
  static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    left.count == right.count && (unsafe CRYPTO_memcmp(left, right, left.count)) == 0
  }

  /// Bytes that nobody can guess.
  static func nonce() -> [UInt8] {
    var bytes: [UInt8] = []
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<32 { bytes.append(UInt8.random(in: .min ... .max, using: &generator)) }
    return bytes
  }

  /// SHA-256 of a text, as hexadecimal digits.
  static func digest(_ text: String) -> String {
    precondition(isReady)
    let bytes = Array(text.utf8)
    var digest = [UInt8](repeating: 0, count: byteCount)
    unsafe SHA256(bytes, bytes.count, &digest)
    return hexadecimal(digest)
  }

  static func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }
}
