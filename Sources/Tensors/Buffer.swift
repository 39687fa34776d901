#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Owned, zero-filled memory for `count` elements, aligned to 64 bytes.
///
/// Activations and scratch live here. Kernel-facing functions take whole buffers (`borrowing` to
/// read, `inout` to write) and open the memory inside, so that no span outlives its call.
@safe
package struct Buffer<Element: BitwiseCopyable & Sendable>: ~Copyable, Sendable {
  /// Number of elements.
  package let count: Int
  private let storage: ByteRegion

  /// Allocates `count` zeroed elements; traps when the system has no memory left.
  package init(count: Int) {
    precondition(count >= 0, "a buffer cannot have \(count) elements")
    self.count = count
    self.storage = ByteRegion(
      allocating: max(1, count) * MemoryLayout<Element>.stride)
  }

  /// Copies an array.
  package init(_ elements: [Element]) {
    self.init(count: elements.count)
    unsafe elements.withUnsafeBufferPointer { source in
      if let first = source.baseAddress { unsafe base.update(from: first, count: source.count) }
    }
  }

  /// The element at `index`, bounds-checked.
  package subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count, "index \(index) outside 0..<\(count)")
      return unsafe base[index]
    }
    set {
      precondition(index >= 0 && index < count, "index \(index) outside 0..<\(count)")
      unsafe base[index] = newValue
    }
  }

  /// The elements, to read.
  package var span: Span<Element> {
    @_lifetime(borrow self)
    get {
      let span = unsafe Span(_unsafeStart: base, count: count)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  /// The elements, to write.
  package var mutableSpan: MutableSpan<Element> {
    @_lifetime(&self)
    mutating get {
      let span = unsafe MutableSpan(_unsafeStart: base, count: count)
      return unsafe _overrideLifetime(span, mutating: &self)
    }
  }

  /// Calls `body` with the address of the first element; for kernels.
  package func withUnsafePointer<R>(_ body: (UnsafePointer<Element>) throws -> R) rethrows -> R {
    try unsafe body(UnsafePointer(base))
  }

  /// Calls `body` with the address of the first element, to write; for kernels.
  package mutating func withUnsafeMutablePointer<R>(
    _ body: (UnsafeMutablePointer<Element>) throws -> R
  ) rethrows -> R {
    try unsafe body(base)
  }

  /// Copies the elements in `range`.
  package func array(_ range: Range<Int>) -> [Element] {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "range outside the buffer")
    return unsafe Array(UnsafeBufferPointer(start: base + range.lowerBound, count: range.count))
  }

  private var base: UnsafeMutablePointer<Element> {
    unsafe UnsafeMutableRawPointer(mutating: storage.base).assumingMemoryBound(to: Element.self)
  }
}
