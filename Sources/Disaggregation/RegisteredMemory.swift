package import Tensors

/// Page-aligned memory that a transport may read and write without a copy.
///
/// A transport registers it once (`Transport.register`); it stays registered while anything refers
/// to it. Who may write when is the exchange's business: a slot belongs either to this process or
/// to the transport, which has it from `send` to `.sent` and from `receive` to `.received`.
package final class RegisteredMemory: Sendable {
  /// The bytes.
  package let region: MutableByteRegion
  /// Whatever the transport needs to keep the registration; undone by its `deinit`.
  package let registration: (any AnyObject & Sendable)?

  /// Zeroed memory, registered by `register`, which gets the bytes.
  package init(
    byteCount: Int,
    register: (MutableByteRegion) throws(TransportError) -> (any AnyObject & Sendable)?
  ) throws(TransportError) {
    let arena: ByteArena
    do throws(MemoryError) {
      arena = try ByteArena(byteCount: byteCount)
    } catch { throw .outOfMemory(byteCount: byteCount) }
    region = arena.region(0..<byteCount)
    registration = try register(region)
  }

  /// Number of bytes.
  package var byteCount: Int { region.byteCount }

  /// The bytes of `range` as something to send or to receive into.
  package subscript(range: Range<Int>) -> RegisteredSlice {
    RegisteredSlice(memory: self, range: range)
  }
}

/// A range of registered memory.
package struct RegisteredSlice: Sendable {
  /// The memory.
  package let memory: RegisteredMemory
  /// The bytes within it.
  package let range: Range<Int>

  /// A range; traps outside the memory.
  package init(memory: RegisteredMemory, range: Range<Int>) {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= memory.byteCount,
      "bytes \(range) outside registered memory of \(memory.byteCount)")
    self.memory = memory
    self.range = range
  }

  /// Number of bytes.
  package var byteCount: Int { range.count }

  /// The first `count` bytes.
  package func prefix(_ count: Int) -> RegisteredSlice {
    RegisteredSlice(memory: memory, range: range.lowerBound..<range.lowerBound + count)
  }

  /// Calls `body` with the bytes, to read.
  package func withBytes<R>(_ body: (RawSpan) throws -> R) rethrows -> R {
    try memory.region.withBytes(range, body)
  }

  /// Calls `body` with the bytes, to write.
  package func withMutableBytes<R>(_ body: (inout MutableRawSpan) throws -> R) rethrows -> R {
    try memory.region.withMutableBytes(range, body)
  }
}
