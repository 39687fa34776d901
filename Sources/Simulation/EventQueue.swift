/// Elements by ascending key; equal keys leave in the order in which they came.
package struct EventQueue<Key: Comparable & Sendable, Element: Sendable>: Sendable {
  private struct Entry: Sendable {
    let key: Key
    let order: UInt64
    let element: Element

    func precedes(_ other: Entry) -> Bool {
      key < other.key || (key == other.key && order < other.order)
    }
  }

  private var heap: [Entry] = []
  private var inserted: UInt64 = 0

  /// An empty queue.
  package init() {}

  /// How many elements wait.
  package var count: Int { heap.count }

  /// The least key.
  package var firstKey: Key? { heap.first?.key }

  /// Adds `element` under `key`.
  package mutating func insert(_ element: Element, at key: Key) {
    heap.append(Entry(key: key, order: inserted, element: element))
    inserted += 1
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].precedes(heap[parent]) else { break }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  /// Takes out the first element.
  package mutating func popFirst() -> (key: Key, element: Element)? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    guard !heap.isEmpty else { return (first.key, first.element) }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
        if heap[child].precedes(heap[least]) { least = child }
      }
      if least == parent { break }
      heap.swapAt(parent, least)
      parent = least
    }
    return (first.key, first.element)
  }
}
