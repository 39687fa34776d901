#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Zeroed anonymous pages, resident once they are written; huge ones where the system has them.
@safe
final class AnonymousPages: @unchecked Sendable {
  private static let hugePage = 2 << 20
  /// From here on whole huge pages are likely.
  static let worthwhileByteCount = 2 * hugePage

  // Unchecked: the pointer is set once; the regions' owner decides who writes through it.
  let base: UnsafeMutableRawPointer
  private let byteCount: Int

  init?(byteCount: Int) {
    let size = (byteCount + Self.hugePage - 1) / Self.hugePage * Self.hugePage
    guard
      let memory = unsafe mmap(
        nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      unsafe memory != MAP_FAILED
    else { return nil }
    #if os(Linux)
      _ = unsafe madvise(memory, size, MADV_HUGEPAGE)
    #endif
    unsafe self.base = memory
    self.byteCount = size
  }

  deinit { unsafe munmap(base, byteCount) }
}
