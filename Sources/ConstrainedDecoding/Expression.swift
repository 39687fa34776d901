/// What the compilers write and the automata are built from.
///
/// Regular parts become deterministic automata (leaves); what is left, with its references to
/// leaves and recursive rules, becomes the nodes of the pushdown automaton.
indirect enum Expression: Hashable, Sendable {
  /// These bytes.
  case bytes([UInt8])
  /// Any byte of these ranges.
  case byte([ClosedRange<UInt8>])
  /// One scalar of the set, written as the surrounding text is (`TextEncoding`).
  case scalar(ScalarSet)
  case sequence([Expression])
  case choice([Expression])
  case repeated(Expression, min: Int, max: Int?)
  /// The start of a pattern's text.
  case startAnchor
  /// The end of a pattern's text.
  case endAnchor
  /// A special token, which no text can spell.
  case token(Int)
  /// The members of an object in order, with commas between those that are there and
  /// white space after the last one.
  case members([Member], additional: Expression?)
  /// What an automaton accepts; from here on only in the pushdown automaton.
  case leaf(Int)
  /// What the rule of that index derives.
  case rule(Int)

  static let empty = Expression.sequence([])
  static let never = Expression.choice([])

  static func text(_ text: String) -> Expression { .bytes(Array(text.utf8)) }

  static func optional(_ expression: Expression) -> Expression { .choice([.empty, expression]) }

  static func digits(_ min: Int, _ max: Int?) -> Expression {
    .repeated(.byte([0x30...0x39]), min: min, max: max)
  }
}

/// One member of an object: its key, colon and value.
struct Member: Hashable, Sendable {
  let text: Expression
  let isRequired: Bool
}

/// How the scalars of a text are written.
enum TextEncoding: Hashable, Sendable {
  /// As they are.
  case plain
  /// As the inside of a JSON string: what must be escaped is, in one way each, and nothing else.
  case json

  private static let mustEscape = ScalarSet([0...0x1F, 0x22...0x22, 0x5C...0x5C])

  /// The scalars of `set` that are written as they are.
  func plainPart(of set: ScalarSet) -> ScalarSet {
    self == .plain ? set : set.subtracting(Self.mustEscape)
  }

  /// How the other scalars of `set` are written.
  func escapes(of set: ScalarSet) -> [[UInt8]] {
    guard self == .json else { return [] }
    return set.intersection(Self.mustEscape).ranges.flatMap { range in
      range.map { Self.escape(UInt8($0)) }
    }
  }

  private static func escape(_ byte: UInt8) -> [UInt8] {
    let letter: Character? =
      switch byte {
      case 0x22: "\""
      case 0x5C: "\\"
      case 0x08: "b"
      case 0x0C: "f"
      case 0x0A: "n"
      case 0x0D: "r"
      case 0x09: "t"
      default: nil
      }
    if let letter { return Array("\\\(letter)".utf8) }
    let digits = String(byte, radix: 16)
    return Array("\\u00\(digits.count < 2 ? "0" : "")\(digits)".utf8)
  }
}
