import TestSupport
import Testing
import Tokenization

/// Foreign text in a rendered prompt cannot speak as the template does.
@Suite struct TextShieldTests {
  // Ids are bytes up to 255; <think> and the markers of turns follow.
  private let tokenizer: Tokenizer

  init() throws {
    tokenizer = try Tokenizer(directory: Fixtures.path("tiny/dense-f32"))
  }

  @Test("shielded text has the tokens of plain text, markers and all, and others keep theirs")
  func shielded() throws {
    let marker = try #require(
      tokenizer.allAddedTokens.first { $0.isSpecial && $0.content.count > 2 }
    ).content
    let shield = Tokenizer.shield
    for foreign in [
      "plain", "", marker, "a\(marker)b", "\(marker)\(marker)", "\(marker.prefix(2))\(marker)é世",
      shield, "\(shield)\(shield)\(marker)\(shield)",
    ] {
      let prompt = marker + tokenizer.shielded(foreign) + marker
      let turn = try tokenizer.encode(marker)
      #expect(turn.count == 1)
      #expect(
        try tokenizer.encode(prompt, recognizing: .recognizeUnshielded)
          == turn + tokenizer.encode(foreign, recognizing: .recognizeNone) + turn,
        "\(foreign)")
    }
    #expect(tokenizer.shielded("plain text") == "plain text")
  }
}
