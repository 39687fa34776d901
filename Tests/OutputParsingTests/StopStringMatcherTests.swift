import OutputParsing
import Testing

@Suite("Stop strings")
struct StopStringMatcherTests {
  /// The definition, straight from the text: the match that ends first, of those the longest.
  private func oneShot(_ text: String, _ stops: [String]) -> (text: String, stop: String?) {
    let bytes = Array(text.utf8)
    for end in 0...bytes.count {
      let found = stops.filter { bytes[..<end].reversed().starts(with: $0.utf8.reversed()) }
      if let stop = found.max(by: { $0.utf8.count < $1.utf8.count }) {
        return (String(decoding: bytes[..<(end - stop.utf8.count)], as: UTF8.self), stop)
      }
    }
    return (text, nil)
  }

  @Test("random texts in random pieces are cut as the definition says")
  func random() {
    var random = SplitMix(state: 3)
    for _ in 0..<3000 {
      let alphabet = ["a", "b", "é", "🤔"]
      func word(_ range: ClosedRange<Int>) -> String {
        (0..<Int.random(in: range, using: &random)).map { _ in
          alphabet[Int.random(in: 0..<4, using: &random)]
        }.joined()
      }
      let stops = (0..<Int.random(in: 1...4, using: &random)).map { _ in word(1...4) }
      let text = word(0...12)
      let places = (0..<3).map { _ in
        Int.random(in: 0...text.unicodeScalars.count, using: &random)
      }.sorted()
      var matcher = StopStringMatcher(stops)
      var output = ""
      var stop: String?
      for piece in cut(text, at: places) {
        let result = matcher.feed(piece)
        output += result.text
        stop = stop ?? result.stop
      }
      output += matcher.finish()
      let expected = oneShot(text, stops)
      #expect(output == expected.text && stop == expected.stop, "\(text) \(stops) \(places)")
    }
  }

  @Test("only what may begin a stop string is held back")
  func holding() {
    var matcher = StopStringMatcher(["\n\nUser:", "END"])
    #expect(matcher.feed("Hi\n") == .init(text: "Hi", stop: nil))
    #expect(matcher.feed("\nUs") == .init(text: "", stop: nil))
    #expect(matcher.feed("es") == .init(text: "\n\nUses", stop: nil))
    #expect(matcher.feed(" EN") == .init(text: " ", stop: nil))
    #expect(matcher.finish() == "EN")
  }

  @Test("the stop string stays in the text when asked")
  func including() {
    var matcher = StopStringMatcher(["END"], includesStop: true)
    #expect(matcher.feed("the E") == .init(text: "the ", stop: nil))
    #expect(matcher.feed("ND and more") == .init(text: "END", stop: "END"))
    #expect(matcher.feed("x") == .init(text: "", stop: nil))
    #expect(matcher.finish() == "")
  }
}
