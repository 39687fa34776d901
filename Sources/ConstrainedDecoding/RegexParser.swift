/// Reads a regular expression into an `Expression`.
///
/// The dialect is what ECMA 262 (which JSON Schema names) and Python have in common: classes,
/// escapes, groups, alternation, quantifiers, anchors. Lazy quantifiers describe the same texts as
/// greedy ones. What is no regular language, or depends on flags, is refused by name.
struct RegexParser {
  private let pattern: String
  private let scalars: [Unicode.Scalar]
  private let path: String
  private var place = 0
  private var depth = 0

  /// How often a quantifier may repeat, and how deep groups may nest.
  private static let repetitionLimit = 10_000
  private static let depthLimit = 100

  private init(_ pattern: String, path: String) {
    self.pattern = pattern
    self.path = path
    scalars = Array(pattern.unicodeScalars)
  }

  /// The expression that `pattern` stands for, anchors included.
  static func parse(_ pattern: String, path: String) throws(GrammarError) -> Expression {
    var parser = RegexParser(pattern, path: path)
    let expression = try parser.alternation()
    guard parser.place == parser.scalars.count else { throw parser.bad("')' without '('") }
    return expression
  }

  // MARK: Structure

  private mutating func alternation() throws(GrammarError) -> Expression {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else { throw bad("groups nest too deep") }
    var choices = [try sequence()]
    while take("|") { choices.append(try sequence()) }
    return choices.count == 1 ? choices[0] : .choice(choices)
  }

  private mutating func sequence() throws(GrammarError) -> Expression {
    var parts: [Expression] = []
    while let next = peek, next != "|", next != ")" {
      parts.append(try quantified())
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func quantified() throws(GrammarError) -> Expression {
    let start = place
    let atom = try self.atom()
    guard let (min, max) = try quantifier() else { return atom }
    if atom == .startAnchor || atom == .endAnchor {
      place = start
      throw bad("an anchor cannot be repeated")
    }
    if take("+") { throw unsupported("possessive quantifier") }
    _ = take("?")
    if let next = peek, next == "*" || next == "+" || next == "?" {
      throw bad("nothing to repeat")
    }
    return .repeated(atom, min: min, max: max)
  }

  private mutating func quantifier() throws(GrammarError) -> (Int, Int?)? {
    if take("*") { return (0, nil) }
    if take("+") { return (1, nil) }
    if take("?") { return (0, 1) }
    guard peek == "{" else { return nil }
    let start = place
    place += 1
    let low = number()
    var high = low
    if take(",") { high = number() } else if low == nil { high = nil }
    let hasComma = scalars[start..<place].contains(",")
    guard take("}"), low != nil || (hasComma && high != nil) else {
      // Not a quantifier: a brace that stands for itself, as both dialects allow.
      place = start
      return nil
    }
    let min = low ?? 0
    let max = hasComma ? high : low
    if let max, max < min { throw bad("the bounds of {…} are out of order") }
    guard min <= Self.repetitionLimit, max ?? 0 <= Self.repetitionLimit else {
      throw bad("at most \(Self.repetitionLimit) repetitions are allowed")
    }
    return (min, max)
  }

  private mutating func number() -> Int? {
    let start = place
    while let next = peek, ScalarSet.isDigit(next) { place += 1 }
    return Int(String(String.UnicodeScalarView(scalars[start..<place])))
  }

  private mutating func atom() throws(GrammarError) -> Expression {
    guard let scalar = peek else { throw bad("the pattern ends too early") }
    place += 1
    switch scalar {
    case "(": return try group()
    case "[": return .scalar(try characterClass())
    case ".": return .scalar(ScalarSet.lineBreaks.complement)
    case "^": return .startAnchor
    case "$": return .endAnchor
    case "\\": return try escape()
    case "*", "+", "?":
      place -= 1
      throw bad("nothing to repeat")
    default: return .scalar(ScalarSet(scalar))
    }
  }

  private mutating func group() throws(GrammarError) -> Expression {
    if take("?") {
      if take(":") {
        // A group that only groups.
      } else if take("=") || take("!") {
        throw unsupported("lookahead")
      } else if take("P") {
        if take("=") { throw unsupported("backreference") }
        guard take("<") else { throw bad("'(?P' needs '<name>'") }
        try skipGroupName()
      } else if take("<") {
        if peek == "=" || peek == "!" { throw unsupported("lookbehind") }
        try skipGroupName()
      } else if take(">") {
        throw unsupported("atomic group")
      } else if take("#") {
        throw unsupported("comment")
      } else {
        throw unsupported("inline flags")
      }
    }
    let inner = try alternation()
    guard take(")") else { throw bad("'(' without ')'") }
    return inner
  }

  private mutating func skipGroupName() throws(GrammarError) {
    let start = place
    while let next = peek, next != ">" { place += next == ")" ? scalars.count : 1 }
    guard place > start, take(">") else {
      place = start
      throw bad("the group's name does not end")
    }
  }

  // MARK: Escapes

  private mutating func escape() throws(GrammarError) -> Expression {
    guard let scalar = peek else { throw bad("'\\' at the end") }
    switch scalar {
    case "b", "B":
      throw unsupported("word boundary \\\(scalar)")
    case "1"..."9":
      throw unsupported("backreference")
    case "k":
      throw unsupported("backreference")
    case "A":
      place += 1
      return .startAnchor
    case "Z", "z":
      place += 1
      return .endAnchor
    default:
      return .scalar(try escapedSet())
    }
  }

  /// What an escape stands for that means the same inside and outside of a class.
  private mutating func escapedSet() throws(GrammarError) -> ScalarSet {
    guard let scalar = peek else { throw bad("'\\' at the end") }
    place += 1
    switch scalar {
    case "d": return .digits
    case "D": return ScalarSet.digits.complement
    case "w": return .word
    case "W": return ScalarSet.word.complement
    case "s": return .space
    case "S": return ScalarSet.space.complement
    case "n": return ScalarSet("\n")
    case "r": return ScalarSet("\r")
    case "t": return ScalarSet("\t")
    case "f": return ScalarSet("\u{0C}")
    case "v": return ScalarSet("\u{0B}")
    case "a": return ScalarSet("\u{07}")
    case "0": return ScalarSet("\0")
    case "x": return ScalarSet(try hexadecimal(2))
    case "u": return ScalarSet(try unicodeEscape())
    case "p", "P": return try property(isNegated: scalar == "P")
    case "c": throw unsupported("control escape \\c")
    default:
      if ScalarSet.word.contains(scalar) { throw unsupported("escape \\\(scalar)") }
      return ScalarSet(scalar)
    }
  }

  private mutating func hexadecimal(_ count: Int) throws(GrammarError) -> Unicode.Scalar {
    let end = place + count
    guard end <= scalars.count,
      let value = UInt32(String(String.UnicodeScalarView(scalars[place..<end])), radix: 16)
    else { throw bad("\(count) hexadecimal digits are needed") }
    guard let scalar = Unicode.Scalar(value) else { throw unsupported("surrogate escape") }
    place = end
    return scalar
  }

  private mutating func unicodeEscape() throws(GrammarError) -> Unicode.Scalar {
    if take("{") {
      let start = place
      while let next = peek, next != "}", place - start < 6 { place += 1 }
      let count = place - start
      place = start
      let scalar = try hexadecimal(count)
      guard take("}") else { throw bad("'\\u{' without '}'") }
      return scalar
    }
    let start = place
    // Two escapes may together name one scalar beyond the first plane.
    if place + 10 <= scalars.count, scalars[place + 4] == "\\", scalars[place + 5] == "u" {
      let text = String(String.UnicodeScalarView(scalars[place..<place + 4]))
      let rest = String(String.UnicodeScalarView(scalars[place + 6..<place + 10]))
      if let high = UInt32(text, radix: 16), (0xD800..<0xDC00).contains(high),
        let low = UInt32(rest, radix: 16), (0xDC00..<0xE000).contains(low),
        let scalar = Unicode.Scalar(0x10000 + (high - 0xD800) << 10 + (low - 0xDC00))
      {
        place = start + 10
        return scalar
      }
    }
    return try hexadecimal(4)
  }

  private mutating func property(isNegated: Bool) throws(GrammarError) -> ScalarSet {
    guard take("{") else { throw bad("'\\p' needs '{name}'") }
    let start = place
    while let next = peek, next != "}" { place += 1 }
    let name = String(String.UnicodeScalarView(scalars[start..<place]))
    guard take("}") else { throw bad("'\\p{' without '}'") }
    guard let set = ScalarSet(generalCategory: name) else {
      throw unsupported("property \\p{\(name)}")
    }
    return isNegated ? set.complement : set
  }

  // MARK: Classes

  private mutating func characterClass() throws(GrammarError) -> ScalarSet {
    let isNegated = take("^")
    var set = ScalarSet.none
    var isFirst = true
    while true {
      guard let next = peek else { throw bad("'[' without ']'") }
      if next == "]", !isFirst || !laterBracket() { break }
      isFirst = false
      if next == "[", place + 1 < scalars.count, scalars[place + 1] == ":" {
        throw unsupported("POSIX class")
      }
      let low = try classMember()
      if peek == "-", place + 1 < scalars.count, scalars[place + 1] != "]" {
        let dash = place
        place += 1
        let high = try classMember()
        guard let first = low.single, let last = high.single else {
          place = dash
          throw bad("a class cannot be the end of a range")
        }
        guard first <= last else {
          place = dash
          throw bad("the range is out of order")
        }
        set = set.union(ScalarSet([first...last]))
      } else {
        set = set.union(low)
      }
    }
    place += 1
    return isNegated ? set.complement : set
  }

  /// Whether a `]` at the very start of a class is a member, as Python reads it: another one
  /// follows. (ECMA reads `[]` as the empty class, which matches nothing and is never meant.)
  private func laterBracket() -> Bool {
    scalars[(place + 1)...].contains("]")
  }

  private mutating func classMember() throws(GrammarError) -> ScalarSet {
    guard let scalar = peek else { throw bad("'[' without ']'") }
    place += 1
    guard scalar == "\\" else { return ScalarSet(scalar) }
    if take("b") { return ScalarSet("\u{08}") }
    return try escapedSet()
  }

  // MARK: Plumbing

  private var peek: Unicode.Scalar? { place < scalars.count ? scalars[place] : nil }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard peek == scalar else { return false }
    place += 1
    return true
  }

  private func bad(_ reason: String) -> GrammarError {
    .badPattern(path: path, pattern: pattern, offset: place, reason: reason)
  }

  private func unsupported(_ construct: String) -> GrammarError {
    .unsupported(
      path: path, construct: construct,
      reason: "the pattern '\(pattern)' must be a regular expression without it")
  }
}

extension ScalarSet {
  static func isDigit(_ scalar: Unicode.Scalar) -> Bool { (0x30...0x39).contains(scalar.value) }

  func contains(_ scalar: Unicode.Scalar) -> Bool {
    ranges.contains { $0.contains(scalar.value) }
  }

  /// The only member, when there is one.
  var single: UInt32? {
    guard ranges.count == 1, let range = ranges.first, range.lowerBound == range.upperBound else {
      return nil
    }
    return range.lowerBound
  }

  /// The scalars of a Unicode general category, by its short name (`L`, `Lu`, `Nd`, …).
  init?(generalCategory name: String) {
    let isMajor = name.unicodeScalars.count == 1
    guard let names = Self.categoryNames[name.prefix(1).description],
      isMajor || names.values.contains(name)
    else { return nil }
    let wanted = names.filter { isMajor || $0.value == name }.keys
    self.init(wanted.flatMap { Self.categoryRanges[$0] ?? [] })
  }

  /// The scalars of every category; told once, for it takes a while.
  private static let categoryRanges: [Unicode.GeneralCategory: [ClosedRange<UInt32>]] = {
    var all: [Unicode.GeneralCategory: [ClosedRange<UInt32>]] = [:]
    var start: UInt32 = 0
    var category = Unicode.Scalar(0).properties.generalCategory
    for value in UInt32(1)...0x110000 {
      let next = Unicode.Scalar(value)?.properties.generalCategory
      if next == category { continue }
      all[category, default: []].append(start...value - 1)
      start = value
      // What is no scalar counts as a surrogate, and no set keeps it.
      category = next ?? .surrogate
    }
    return all
  }()

  private static let categoryNames: [String: [Unicode.GeneralCategory: String]] = [
    "L": [
      .uppercaseLetter: "Lu", .lowercaseLetter: "Ll", .titlecaseLetter: "Lt",
      .modifierLetter: "Lm", .otherLetter: "Lo",
    ],
    "M": [.nonspacingMark: "Mn", .spacingMark: "Mc", .enclosingMark: "Me"],
    "N": [.decimalNumber: "Nd", .letterNumber: "Nl", .otherNumber: "No"],
    "P": [
      .connectorPunctuation: "Pc", .dashPunctuation: "Pd", .openPunctuation: "Ps",
      .closePunctuation: "Pe", .initialPunctuation: "Pi", .finalPunctuation: "Pf",
      .otherPunctuation: "Po",
    ],
    "S": [
      .mathSymbol: "Sm", .currencySymbol: "Sc", .modifierSymbol: "Sk", .otherSymbol: "So",
    ],
    "Z": [.spaceSeparator: "Zs", .lineSeparator: "Zl", .paragraphSeparator: "Zp"],
  ]
}
