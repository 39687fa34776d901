import ConstrainedDecoding
import Testing

@Suite struct PreparationTests {
  @Test("a vocabulary that was prepared gives the masks of one that was not", arguments: Sample.all)
  func sameMasks(_ sample: Sample) throws {
    let prepared = TokenVocabulary(
      tokenBytes: SmallVocabulary.tokenBytes,
      specialIDs: Set(SmallVocabulary.firstSpecial..<SmallVocabulary.tokenBytes.count),
      endIDs: [SmallVocabulary.end])
    #expect(prepared.prepare())
    let grammars = [
      try sample.grammar(),
      try Grammar.compile(
        sample.source, vocabulary: prepared, afterThinking: sample.afterThinking),
    ]
    var random = SplitMix(state: 7)
    for _ in 0..<5 {
      var matchers = grammars.map { GrammarMatcher($0) }
      var masks = grammars.map { TokenMask(vocabularySize: $0.vocabulary.size) }
      for _ in 0..<40 {
        for index in matchers.indices { matchers[index].fill(&masks[index]) }
        try #require(masks[0] == masks[1])
        guard let token = masks[0].ids.randomElement(using: &random) else { break }
        for index in matchers.indices {
          let isTaken = matchers[index].accept(token)
          #expect(isTaken)
        }
      }
    }
  }
}
