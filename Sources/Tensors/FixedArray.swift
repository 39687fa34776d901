// The elements are owned by the array alone.
extension FixedArray: @unchecked Sendable where Element: Sendable & ~Copyable {}

/// A fixed number of noncopyable elements, such as the micro-batches of a step.
@safe
package struct FixedArray<Element: ~Copyable>: ~Copyable {
  private let storage: UnsafeMutableBufferPointer<Element>

  /// Makes `count` elements in order.
  package init(count: Int, _ make: (Int) -> Element) {
    unsafe storage = .allocate(capacity: count)
    for index in 0..<count { unsafe storage.initializeElement(at: index, to: make(index)) }
  }

  deinit {
    for index in 0..<count { unsafe storage.deinitializeElement(at: index) }
    unsafe storage.deallocate()
  }

  /// Number of elements.
  package var count: Int { unsafe storage.count }

  /// The element at `index`, bounds-checked.
  package subscript(index: Int) -> Element {
    _read {
      precondition(index >= 0 && index < count, "index \(index) outside 0..<\(count)")
      yield unsafe storage[index]
    }
    _modify {
      precondition(index >= 0 && index < count, "index \(index) outside 0..<\(count)")
      // The buffer's own subscript trips the compiler's thread sanitizer (Swift 6.3).
      yield unsafe &storage.baseAddress.unsafelyUnwrapped[index]
    }
  }
}
