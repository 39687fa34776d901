#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Why a file could not be opened or mapped.
package enum FileError: Error, Equatable, Sendable {
  case notFound(path: String)
  case notReadable(path: String, errno: Int32)
  case notAFile(path: String)
  case cannotMap(path: String, byteCount: Int, errno: Int32)
  /// `limit` is what this process may lock, nil where the system sets none.
  case cannotLock(path: String, byteCount: Int, limit: Int?, errno: Int32)
}

extension FileError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notFound(let path):
      "\(path): no such file; check the path"
    case .notReadable(let path, let code):
      "\(path): cannot be read (\(Self.reason(code))); check its permissions"
    case .notAFile(let path):
      "\(path): is not a regular file"
    case .cannotMap(let path, let byteCount, let code):
      "\(path): \(byteCount) bytes cannot be mapped into memory (\(Self.reason(code)))"
    case .cannotLock(let path, let byteCount, let limit, let code):
      "\(path): \(byteCount) bytes cannot be locked in memory (\(Self.reason(code))); "
        + (limit.map {
          "this process may lock \($0): raise the limit (ulimit -l, LimitMEMLOCK) or leave out "
            + "--lock-memory"
        } ?? "leave out --lock-memory or free memory")
    }
  }

  private static func reason(_ code: Int32) -> String {
    unsafe String(cString: strerror(code))
  }
}

/// A file mapped read-only; its bytes are the page cache's own pages, not a copy. A private mapping
/// may be written: pages that are become copies, and the file never changes.
@safe
package final class MappedFile: Sendable {
  /// The path it was opened by.
  package let path: String
  /// Its size when it was opened.
  package let byteCount: Int
  // Set once and only read through, so sharing it between threads is safe.
  private nonisolated(unsafe) let base: UnsafeRawPointer?

  private let isPrivate: Bool

  /// Maps the file at `path`.
  package init(path: String, isPrivate: Bool = false) throws(FileError) {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let code = errno
      throw code == ENOENT || code == ENOTDIR
        ? .notFound(path: path) : .notReadable(path: path, errno: code)
    }
    defer { close(descriptor) }
    var status = stat()
    guard unsafe fstat(descriptor, &status) == 0 else {
      throw .notReadable(path: path, errno: errno)
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
    let size = Int(status.st_size)
    self.path = path
    self.byteCount = size
    self.isPrivate = isPrivate
    guard size > 0 else {
      unsafe self.base = nil
      return
    }
    let address = unsafe mmap(
      nil, size, isPrivate ? PROT_READ | PROT_WRITE : PROT_READ,
      isPrivate ? MAP_PRIVATE : MAP_SHARED, descriptor, 0)
    if unsafe address == MAP_FAILED {
      throw .cannotMap(path: path, byteCount: size, errno: errno)
    }
    unsafe self.base = UnsafeRawPointer(address)
    #if os(Linux)
      // Pages that this mapping brings into the page cache are then huge where the file system can
      // (ext4 from Linux 6.16, XFS): reading weights through them is up to a quarter faster.
      if !isPrivate { _ = unsafe madvise(address, size, MADV_HUGEPAGE) }
    #endif
  }

  deinit {
    if let base = unsafe base {
      unsafe munmap(UnsafeMutableRawPointer(mutating: base), byteCount)
    }
  }

  /// The bytes of `range`; traps outside the file.
  package func region(_ range: Range<Int>) -> ByteRegion {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= byteCount,
      "bytes \(range) outside \(path) of \(byteCount)")
    guard let base = unsafe base else { return ByteRegion(allocating: 1)[0..<0] }
    return unsafe ByteRegion(base: base + range.lowerBound, byteCount: range.count, owner: self)
  }

  /// All bytes of the file.
  package var contents: ByteRegion { region(0..<byteCount) }

  /// Writes `bytes` over those of a region of this private mapping, from `offset` on. Nobody may
  /// read them at the same time.
  func replace(_ region: ByteRegion, at offset: Int, with bytes: [UInt8]) {
    precondition(isPrivate && offset >= 0 && offset + bytes.count <= region.byteCount)
    unsafe bytes.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      unsafe UnsafeMutableRawPointer(mutating: region.base + offset).copyMemory(
        from: start, byteCount: source.count)
    }
  }

  /// Gives a region of this private mapping the file's bytes back; what was written on the same
  /// pages beside it stays.
  func restore(_ region: ByteRegion) {
    guard let base = unsafe base, isPrivate else { preconditionFailure("not a private mapping") }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let offset = unsafe region.base - base
    let end = offset + region.byteCount
    let first = offset / page * page
    let last = min(byteCount, (end + page - 1) / page * page)
    let beside = [first..<offset, end..<last].map { ($0, self.region($0).bytes()) }
    _ = unsafe madvise(
      UnsafeMutableRawPointer(mutating: base + first), last - first, Int32(MADV_DONTNEED))
    for (range, bytes) in beside where self.region(range).bytes() != bytes {
      replace(self.region(range), at: 0, with: bytes)
    }
  }

  /// Keeps the file in memory for as long as it is mapped, reading what is not there yet.
  package func lock() throws(FileError) {
    guard let base = unsafe base else { return }
    if unsafe mlock(base, byteCount) == 0 { return }
    let code = errno
    var limit = rlimit()
    let known = unsafe getrlimit(memoryLockLimit, &limit) == 0
    let most = known && limit.rlim_cur < UInt64(Int.max) ? Int(limit.rlim_cur) : nil
    throw .cannotLock(path: path, byteCount: byteCount, limit: most, errno: code)
  }
}

#if canImport(Glibc)
  private let memoryLockLimit = __rlimit_resource_t(8)  // RLIMIT_MEMLOCK, which is not imported
#else
  private let memoryLockLimit = RLIMIT_MEMLOCK
#endif
