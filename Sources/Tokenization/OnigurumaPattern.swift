/// Rewrites a pattern of Oniguruma's syntax, which tokenizer.json uses, into PCRE2's.
///
/// Most of the two syntaxes is the same. What is spelled alike but means something else is
/// rewritten (`\s`, `\h`, `\v`, `^`, `$`, Unicode classes with PCRE2's older tables); what cannot
/// be carried over is refused by name rather than matched differently.
struct OnigurumaPattern {
  private let source: String
  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var output = ""

  /// The same pattern in PCRE2's syntax.
  static func translated(_ pattern: String) throws(TokenizerError) -> String {
    var translation = OnigurumaPattern(pattern)
    while translation.position < translation.scalars.count { try translation.translateOne() }
    return translation.output
  }

  /// A pattern that matches `text` literally.
  static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars { result += hexadecimal(scalar.value) }
    return result
  }

  private init(_ pattern: String) {
    source = pattern
    scalars = Array(pattern.unicodeScalars)
  }

  private func refusal(_ construct: String) -> TokenizerError {
    .unsupportedPattern(pattern: source, construct: construct)
  }

  private mutating func next() throws(TokenizerError) -> Unicode.Scalar {
    guard position < scalars.count else { throw refusal("an unfinished construct") }
    defer { position += 1 }
    return scalars[position]
  }

  private func starts(with text: String) -> Bool {
    scalars[position...].starts(with: text.unicodeScalars)
  }

  // MARK: Outside classes

  private mutating func translateOne() throws(TokenizerError) {
    let scalar = try next()
    switch scalar {
    case "\\": try translateEscape()
    case "[": try translateClass()
    case "(": try translateGroup()
    case "{": try translateInterval()
    case ".": output += "[^\\n]"
    case "^": output += "(?m:^)"
    case "$": output += "(?m:$)"
    default: output.unicodeScalars.append(scalar)
    }
  }

  private mutating func translateGroup() throws(TokenizerError) {
    guard starts(with: "?") else {
      output += "("
      return
    }
    let prefixes = ["?:", "?=", "?!", "?<=", "?<!", "?>", "?i:", "?-i:", "?i)"]
    guard let prefix = prefixes.first(where: { starts(with: $0) }) else {
      let end = min(position + 3, scalars.count)
      var text = "("
      text.unicodeScalars.append(contentsOf: scalars[position..<end])
      throw refusal("the group \(text)")
    }
    output += "(" + prefix
    position += prefix.unicodeScalars.count
  }

  /// `{n}`, `{n,}`, `{n,m}`, and `{,m}`, which PCRE2 10.42 would take literally.
  private mutating func translateInterval() throws(TokenizerError) {
    guard let close = scalars[position...].firstIndex(of: "}") else {
      output += "\\{"
      return
    }
    let body = scalars[position..<close]
    let parts = body.split(separator: ",", omittingEmptySubsequences: false)
    let areDigits = body.allSatisfy { ("0"..."9").contains($0) || $0 == "," }
    guard areDigits, parts.count <= 2, body.contains(where: { $0 != "," }) else {
      output += "\\{"
      return
    }
    if close + 1 < scalars.count, scalars[close + 1] == "+" || scalars[close + 1] == "?" {
      // Oniguruma repeats the interval, or makes it optional; PCRE2 makes it possessive or lazy.
      guard scalars[close + 1] == "?", parts.count == 2 else {
        throw refusal("an interval followed by \(scalars[close + 1])")
      }
    }
    output += "{"
    if parts[0].isEmpty { output += "0" }
    output.unicodeScalars.append(contentsOf: body)
    output += "}"
    position = close + 1
  }

  private mutating func translateEscape() throws(TokenizerError) {
    let letter = try next()
    switch letter {
    case "p", "P":
      let (ranges, isNegated) = try readProperty(isUpperCase: letter == "P")
      output += (isNegated ? "[^" : "[") + ranges + "]"
    case "s": output += "[" + Self.spaces + "]"
    case "S": output += "[^" + Self.spaces + "]"
    case "d": output += "[" + (try categoryRanges("Nd")) + "]"
    case "D": output += "[^" + (try categoryRanges("Nd")) + "]"
    case "h": output += "[0-9a-fA-F]"
    case "H": output += "[^0-9a-fA-F]"
    case "R": output += "(?>\\r\\n|[\\n-\\r\\x{85}\\x{2028}\\x{2029}])"
    case "A", "z": output += "\\" + String(letter)
    default: output += Self.hexadecimal(try characterEscape(letter))
    }
  }

  // MARK: Classes

  private mutating func translateClass() throws(TokenizerError) {
    output += "["
    if starts(with: "^") {
      position += 1
      output += "^"
    }
    if starts(with: "]") { throw refusal("a class that begins with ]") }
    while true {
      if starts(with: "&&") { throw refusal("an intersection of classes (&&)") }
      let scalar = try next()
      switch scalar {
      case "]":
        output += "]"
        return
      case "[": throw refusal("a class within a class")
      case "\\": try translateClassEscape()
      case "-": output += "-"
      default: output += Self.hexadecimal(scalar.value)
      }
    }
  }

  private mutating func translateClassEscape() throws(TokenizerError) {
    let letter = try next()
    switch letter {
    case "p", "P":
      let (ranges, isNegated) = try readProperty(isUpperCase: letter == "P")
      if isNegated { throw refusal("a negated property within a class") }
      output += ranges
    case "s": output += Self.spaces
    case "S": output += Self.notSpaces
    case "d": output += try categoryRanges("Nd")
    case "h": output += "0-9a-fA-F"
    case "D", "H", "R", "A", "z":
      throw refusal("\\\(letter) within a class")
    default: output += Self.hexadecimal(try characterEscape(letter))
    }
  }

  /// The scalar that an escape with `letter` stands for.
  private mutating func characterEscape(
    _ letter: Unicode.Scalar
  ) throws(TokenizerError) -> UInt32 {
    switch letter {
    case "n": return 0x0A
    case "r": return 0x0D
    case "t": return 0x09
    case "f": return 0x0C
    case "v": return 0x0B
    case "a": return 0x07
    case "e": return 0x1B
    case "x":
      guard starts(with: "{") else { return try readHexadecimal(count: 2) }
      guard let close = scalars[position...].firstIndex(of: "}"), close - position <= 9 else {
        throw refusal("an unfinished \\x{")
      }
      position += 1
      let value = try readHexadecimal(count: close - position)
      position = close + 1
      return value
    case "u": return try readHexadecimal(count: 4)
    case "0"..."9", "A"..."Z", "a"..."z": throw refusal("\\\(letter)")
    default: return letter.value
    }
  }

  private mutating func readHexadecimal(count: Int) throws(TokenizerError) -> UInt32 {
    var digits = ""
    for _ in 0..<count { digits.unicodeScalars.append(try next()) }
    guard let value = UInt32(digits, radix: 16), Unicode.Scalar(value) != nil else {
      throw refusal("the code \(digits)")
    }
    return value
  }

  // MARK: Properties

  /// Reads `{Name}` or `{^Name}` after `\p` or `\P`.
  private mutating func readProperty(
    isUpperCase: Bool
  ) throws(TokenizerError) -> (ranges: String, isNegated: Bool) {
    guard try next() == "{", let close = scalars[position...].firstIndex(of: "}") else {
      throw refusal("\\p without braces")
    }
    var isNegated = isUpperCase
    if starts(with: "^") {
      position += 1
      isNegated.toggle()
    }
    var name = ""
    name.unicodeScalars.append(contentsOf: scalars[position..<close])
    position = close + 1
    if let script = UnicodeSupplement.scripts[name] { return (Self.ranges(script), isNegated) }
    return (try categoryRanges(name), isNegated)
  }

  /// The members of a general category as items of a class: PCRE2's own and the newer ones.
  private func categoryRanges(_ name: String) throws(TokenizerError) -> String {
    let groups: [String: [String]] = [
      "L": ["Lu", "Ll", "Lt", "Lm", "Lo"], "M": ["Mn", "Mc", "Me"], "N": ["Nd", "Nl", "No"],
      "P": ["Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"], "S": ["Sm", "Sc", "Sk", "So"],
      "Z": ["Zs", "Zl", "Zp"],
    ]
    // Mn lost a code point after Unicode 14, and Cn and C many: adding ranges cannot say that.
    let isKnown = groups.values.contains { $0.contains(name) } && name != "Mn"
    guard let members = groups[name] ?? (isKnown ? [name] : nil) else {
      throw refusal("the property \(name)")
    }
    let additions = members.compactMap { UnicodeSupplement.categories[$0] }
    return "\\p{\(name)}" + Self.ranges(additions.joined(separator: " "))
  }

  /// The Digits pre-tokenizer's numbers as items of a class.
  static func digitRanges() throws(TokenizerError) -> String {
    try OnigurumaPattern("").categoryRanges("N") + ranges(UnicodeSupplement.digits)
  }

  private static func ranges(_ table: String) -> String {
    var result = ""
    for word in table.split(whereSeparator: \.isWhitespace) {
      let ends = word.split(separator: "-").map { "\\x{\($0)}" }
      result += ends.joined(separator: "-")
    }
    return result
  }

  private static func hexadecimal(_ value: UInt32) -> String {
    "\\x{" + String(value, radix: 16, uppercase: true) + "}"
  }

  /// Unicode's White_Space; PCRE2's `\s` has U+180E too.
  private static let spaces =
    #"\x09-\x0D\x20\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"#
  private static let notSpaces =
    #"\x00-\x08\x0E-\x1F\x21-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}"#
    + #"\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF}"#
}
