internal import JSONScanning

/// A stretch of a text, as byte offsets.
struct Piece: Equatable, Sendable {
  var start: Int
  var end: Int
}

/// What becomes of the matches of a split.
enum SplitBehavior: String, Sendable {
  case isolated = "Isolated"
  case removed = "Removed"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// One step of the cutting of a text into the pieces within which merges happen.
enum PreTokenizationStep: Sendable {
  case split(CompiledPattern, SplitBehavior, inverted: Bool)
  /// Puts a space before every piece that does not begin with one.
  case prefixSpace
}

/// Cuts text into pieces as tokenizer.json's `pre_tokenizer` says; each step cuts what the
/// previous one left.
struct PreTokenizer: Sendable {
  let steps: [PreTokenizationStep]

  /// Cuts `pieces` of `text`, which must be valid UTF-8; both may be replaced.
  func apply(
    to text: inout [UInt8], pieces: inout [Piece], using space: MatchSpace
  ) throws(TokenizerError) {
    for step in steps {
      switch step {
      case .split(let pattern, .isolated, _):
        try isolate(pattern, text, &pieces, space)
      case .split(let pattern, let behavior, let isInverted):
        try split(pattern, behavior, isInverted, text, &pieces, space)
      case .prefixSpace: prefixSpace(&text, &pieces)
      }
    }
  }

  /// The common case: matches and what lies between them become pieces alike.
  private func isolate(
    _ pattern: CompiledPattern, _ text: [UInt8], _ pieces: inout [Piece], _ space: MatchSpace
  ) throws(TokenizerError) {
    var result: [Piece] = []
    result.reserveCapacity(pieces.count + pieces.count / 4 + 8)
    for piece in pieces {
      var previous = piece.start
      try pattern.forEachMatch(in: text, piece: piece, using: space) { start, end in
        if previous < start { result.append(Piece(start: previous, end: start)) }
        if start < end { result.append(Piece(start: start, end: end)) }
        previous = end
      }
      if previous < piece.end { result.append(Piece(start: previous, end: piece.end)) }
    }
    pieces = result
  }

  private func split(
    _ pattern: CompiledPattern, _ behavior: SplitBehavior, _ isInverted: Bool, _ text: [UInt8],
    _ pieces: inout [Piece], _ space: MatchSpace
  ) throws(TokenizerError) {
    var result: [Piece] = []
    for piece in pieces {
      var parts: [(piece: Piece, isMatch: Bool)] = []
      var previous = piece.start
      try pattern.forEachMatch(in: text, piece: piece, using: space) { start, end in
        if previous < start { parts.append((Piece(start: previous, end: start), isInverted)) }
        parts.append((Piece(start: start, end: end), !isInverted))
        previous = end
      }
      if previous < piece.end { parts.append((Piece(start: previous, end: piece.end), isInverted)) }
      Self.combine(parts, behavior, into: &result)
    }
    pieces = result
  }

  /// Drops or joins parts; the rules are those of `NormalizedString::split` in `tokenizers`.
  private static func combine(
    _ parts: [(piece: Piece, isMatch: Bool)], _ behavior: SplitBehavior, into result: inout [Piece]
  ) {
    var kept: [Piece] = []
    switch behavior {
    case .isolated: kept = parts.map(\.piece)
    case .removed: kept = parts.filter { !$0.isMatch }.map(\.piece)
    case .contiguous:
      var previous = false
      for (piece, isMatch) in parts {
        if isMatch == previous, let last = kept.indices.last {
          kept[last].end = piece.end
        } else {
          kept.append(piece)
        }
        previous = isMatch
      }
    case .mergedWithPrevious:
      var previous = false
      for (piece, isMatch) in parts {
        if isMatch, !previous, let last = kept.indices.last {
          kept[last].end = piece.end
        } else {
          kept.append(piece)
        }
        previous = isMatch
      }
    case .mergedWithNext:
      var previous = false
      for (piece, isMatch) in parts.reversed() {
        if isMatch, !previous, let last = kept.indices.last {
          kept[last].start = piece.start
        } else {
          kept.append(piece)
        }
        previous = isMatch
      }
      kept.reverse()
    }
    result.append(contentsOf: kept.lazy.filter { $0.start < $0.end })
  }

  private func prefixSpace(_ text: inout [UInt8], _ pieces: inout [Piece]) {
    let blank = UInt8(ascii: " ")
    var result: [UInt8] = []
    result.reserveCapacity(text.count + pieces.count)
    for index in pieces.indices {
      let piece = pieces[index]
      let start = result.count
      if text[piece.start] != blank { result.append(blank) }
      result.append(contentsOf: text[piece.start..<piece.end])
      pieces[index] = Piece(start: start, end: result.count)
    }
    text = result
  }
}
