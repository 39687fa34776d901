package import ConstrainedDecoding

/// A compiled grammar as a request's constraint.
package struct GrammarConstraint: TokenConstraint {
  private var matcher: GrammarMatcher
  private var mask: TokenMask

  /// The constraint before the answer's first token.
  package init(_ grammar: Grammar) {
    matcher = GrammarMatcher(grammar)
    mask = TokenMask(vocabularySize: grammar.vocabulary.size)
  }

  package mutating func allowedTokens() -> [UInt64] {
    matcher.fill(&mask)
    return mask.words
  }

  package mutating func accept(_ token: Int) -> Bool { matcher.accept(token) }

  package var isFinished: Bool { matcher.isFinished }
}
