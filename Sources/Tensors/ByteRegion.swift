#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Bytes kept alive by their owner: a file mapping, or a block of memory.
///
/// Weights are regions of the checkpoint's mapping: nothing is copied, and a region keeps the
/// mapping alive for as long as anything refers to it.
@safe
package struct ByteRegion: Sendable {
  /// Address of the first byte; valid while this value (or a copy) lives.
  package nonisolated(unsafe) let base: UnsafeRawPointer
  /// Number of bytes.
  package let byteCount: Int
  private let owner: any AnyObject & Sendable

  /// A region of `byteCount` bytes at `base` that `owner` keeps alive.
  package init(base: UnsafeRawPointer, byteCount: Int, owner: any AnyObject & Sendable) {
    unsafe self.base = base
    self.byteCount = byteCount
    self.owner = owner
  }

  /// Zeroed memory of its own, aligned to 64 bytes.
  ///
  /// Large memory is left untouched: scratch for the longest step and the widest batch would
  /// otherwise cost most of the time until the first token, and more memory than is used.
  package init(allocating byteCount: Int) {
    if byteCount >= AnonymousPages.worthwhileByteCount {
      guard let pages = AnonymousPages(byteCount: byteCount) else {
        preconditionFailure("out of memory: \(byteCount) bytes")
      }
      unsafe self.init(base: UnsafeRawPointer(pages.base), byteCount: byteCount, owner: pages)
      return
    }
    let block = HeapBlock(byteCount: byteCount)
    unsafe self.init(base: UnsafeRawPointer(block.base), byteCount: byteCount, owner: block)
  }

  /// Memory of its own that holds a copy of `bytes`.
  package init(copying bytes: [UInt8]) {
    let block = HeapBlock(byteCount: max(1, bytes.count))
    unsafe bytes.withUnsafeBytes { source in
      if let start = source.baseAddress, source.count > 0 {
        unsafe block.base.copyMemory(from: start, byteCount: source.count)
      }
    }
    unsafe self.init(base: UnsafeRawPointer(block.base), byteCount: bytes.count, owner: block)
  }

  /// The bytes of `range`, sharing the owner.
  package subscript(range: Range<Int>) -> ByteRegion {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= byteCount,
      "bytes \(range) outside a region of \(byteCount)")
    return unsafe ByteRegion(
      base: base + range.lowerBound, byteCount: range.count, owner: owner)
  }

  /// Reads one byte of every page, so that all are in memory.
  package func touch() {
    var sum: UInt8 = 0
    for offset in stride(from: 0, to: byteCount, by: 4096) {
      unsafe sum &+= base.load(fromByteOffset: offset, as: UInt8.self)
    }
    // Somebody must want the sum, or nothing is read.
    withExtendedLifetime(sum) {}
  }

  /// Asks the system to read what is not in memory yet, in the background; for files.
  package func readAhead() {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let before = unsafe Int(bitPattern: base) % page
    _ = unsafe madvise(
      UnsafeMutableRawPointer(mutating: base - before), before + byteCount, Int32(MADV_WILLNEED))
  }

  /// Copies the bytes out.
  package func bytes() -> [UInt8] {
    unsafe [UInt8](UnsafeRawBufferPointer(start: base, count: byteCount))
  }

  /// Calls `body` with the bytes as a raw span.
  package func withBytes<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    let span = unsafe RawSpan(_unsafeStart: base, byteCount: byteCount)
    return try body(span)
  }

  /// The little-endian value of type `T` at byte `offset`, whatever its alignment.
  package func load<T: BitwiseCopyable>(_ type: T.Type, at offset: Int) -> T {
    precondition(
      offset >= 0 && offset + MemoryLayout<T>.size <= byteCount,
      "offset \(offset) outside a region of \(byteCount)")
    return unsafe base.loadUnaligned(fromByteOffset: offset, as: type)
  }
}

/// A block of zeroed heap memory, aligned to 64 bytes.
@safe
private final class HeapBlock: @unchecked Sendable {
  // Unchecked: the pointer is set once; who writes through it is decided by the owner's type
  // (`Buffer` is noncopyable, `ByteRegion` only reads).
  let base: UnsafeMutableRawPointer

  init(byteCount: Int) {
    let size = (max(1, byteCount) + 63) / 64 * 64
    guard let memory = unsafe aligned_alloc(64, size) else {
      preconditionFailure("out of memory: \(size) bytes")
    }
    unsafe memset(memory, 0, size)
    unsafe self.base = memory
  }

  deinit { unsafe free(base) }
}

extension ByteRegion {
  /// A checksum over all bytes, eight at a time, against torn or damaged files.
  package var checksum: UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    let words = byteCount / 8
    for index in 0..<words {
      let word = unsafe base.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self)
      hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
      hash ^= hash >> 29
    }
    for index in 8 * words..<byteCount {
      hash =
        (hash ^ UInt64(unsafe base.load(fromByteOffset: index, as: UInt8.self))) &* 0x100_0000_01B3
    }
    return hash
  }
}
