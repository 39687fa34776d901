#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

extension MappedFile {
  /// Reads files into memory one after the other, on a thread of its own that keeps them mapped
  /// until it is done.
  ///
  /// Pages are asked for through the mappings: the system's own reading ahead would bring them in
  /// as small ones.
  package static func prefetch(_ files: [MappedFile]) {
    let list = unsafe Unmanaged.passRetained(PrefetchList(files: files))
    var thread = pthread_t()
    let code = unsafe pthread_create(
      &thread, nil,
      { context in
        guard let context = unsafe context else { return nil }
        let list = unsafe Unmanaged<PrefetchList>.fromOpaque(context).takeRetainedValue()
        for file in list.files { file.populate() }
        return nil
      }, list.toOpaque())
    // Without a thread pages are read as they are needed.
    if code == 0 { pthread_detach(thread) } else { unsafe list.release() }
  }

  private func populate() {
    let contents = contents
    #if os(Linux)
      let populateRead: Int32 = 22  // MADV_POPULATE_READ, from Linux 5.14
      let piece = 64 << 20
      for offset in stride(from: 0, to: byteCount, by: piece) {
        let address = unsafe UnsafeMutableRawPointer(mutating: contents.base + offset)
        if unsafe madvise(address, min(piece, byteCount - offset), populateRead) != 0 {
          return contents.readAhead()
        }
      }
    #else
      contents.readAhead()
    #endif
  }
}

/// What a thread is handed.
private final class PrefetchList: Sendable {
  let files: [MappedFile]

  init(files: [MappedFile]) { self.files = files }
}
