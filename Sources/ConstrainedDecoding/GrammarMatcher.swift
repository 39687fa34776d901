/// Where one output stands in its grammar.
///
/// ```swift
/// var matcher = GrammarMatcher(grammar)
/// var mask = TokenMask(vocabularySize: grammar.vocabulary.size)
/// while !matcher.isFinished {
///   matcher.fill(&mask)                    // the tokens that may come next, end ids included
///   let token = sample(logits, allowing: mask.words)
///   matcher.accept(token)
/// }
/// ```
package struct GrammarMatcher: Sendable {
  private let grammar: Grammar
  private var configuration: Int32
  private var hasEnded = false

  /// A matcher before the first token.
  package init(_ grammar: Grammar) {
    self.grammar = grammar
    configuration = grammar.withSpace { $0.start($1) }
  }

  /// Sets `mask` to the tokens that may come next; it is empty only after the end.
  package func fill(_ mask: inout TokenMask) {
    if hasEnded {
      mask.removeAll()
    } else {
      mask = grammar.withSpace { [configuration] in $0.mask(configuration, $1) }
    }
  }

  /// Reads a token; false, with nothing changed, when it may not come next.
  @discardableResult
  package mutating func accept(_ token: Int) -> Bool {
    guard !hasEnded, (0..<grammar.vocabulary.size).contains(token) else { return false }
    if canFinish, grammar.vocabulary.endIDs.contains(token) {
      hasEnded = true
      return true
    }
    let path = grammar.vocabulary.path(of: token)
    guard !path.isEmpty else { return false }
    let target = grammar.withSpace { [configuration] space, grammar in
      space.next(configuration, path, grammar)
    }
    guard target != ConfigurationSpace.dead else { return false }
    configuration = target
    return true
  }

  /// Reads one byte of text; false, with nothing changed, when it may not come next.
  mutating func accept(byte: UInt8) -> Bool {
    guard !hasEnded else { return false }
    let target = grammar.withSpace { [configuration] in $0.next(configuration, byte, $1) }
    guard target != ConfigurationSpace.dead else { return false }
    configuration = target
    return true
  }

  /// Whether the output may end here: the end ids are allowed.
  package var canFinish: Bool {
    grammar.withSpace { [configuration] space, _ in space.isAccepting(configuration) }
  }

  /// Whether nothing but the end may follow, or the end has come.
  package var isFinished: Bool {
    hasEnded || grammar.withSpace { [configuration] space, _ in space.isAtEnd(configuration) }
  }
}
