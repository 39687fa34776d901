/// The markers of Step3's text protocol, as UTF-8 bytes.
///
/// The tokenizer writes the tool markers with fullwidth bars (U+FF5C) and either underscores or,
/// as DeepSeek does, lower one eighth blocks (U+2581) between the words. Both spellings count.
enum Marker: Int, CaseIterable {
  case thinkOpen, thinkClose
  case callsBegin, callsEnd, callBegin, callEnd, separator
  case invokeOpen, invokeClose
  case parameterOpen, parameterClose

  /// Every spelling of the marker.
  var spellings: [[UInt8]] { Self.table[rawValue] }

  private static let table: [[[UInt8]]] = allCases.map { marker in
    switch marker {
    case .thinkOpen: ["<think>"]
    case .thinkClose: ["</think>"]
    case .callsBegin: ["<｜tool_calls_begin｜>", "<｜tool▁calls▁begin｜>"]
    case .callsEnd: ["<｜tool_calls_end｜>", "<｜tool▁calls▁end｜>"]
    case .callBegin: ["<｜tool_call_begin｜>", "<｜tool▁call▁begin｜>"]
    case .callEnd: ["<｜tool_call_end｜>", "<｜tool▁call▁end｜>"]
    case .separator: ["<｜tool_sep｜>", "<｜tool▁sep｜>"]
    case .invokeOpen: ["<steptml:invoke name=\""]
    case .invokeClose: ["</steptml:invoke>"]
    case .parameterOpen: ["<steptml:parameter name=\""]
    case .parameterClose: ["</steptml:parameter>"]
    }
  }.map { (spellings: [String]) in spellings.map { Array($0.utf8) } }
}

/// What a search for markers finds.
enum MarkerSearch: Equatable {
  /// The first marker, where it begins, and how many bytes it takes.
  case found(Marker, at: Int, byteCount: Int)
  /// None; the bytes from `heldFrom` on may be the beginning of one.
  case none(heldFrom: Int)

  /// Looks for the first of `markers` in `bytes`, from `start` on.
  init(_ markers: [Marker], in bytes: [UInt8], from start: Int = 0) {
    var place = start
    while place < bytes.count {
      guard bytes[place] == UInt8(ascii: "<") else {
        place += 1
        continue
      }
      for marker in markers {
        for spelling in marker.spellings {
          switch bytes.comparison(with: spelling, at: place) {
          case .equal:
            self = .found(marker, at: place, byteCount: spelling.count)
            return
          case .beginning:
            // No marker holds another '<', so nothing behind this place can begin earlier.
            self = .none(heldFrom: place)
            return
          case .different: continue
          }
        }
      }
      place += 1
    }
    self = .none(heldFrom: bytes.count)
  }
}

enum PrefixComparison {
  /// All of the pattern stands there.
  case equal
  /// The bytes end within the pattern.
  case beginning
  case different
}

extension [UInt8] {
  /// Compares the bytes from `place` on with `pattern`.
  func comparison(with pattern: [UInt8], at place: Int) -> PrefixComparison {
    let available = Swift.min(pattern.count, count - place)
    for offset in 0..<available where self[place + offset] != pattern[offset] {
      return place < count - 3 && isCut(from: place + offset) ? .beginning : .different
    }
    return available == pattern.count ? .equal : .beginning
  }

  /// Whether `place` is within a U+FFFD at the end: what is left of a character that the output's
  /// end cut through, and the marker with it.
  private func isCut(from place: Int) -> Bool {
    place >= count - 3 && suffix(3) == [0xEF, 0xBF, 0xBD]
  }

  /// Whether the byte is an ASCII space, tab or line break.
  static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || (0x09...0x0D).contains(byte)
  }

  /// Where the white space that ends at `place` begins.
  func endWithoutSpace(before place: Int) -> Int {
    var end = place
    while end > 0, Self.isSpace(self[end - 1]) { end -= 1 }
    return end
  }

  /// The bytes as text.
  func text(_ range: Range<Int>) -> String { String(decoding: self[range], as: UTF8.self) }
}
