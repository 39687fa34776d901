/// A decimal number as its digits: what a bound is compared by.
struct DecimalText: Equatable {
  var isNegative: Bool
  var whole: Int
  /// Digits after the point without zeros at the end.
  var fraction: [UInt8]

  /// Reads what JSON writes for a number; nil when its magnitude exceeds `NumberTexts.limit`.
  init?(_ text: String) {
    var body = text[...]
    isNegative = body.hasPrefix("-")
    if isNegative { body.removeFirst() }
    let parts = body.split(separator: "e")
    let exponent = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
    let mantissa = parts[0].split(separator: ".")
    var digits = mantissa.joined().utf8.map { $0 - 0x30 }
    var point = mantissa[0].utf8.count + exponent
    while point > digits.count, digits.count < 40 { digits.append(0) }
    while point < 0, digits.count < 400 {
      digits.insert(0, at: 0)
      point += 1
    }
    guard point <= 18 || digits.prefix(point - 18).allSatisfy({ $0 == 0 }),
      point <= digits.count, point >= 0
    else { return nil }
    whole = digits[..<point].reduce(0) { $0 &* 10 &+ Int($1) }
    fraction = Array(digits[point...])
    while fraction.last == 0 { fraction.removeLast() }
    if whole == 0, fraction.isEmpty { isNegative = false }
  }
}

/// The texts of numbers within bounds. Their length is bounded too, for a model must not write
/// digits for ever.
enum NumberTexts {
  /// The largest whole part: 18 digits fit every 64-bit integer.
  static let limit = 999_999_999_999_999_999
  private static let fractionLimit = 17

  private static let anyDigits = Expression.digits(0, fractionLimit)
  private static let anyFraction = Expression.optional(
    .sequence([.text("."), .digits(1, fractionLimit)]))
  private static let somethingAboveZero = Expression.sequence([
    .repeated(.text("0"), min: 0, max: fractionLimit), .byte([0x31...0x39]), anyDigits,
  ])

  /// Any integer.
  static let integer = Expression.sequence([.optional(.text("-")), magnitudes(0, limit)])

  /// Any number.
  static let number = Expression.sequence([
    integer, anyFraction,
    .optional(
      .sequence([
        .byte([0x45...0x45, 0x65...0x65]), .optional(.byte([0x2B...0x2B, 0x2D...0x2D])),
        .digits(1, 2),
      ])),
  ])

  /// Numbers with at most `count` digits after the point and no exponent.
  static func number(fractionDigits count: Int) -> Expression {
    count == 0
      ? integer
      : .sequence([integer, .optional(.sequence([.text("."), .digits(1, count)]))])
  }

  /// Integers from `low` to `high`.
  static func integers(_ low: Int, _ high: Int) -> Expression {
    guard low <= high else { return .never }
    var choices: [Expression] = []
    if low < 0 {
      let least = high < 0 ? -high : 1
      choices.append(.sequence([.text("-"), magnitudes(least, -max(low, -limit))]))
    }
    if high >= 0 { choices.append(magnitudes(max(0, low), high)) }
    return .choice(choices)
  }

  // MARK: Whole numbers

  /// Whole numbers from `low` to `high`, neither negative, without zeros in front.
  static func magnitudes(_ low: Int, _ high: Int) -> Expression {
    guard low <= high else { return .never }
    var choices: [Expression] = []
    var first = 0
    var last = 9
    while true {
      let from = max(low, first)
      let to = min(high, last)
      if from <= to { choices.append(sameLength(digits(from), digits(to))) }
      if last >= high { break }
      first = last + 1
      let (next, overflow) = last.multipliedReportingOverflow(by: 10)
      last = overflow || next > Int.max - 9 ? Int.max : next + 9
    }
    return .choice(choices)
  }

  private static func digits(_ value: Int) -> [UInt8] { String(value).utf8.map { $0 - 0x30 } }

  private static func digit(_ low: UInt8, _ high: UInt8) -> Expression {
    low <= high ? .byte([low + 0x30...high + 0x30]) : .never
  }

  private static func literal(_ digits: ArraySlice<UInt8>) -> Expression {
    .bytes(digits.map { $0 + 0x30 })
  }

  private static func sameLength(_ low: [UInt8], _ high: [UInt8]) -> Expression {
    guard let place = low.indices.first(where: { low[$0] != high[$0] }) else {
      return literal(low[...])
    }
    let rest = low.count - place - 1
    return .sequence([
      literal(low[..<place]),
      .choice([
        .sequence([digit(low[place], low[place]), rows(low[(place + 1)...], isAtLeast: true)]),
        low[place] + 1 <= high[place] - 1
          ? .sequence([digit(low[place] + 1, high[place] - 1), .digits(rest, rest)]) : .never,
        .sequence([digit(high[place], high[place]), rows(high[(place + 1)...], isAtLeast: false)]),
      ]),
    ])
  }

  /// Equally many digits that are at least, or at most, `bound`.
  private static func rows(_ bound: ArraySlice<UInt8>, isAtLeast: Bool) -> Expression {
    guard let first = bound.first else { return .empty }
    let rest = bound.count - 1
    let strict: Expression
    if isAtLeast {
      strict = first < 9 ? digit(first + 1, 9) : .never
    } else {
      strict = first > 0 ? digit(0, first - 1) : .never
    }
    return .choice([
      .sequence([strict, .digits(rest, rest)]),
      .sequence([digit(first, first), rows(bound.dropFirst(), isAtLeast: isAtLeast)]),
    ])
  }

  // MARK: Numbers with fractions

  /// Numbers that are at least `bound`, or above it.
  static func atLeast(_ bound: DecimalText, isExclusive: Bool) -> Expression {
    guard bound.isNegative else { return magnitudesAtLeast(bound, isExclusive: isExclusive) }
    return .choice([
      .sequence([magnitudes(0, limit), anyFraction]),
      .sequence([.text("-"), magnitudesAtMost(bound, isExclusive: isExclusive)]),
    ])
  }

  /// Numbers that are at most `bound`, or below it.
  static func atMost(_ bound: DecimalText, isExclusive: Bool) -> Expression {
    if bound.isNegative {
      return .sequence([.text("-"), magnitudesAtLeast(bound, isExclusive: isExclusive)])
    }
    var zero = bound
    (zero.whole, zero.fraction) = (0, [])
    return .choice([
      .sequence([.text("-"), magnitudesAtLeast(zero, isExclusive: true)]),
      magnitudesAtMost(bound, isExclusive: isExclusive),
    ])
  }

  private static func magnitudesAtLeast(_ bound: DecimalText, isExclusive: Bool) -> Expression {
    .choice([
      .sequence([
        magnitudes(bound.whole, bound.whole),
        fractionAtLeast(bound.fraction, isExclusive: isExclusive),
      ]),
      .sequence([magnitudes(bound.whole + 1, limit), anyFraction]),
    ])
  }

  private static func magnitudesAtMost(_ bound: DecimalText, isExclusive: Bool) -> Expression {
    .choice([
      .sequence([magnitudes(0, bound.whole - 1), anyFraction]),
      .sequence([
        magnitudes(bound.whole, bound.whole),
        fractionAtMost(bound.fraction, isExclusive: isExclusive),
      ]),
    ])
  }

  private static func fractionAtLeast(_ bound: [UInt8], isExclusive: Bool) -> Expression {
    if bound.isEmpty {
      return isExclusive ? .sequence([.text("."), somethingAboveZero]) : anyFraction
    }
    var choices: [Expression] = bound.indices.filter { bound[$0] < 9 }.map { place in
      .sequence([literal(bound[..<place]), digit(bound[place] + 1, 9), anyDigits])
    }
    choices.append(
      .sequence([literal(bound[...]), isExclusive ? somethingAboveZero : anyDigits]))
    return .sequence([.text("."), .choice(choices)])
  }

  private static func fractionAtMost(_ bound: [UInt8], isExclusive: Bool) -> Expression {
    let zeros = Expression.repeated(.text("0"), min: 0, max: fractionLimit)
    if bound.isEmpty {
      return isExclusive ? .never : .optional(.sequence([.text(".0"), zeros]))
    }
    var choices: [Expression] = bound.indices.filter { bound[$0] > 0 }.map { place in
      .sequence([literal(bound[..<place]), digit(0, bound[place] - 1), anyDigits])
    }
    // A beginning of the bound is below it, for its digits do not end with zeros.
    for count in bound.indices.dropFirst() { choices.append(literal(bound[..<count])) }
    if !isExclusive { choices.append(.sequence([literal(bound[...]), zeros])) }
    return .choice([.empty, .sequence([.text("."), .choice(choices)])])
  }

  // MARK: Multiples

  /// The integers that `divisor` divides, as an automaton over sign and digits.
  static func multiples(
    of divisor: Int, budget: CompileBudget, path: String
  ) throws(GrammarError) -> ByteAutomaton? {
    // State 0 is the start, 1 follows the sign, then one state per remainder.
    var classes = [UInt8](repeating: 0, count: 256)
    classes[Int(UInt8(ascii: "-"))] = 1
    for digit in 0..<10 { classes[0x30 + digit] = UInt8(2 + digit) }
    var table = [Int32](repeating: -1, count: (divisor + 2) * 12)
    table[1] = 1
    for digit in 0..<10 {
      table[2 + digit] = Int32(2 + digit % divisor)
      table[12 + 2 + digit] = Int32(2 + digit % divisor)
      for remainder in 0..<divisor {
        table[(2 + remainder) * 12 + 2 + digit] = Int32(2 + (remainder * 10 + digit) % divisor)
      }
    }
    let accepting = (0..<divisor + 2).map { $0 == 2 }
    return try AutomatonDraft(
      classes: classes, classCount: 12, table: table, accepting: accepting
    ).trimmed(budget: budget, path: path)
  }
}
