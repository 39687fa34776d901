/// For each node the least number of frames that must be opened to reach its rule's end.
///
/// An edge never leads lower than what lies behind it, so nodes are settled in ascending order,
/// each once, as in Dijkstra's algorithm; going over all nodes until nothing changes takes time by
/// the square of an object's properties.
struct NodeHeights {
  /// Where a node can be come to from.
  private struct Edge {
    let source: Int32
    /// What the frame of a leaf adds; a node behind a call waits for two others instead.
    let least: Int32
    /// The rule's start and the node after the call, -1 for other edges.
    let start: Int32
    let after: Int32
  }

  private static let impossible = Int32.max / 2

  private var heights: [Int32]
  private var isSettled: [Bool]
  /// The edges to node n are `edges[offsets[n]..<offsets[n + 1]]`.
  private var edges: [Edge] = []
  private var offsets: [Int]
  /// Nodes by the height they may have.
  private var waiting: [[Int32]]

  /// The heights of `nodes`; beyond every limit where the end is out of reach of a stack.
  static func of(_ nodes: [GrammarNode], ruleStarts: [Int32]) -> [Int32] {
    var heights = NodeHeights(nodes, ruleStarts)
    heights.settle()
    return heights.heights
  }

  private init(_ nodes: [GrammarNode], _ ruleStarts: [Int32]) {
    heights = Array(repeating: Self.impossible, count: nodes.count)
    isSettled = Array(repeating: false, count: nodes.count)
    offsets = Array(repeating: 0, count: nodes.count + 1)
    waiting = Array(repeating: [], count: Int(Grammar.depthLimit) + 1)
    var incoming: [(target: Int32, edge: Edge)] = []
    for (number, node) in nodes.enumerated() {
      let source = Int32(number)
      let plain = Edge(source: source, least: 0, start: -1, after: -1)
      for move in node.moves where !move.ranges.isEmpty { incoming.append((move.target, plain)) }
      for target in node.empties { incoming.append((target, plain)) }
      for leaf in node.leaves {
        incoming.append((leaf.after, Edge(source: source, least: 1, start: -1, after: -1)))
      }
      for call in node.calls {
        let start = ruleStarts[Int(call.rule)]
        let edge = Edge(source: source, least: 0, start: start, after: call.after)
        incoming += [(start, edge), (call.after, edge)]
      }
      if node.isEnd {
        heights[number] = 0
        waiting[0].append(source)
      }
    }
    // Sorted by target, by counting.
    for (target, _) in incoming { offsets[Int(target) + 1] += 1 }
    for node in nodes.indices { offsets[node + 1] += offsets[node] }
    guard let any = incoming.first?.edge else { return }
    edges = Array(repeating: any, count: incoming.count)
    var places = offsets
    for (target, edge) in incoming {
      edges[places[Int(target)]] = edge
      places[Int(target)] += 1
    }
  }

  private mutating func settle() {
    for height in waiting.indices {
      while let node = waiting[height].popLast() {
        guard !isSettled[Int(node)] else { continue }
        isSettled[Int(node)] = true
        for edge in edges[offsets[Int(node)]..<offsets[Int(node) + 1]] {
          offer(edge, height: Int32(height))
        }
      }
    }
  }

  /// An edge's source may be as high as what the edge leads to.
  private mutating func offer(_ edge: Edge, height: Int32) {
    var height = max(height, edge.least)
    if edge.start >= 0 {
      guard isSettled[Int(edge.start)], isSettled[Int(edge.after)] else { return }
      height = max(heights[Int(edge.start)] + 1, heights[Int(edge.after)])
    }
    guard height <= Grammar.depthLimit, height < heights[Int(edge.source)] else { return }
    heights[Int(edge.source)] = height
    waiting[Int(height)].append(edge.source)
  }
}
