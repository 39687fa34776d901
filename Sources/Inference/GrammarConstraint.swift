package import ConstrainedDecoding

/// A compiled grammar as a request's constraint.
package struct GrammarConstraint: TokenConstraint {
  private var matcher: GrammarMatcher
  private var mask: TokenMask

  /// What the grammar was compiled from, to compile it again in another process.
  package let source: GrammarSource

  /// The constraint before the answer's first token.
  package init(_ grammar: Grammar, source: GrammarSource) {
    self.source = source
    matcher = GrammarMatcher(grammar)
    mask = TokenMask(vocabularySize: grammar.vocabulary.size)
  }

  /// The tokens that the grammar lets come next, end ids where it may end.
  package mutating func allowedTokens() -> [UInt64] {
    matcher.fill(&mask)
    return mask.words
  }

  /// Moves on by a token; false, with nothing changed, for one that may not come next.
  package mutating func accept(_ token: Int) -> Bool { matcher.accept(token) }

  /// Whether nothing but the end may follow.
  package var isFinished: Bool { matcher.isFinished }
}
