/// Which tokens a sequence has seen and generated, kept incrementally for the penalties.
package struct TokenHistory: Equatable, Sendable {
  /// A token that occurred, and how often in the output.
  package struct Entry: Equatable, Sendable {
    /// The token's id.
    package let token: Int
    /// How often it was generated; 0 for a token of the prompt alone.
    package fileprivate(set) var generatedCount: Int
  }

  /// Every token of prompt and output once, in the order of first appearance.
  package private(set) var entries: [Entry] = []
  /// The output so far.
  package private(set) var generated: [Int] = []
  /// Index into `entries` by token; looked up, never iterated.
  private var places: [Int: Int] = [:]

  /// The history of a sequence that has generated nothing yet.
  package init(prompt: [Int] = []) {
    for token in prompt { note(token, generated: 0) }
  }

  /// Records the next output token.
  package mutating func append(_ token: Int) {
    generated.append(token)
    note(token, generated: 1)
  }

  private mutating func note(_ token: Int, generated: Int) {
    if let place = places[token] {
      entries[place].generatedCount += generated
    } else {
      places[token] = entries.count
      entries.append(Entry(token: token, generatedCount: generated))
    }
  }
}
