#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Why memory could not be had.
package enum MemoryError: Error, Equatable, Sendable {
  case outOfMemory(byteCount: Int)
}

extension MemoryError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .outOfMemory(let byteCount):
      "\(byteCount) bytes of memory cannot be had; lower the limits or free memory"
    }
  }
}

/// Page-aligned, zeroed, writable memory for a long life, such as the KV cache.
///
/// Pages become resident when they are first written.
@safe
package struct ByteArena: ~Copyable, Sendable {
  /// Number of bytes.
  package let byteCount: Int
  private let pages: AnonymousPages

  /// Reserves `byteCount` zeroed bytes.
  package init(byteCount: Int) throws(MemoryError) {
    precondition(byteCount >= 0, "an arena cannot have \(byteCount) bytes")
    guard let pages = AnonymousPages(byteCount: max(1, byteCount)) else {
      throw .outOfMemory(byteCount: byteCount)
    }
    self.byteCount = byteCount
    self.pages = pages
  }

  /// The bytes of `range`, writable, kept alive by the region.
  package func region(_ range: Range<Int>) -> MutableByteRegion {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= byteCount,
      "bytes \(range) outside an arena of \(byteCount)")
    return unsafe MutableByteRegion(
      base: pages.base + range.lowerBound, byteCount: range.count, owner: pages)
  }
}

/// Writable bytes of an arena; whoever hands them out decides who writes when.
@safe
package struct MutableByteRegion: Sendable {
  /// Address of the first byte; valid while this value (or a copy) lives.
  package nonisolated(unsafe) let base: UnsafeMutableRawPointer
  /// Number of bytes.
  package let byteCount: Int
  private let owner: any AnyObject & Sendable

  fileprivate init(
    base: UnsafeMutableRawPointer, byteCount: Int, owner: any AnyObject & Sendable
  ) {
    unsafe self.base = base
    self.byteCount = byteCount
    self.owner = owner
  }

  /// Copies `byteCount` bytes within the region, such as one cache block onto another.
  package func copy(from source: Int, to target: Int, byteCount count: Int) {
    precondition(
      count >= 0 && source >= 0 && target >= 0 && source + count <= byteCount
        && target + count <= byteCount, "copy outside a region of \(byteCount) bytes")
    unsafe memmove(base + target, base + source, count)
  }

  /// Sets every byte, for tests of what must not be read.
  package func fill(_ byte: UInt8) {
    unsafe memset(base, Int32(byte), byteCount)
  }
}
