/// 256 bits that differ between different contents.
///
/// Four keyed 64-bit hashes; the key is random and never leaves the process, so that nobody can
/// look for two contents with the same digest. In another process the same content has another.
package func contentDigest(of bytes: [UInt8], variant: Int = 0) -> [UInt64] {
  (0..<4).map { round in
    var hasher = Hasher()
    hasher.combine(round)
    hasher.combine(variant)
    hasher.combine(bytes.count)
    unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    return UInt64(bitPattern: Int64(hasher.finalize()))
  }
}
