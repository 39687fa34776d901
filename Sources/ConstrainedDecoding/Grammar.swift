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
    heights = NodeHeights.of(nodes, ruleStarts: ruleStarts)
    guard heights[Int(start)] <= Self.depthLimit else { throw .unsatisfiable(path: "$") }
    space = Mutex(ConfigurationSpace())
  }

  /// Runs `body` with the configurations known so far.
  func withSpace<Result: Sendable>(
    _ body: (inout ConfigurationSpace, Grammar) -> Result
  ) -> Result {
    space.withLock { body(&$0, self) }
  }
}
