/// Turns a stream of tokens into text as it comes, never emitting part of a character.
///
/// What `append` and `finish` return, joined, is what `Tokenizer.decode` gives for all tokens
/// together.
package struct IncrementalDetokenizer: Sendable {
  private let tokenizer: Tokenizer
  private let skipsSpecialTokens: Bool
  private var characters = CharacterAssembler()

  /// Starts an empty text.
  package init(_ tokenizer: Tokenizer, skippingSpecialTokens: Bool = false) {
    self.tokenizer = tokenizer
    skipsSpecialTokens = skippingSpecialTokens
  }

  /// The text that is certain once `id` is known; may be empty.
  package mutating func append(_ id: TokenID) throws(TokenizerError) -> String {
    guard let bytes = tokenizer.bytes(of: id) else { throw .unknownID(id) }
    if skipsSpecialTokens, tokenizer.isSpecial(id) { return "" }
    return characters.append(bytes)
  }

  /// The text of the bytes still held back: U+FFFD or nothing.
  package mutating func finish() -> String { characters.finish() }
}
