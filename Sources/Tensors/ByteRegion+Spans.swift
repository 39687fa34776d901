#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

extension MutableByteRegion {
  /// Calls `body` with the bytes of `range`, to read.
  package func withBytes<R>(
    _ range: Range<Int>, _ body: (RawSpan) throws -> R
  ) rethrows -> R {
    check(range)
    return try body(
      unsafe RawSpan(
        _unsafeStart: UnsafeRawPointer(base + range.lowerBound), byteCount: range.count))
  }

  /// Calls `body` with the bytes of `range`, to write.
  package func withMutableBytes<R>(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws -> R
  ) rethrows -> R {
    check(range)
    var span = unsafe MutableRawSpan(
      _unsafeStart: base + range.lowerBound, byteCount: range.count)
    return try body(&span)
  }

  /// Copies the bytes of `source` here, from byte `offset` on; the two may not overlap.
  package func copy(from source: MutableByteRegion, range: Range<Int>, to offset: Int) {
    source.check(range)
    check(offset..<offset + range.count)
    unsafe memcpy(base + offset, source.base + range.lowerBound, range.count)
  }

  /// Copies an array of bytes here, from byte `offset` on.
  package func copy(from bytes: [UInt8], to offset: Int) {
    check(offset..<offset + bytes.count)
    unsafe bytes.withUnsafeBytes { source in
      if let start = source.baseAddress { unsafe memcpy(base + offset, start, source.count) }
    }
  }

  /// Copies the bytes of `range` out.
  package func bytes(_ range: Range<Int>) -> [UInt8] {
    check(range)
    return unsafe [UInt8](
      UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count))
  }

  private func check(_ range: Range<Int>) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= byteCount,
      "bytes \(range) outside a region of \(byteCount)")
  }
}

extension RawSpan {
  /// The integer at byte `offset`, as stored, whatever its alignment; bounds-checked.
  package func integer<T: FixedWidthInteger & BitwiseCopyable>(
    at offset: Int, as type: T.Type = T.self
  ) -> T {
    precondition(
      offset >= 0 && offset + MemoryLayout<T>.size <= byteCount,
      "offset \(offset) outside \(byteCount) bytes")
    return unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: type)
  }
}

extension [UInt8] {
  /// Calls `body` with the bytes as a raw span.
  package func withRawSpan<R, E: Error>(_ body: (RawSpan) throws(E) -> R) throws(E) -> R {
    let elements = span
    return try body(unsafe elements.bytes)
  }
}
