/// The regular texts that constraints are made of.
enum Texts {
  /// Any scalar but controls, as it is.
  static let scalar = Expression.scalar(.all)

  /// One scalar of a JSON string: as it is, or escaped in any way that JSON allows.
  static let jsonScalar: Expression = {
    let raw = ScalarSet([0x20...0x21, 0x23...0x5B, 0x5D...0x10FFFF])
    let hex: [ClosedRange<UInt8>] = [0x30...0x39, 0x41...0x46, 0x61...0x66]
    let letters = #""\/bfnrt"#.utf8.map { $0...$0 }
    // \uXXXX apart from surrogates, and pairs of surrogates.
    let notD: [ClosedRange<UInt8>] = [
      0x30...0x39, 0x41...0x43, 0x45...0x46, 0x61...0x63, 0x65...0x66,
    ]
    let d: [ClosedRange<UInt8>] = [0x44...0x44, 0x64...0x64]
    let high: [ClosedRange<UInt8>] = [0x38...0x39, 0x41...0x42, 0x61...0x62]
    let low: [ClosedRange<UInt8>] = [0x43...0x46, 0x63...0x66]
    let two: [Expression] = [.byte(hex), .byte(hex)]
    let pair =
      [Expression.byte(d), .byte(high)] + two + [.text(#"\u"#), .byte(d), .byte(low)] + two
    let code = Expression.choice([
      .sequence([.byte(notD), .byte(hex)] + two),
      .sequence([.byte(d), .byte([0x30...0x37])] + two),
      .sequence(pair),
    ])
    return .choice([
      .scalar(raw), .sequence([.text("\\"), .byte(letters)]),
      .sequence([.text(#"\u"#), code]),
    ])
  }()

  /// Any JSON string.
  static let jsonString = Expression.sequence([
    .text("\""), .repeated(jsonScalar, min: 0, max: nil), .text("\""),
  ])

  /// White space between the tokens of JSON: nothing, one space, or a new line and its indentation.
  /// More would let a model write blanks for ever.
  static let space = Expression.choice([
    .empty, .text(" "),
    .sequence([.text("\n"), .repeated(.text(" "), min: 0, max: indentationLimit)]),
  ])

  private static let indentationLimit = 24

  /// At most one space, after a colon.
  static let oneSpace = Expression.optional(.text(" "))
}

/// The texts that end with their first `marker`, or with a special token in its place.
struct UntilMarker: Hashable {
  private let marker: [UInt8]
  private let token: Int?

  init(_ marker: String, token: Int? = nil) {
    self.marker = Array(marker.utf8)
    self.token = token
  }

  /// The automaton: UTF-8 beside the search for the marker (Knuth, Morris, Pratt). With a token
  /// the text never spells the marker.
  func automaton(
    available: [Bool], budget: CompileBudget, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    guard
      let any = NondeterministicAutomaton(
        .repeated(Texts.scalar, min: 0, max: nil), encoding: .plain, available: available,
        limit: GrammarBuilder.nodeLimit)
    else { throw .tooLarge(path: path, limit: GrammarBuilder.nodeLimit) }
    guard let text = try ByteAutomaton.determinizing(any, budget: budget, path: path),
      let search = try searcher(endsAtMarker: token == nil, budget: budget, path: path)
    else { return nil }
    guard let token else { return try text.combined(with: search, budget: budget, path: path) }
    // Text that avoids the marker, then the special token.
    guard let avoiding = try text.combined(with: search, budget: budget, path: path),
      var source = NondeterministicAutomaton(
        .empty, encoding: .plain, available: available, limit: GrammarBuilder.nodeLimit)
    else { return nil }
    source.append(avoiding, suffix: .token(token))
    return try ByteAutomaton.determinizing(source, budget: budget, path: path)
  }

  /// Accepts what ends with the first marker, or what holds none.
  private func searcher(
    endsAtMarker: Bool, budget: CompileBudget, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    var fallback = [Int](repeating: 0, count: marker.count + 1)
    var table = [Int32](repeating: 0, count: (marker.count + 1) * 256)
    for state in 0..<marker.count {
      for byte in 0..<256 {
        let isNext = Int(marker[state]) == byte
        let other = state == 0 ? 0 : table[fallback[state] * 256 + byte]
        table[state * 256 + byte] = isNext ? Int32(state + 1) : other
      }
      if state > 0 {
        fallback[state + 1] = Int(table[fallback[state] * 256 + Int(marker[state])])
      }
    }
    for byte in 0..<256 { table[marker.count * 256 + byte] = -1 }
    var accepting = [Bool](repeating: !endsAtMarker, count: marker.count + 1)
    accepting[marker.count] = endsAtMarker
    return try AutomatonDraft(
      classes: (UInt8.min...UInt8.max).map { $0 }, classCount: 256, table: table,
      accepting: accepting
    ).trimmed(budget: budget, path: path)
  }
}
