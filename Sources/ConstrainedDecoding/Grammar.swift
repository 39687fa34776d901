import Synchronization

/// A compiled constraint: what an output may be, as a pushdown automaton over bytes.
///
/// Every state that a matcher can be in leads to an end, so a constrained output can always be
/// finished. A grammar may be used by many matchers at once; what it learns it keeps for all.
package final class Grammar: Sendable {
  /// The tokens it chooses from.
  package let vocabulary: TokenVocabulary
  let nodes: [GrammarNode]
  let ruleStarts: [Int32]
  let leaves: [ByteAutomaton]
  let start: Int32
  /// The least number of frames from a node to its rule's end.
  let heights: [Int32]
  private let space: Mutex<ConfigurationSpace>

  /// The most frames on a stack: how deep recursive parts may nest.
  static let depthLimit: Int32 = 64

  /// The grammar of `expression`, whose rules and leaves `builder` holds.
  init(_ expression: Expression, _ builder: consuming GrammarBuilder) throws(GrammarError) {
    vocabulary = builder.vocabulary
    var builder = builder
    let start = try builder.build(start: expression)
    nodes = builder.nodes
    ruleStarts = builder.ruleStarts
    leaves = builder.leaves
    self.start = start
    heights = Self.heights(nodes, ruleStarts)
    guard heights[Int(start)] <= Self.depthLimit else { throw .unsatisfiable(path: "$") }
    space = Mutex(ConfigurationSpace())
  }

  /// Runs `body` with the configurations known so far.
  func withSpace<Result: Sendable>(
    _ body: (inout ConfigurationSpace, Grammar) -> Result
  ) -> Result {
    space.withLock { body(&$0, self) }
  }

  /// For each node the least number of frames that must be opened to reach its rule's end;
  /// beyond every limit when that is impossible.
  private static func heights(_ nodes: [GrammarNode], _ ruleStarts: [Int32]) -> [Int32] {
    let impossible = Int32.max / 2
    var heights = nodes.map { $0.isEnd ? 0 : impossible }
    var isChanging = true
    while isChanging {
      isChanging = false
      // Targets mostly have higher numbers than sources, so backwards converges in few rounds.
      for node in nodes.indices.reversed() {
        var best = heights[node]
        for move in nodes[node].moves where !move.ranges.isEmpty {
          best = min(best, heights[Int(move.target)])
        }
        for target in nodes[node].empties { best = min(best, heights[Int(target)]) }
        for call in nodes[node].calls {
          let inner = heights[Int(ruleStarts[Int(call.rule)])]
          best = min(best, max(min(inner + 1, impossible), heights[Int(call.after)]))
        }
        for leaf in nodes[node].leaves { best = min(best, max(1, heights[Int(leaf.after)])) }
        if best < heights[node] {
          heights[node] = best
          isChanging = true
        }
      }
    }
    return heights
  }
}
