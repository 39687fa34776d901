/// Finds stop strings in text as it comes, holding back what may be the beginning of one.
///
/// The match that ends first wins, and of those that end together the longest, so the result does
/// not depend on how the text is split. This is an Aho-Corasick automaton over UTF-8 bytes: the
/// depth of its state is the number of bytes to hold back.
package struct StopStringMatcher: Sendable {
  /// What a piece of text brings.
  package struct Result: Equatable, Sendable {
    /// Text that is safe to give out.
    package var text: String
    /// The stop string that was found; the output ends with `text`.
    package var stop: String?

    /// A result of this text and stop string.
    package init(text: String, stop: String?) {
      self.text = text
      self.stop = stop
    }
  }

  private struct Node {
    var children: [UInt8: Int] = [:]
    var fallback = 0
    var depth = 0
    /// The longest stop string that ends here.
    var stop: Int?
  }

  private let stops: [String]
  private let includesStop: Bool
  private var nodes: [Node]
  private var state = 0
  private var held: [UInt8] = []
  private var isStopped = false

  /// A matcher for `stops`, none of them empty; `includesStop` leaves the found one in the text.
  package init(_ stops: [String], includesStop: Bool = false) {
    precondition(stops.allSatisfy { !$0.isEmpty }, "an empty stop string")
    self.stops = stops
    self.includesStop = includesStop
    nodes = [Node()]
    for (index, stop) in stops.enumerated() { insert(Array(stop.utf8), as: index) }
    link()
  }

  /// Reads more text; once a stop string was found nothing more comes out.
  package mutating func feed(_ text: String) -> Result {
    guard !isStopped else { return Result(text: "", stop: nil) }
    if stops.isEmpty { return Result(text: text, stop: nil) }
    for byte in text.utf8 {
      held.append(byte)
      state = next(state, byte)
      guard let index = nodes[state].stop else { continue }
      isStopped = true
      let stop = stops[index]
      let kept = includesStop ? held.count : held.count - stop.utf8.count
      return Result(text: String(decoding: held[..<kept], as: UTF8.self), stop: stop)
    }
    let safe = held.count - nodes[state].depth
    defer { held.removeFirst(safe) }
    return Result(text: String(decoding: held[..<safe], as: UTF8.self), stop: nil)
  }

  /// Ends the text and returns what was held back.
  package mutating func finish() -> String {
    defer { held = [] }
    return isStopped ? "" : String(decoding: held, as: UTF8.self)
  }

  private func next(_ state: Int, _ byte: UInt8) -> Int {
    var state = state
    while true {
      if let child = nodes[state].children[byte] { return child }
      if state == 0 { return 0 }
      state = nodes[state].fallback
    }
  }

  private mutating func insert(_ bytes: [UInt8], as index: Int) {
    var node = 0
    for byte in bytes {
      if let child = nodes[node].children[byte] {
        node = child
      } else {
        nodes.append(Node(depth: nodes[node].depth + 1))
        nodes[node].children[byte] = nodes.count - 1
        node = nodes.count - 1
      }
    }
    nodes[node].stop = nodes[node].stop ?? index
  }

  /// Sets every node's fallback: the longest proper suffix of it that is also in the tree.
  private mutating func link() {
    var queue = [0]
    var head = 0
    while head < queue.count {
      let node = queue[head]
      head += 1
      for (byte, child) in nodes[node].children.sorted(by: { $0.key < $1.key }) {
        queue.append(child)
        if node != 0 { nodes[child].fallback = next(nodes[node].fallback, byte) }
        // A shorter stop string that ends here counts unless a longer one does.
        nodes[child].stop = nodes[child].stop ?? nodes[nodes[child].fallback].stop
      }
    }
  }
}
