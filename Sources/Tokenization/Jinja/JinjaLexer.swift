/// Cuts a template's source into tokens, with `trim_blocks` and `lstrip_blocks` on as transformers
/// sets them: a line break right after a block or comment tag vanishes, and so does white space
/// between the start of a line and such a tag. A `-` beside a tag strips all white space on that
/// side, a `+` switches the automatic stripping off.
struct JinjaLexer {
  private let source: [Unicode.Scalar]
  private var position = 0
  private var line = 1
  private var tokens: [JinjaToken] = []
  /// Whether the text to come starts a line, for `lstrip_blocks`.
  private var isLineStart = true

  private enum Tag {
    case block
    case variable
    case comment
    case raw
  }

  /// The tokens of `source`, ended by `.end`.
  static func tokens(of source: String) throws(TemplateError) -> [JinjaToken] {
    var lexer = JinjaLexer(source)
    while lexer.position < lexer.source.count { try lexer.lexData() }
    lexer.append(.end)
    return lexer.tokens
  }

  private init(_ text: String) {
    var scalars: [Unicode.Scalar] = []
    for scalar in text.unicodeScalars {
      // All line breaks become "\n", as Jinja reads them.
      if scalar == "\n", scalars.last == "\r" { scalars.removeLast() }
      if scalar != "\n", scalars.last == "\r" { scalars[scalars.count - 1] = "\n" }
      scalars.append(scalar)
    }
    if scalars.last == "\r" { scalars[scalars.count - 1] = "\n" }
    // One line break at the end belongs to the file, not to the text.
    if scalars.last == "\n" { scalars.removeLast() }
    source = scalars
  }

  private mutating func append(_ kind: JinjaToken.Kind) {
    tokens.append(JinjaToken(kind: kind, line: line))
  }

  // MARK: Text

  private func starts(with text: String, at place: Int) -> Bool {
    source[min(place, source.count)...].starts(with: text.unicodeScalars)
  }

  private mutating func advance(to place: Int) {
    for index in position..<place where source[index] == "\n" { line += 1 }
    isLineStart = place > 0 && source[place - 1] == "\n"
    position = place
  }

  private func skippingSpace(from place: Int) -> Int {
    var place = place
    while place < source.count, source[place].isPythonSpace { place += 1 }
    return place
  }

  /// Reads text up to the next tag, and the tag's opening or, for comments and raw text, all of it.
  private mutating func lexData() throws(TemplateError) {
    var start = position
    while start < source.count, !isTagStart(start) { start += 1 }
    let text = source[position..<start]
    guard start < source.count else {
      appendData(text)
      advance(to: start)
      return
    }
    let sign = start + 2 < source.count ? source[start + 2] : " "
    let hasSign = sign == "-" || sign == "+"
    let inner = start + 2 + (hasSign ? 1 : 0)
    let tag = tagKind(start, inner)
    appendData(stripped(text, before: tag, sign: sign))
    advance(to: inner)
    switch tag {
    case .comment: try skipComment()
    case .raw: try lexRaw()
    case .block:
      append(.blockBegin)
      try lexTag(isBlock: true)
    case .variable:
      append(.variableBegin)
      try lexTag(isBlock: false)
    }
  }

  private func isTagStart(_ place: Int) -> Bool {
    guard source[place] == "{", place + 1 < source.count else { return false }
    return ["{", "%", "#"].contains(source[place + 1])
  }

  private func tagKind(_ start: Int, _ inner: Int) -> Tag {
    switch source[start + 1] {
    case "{": return .variable
    case "#": return .comment
    default:
      let name = skippingSpace(from: inner)
      guard starts(with: "raw", at: name) else { return .block }
      let end = skippingSpace(from: name + 3)
      return starts(with: "%}", at: end) || starts(with: "-%}", at: end) ? .raw : .block
    }
  }

  private func stripped(
    _ text: ArraySlice<Unicode.Scalar>, before tag: Tag, sign: Unicode.Scalar
  ) -> ArraySlice<Unicode.Scalar> {
    if sign == "-" {
      let end = text.lastIndex { !$0.isPythonSpace }
      return text[text.startIndex..<(end.map { $0 + 1 } ?? text.startIndex)]
    }
    guard sign != "+", tag != .variable else { return text }
    let lineBreak = text.lastIndex(of: "\n")
    guard lineBreak != nil || isLineStart else { return text }
    let lineStart = lineBreak.map { $0 + 1 } ?? text.startIndex
    let isBlank = text[lineStart...].allSatisfy { $0.isPythonSpace }
    return isBlank ? text[..<lineStart] : text
  }

  private mutating func appendData(_ text: ArraySlice<Unicode.Scalar>) {
    guard !text.isEmpty else { return }
    var string = ""
    string.unicodeScalars.append(contentsOf: text)
    append(.data(string))
  }

  private mutating func skipComment() throws(TemplateError) {
    var place = position
    while place < source.count, !starts(with: "#}", at: place) { place += 1 }
    guard place < source.count else {
      throw .syntax(line: line, expected: "'#}'", found: "the end of the template")
    }
    let sign = place > position ? source[place - 1] : " "
    advance(to: endOfTag(place + 2, sign: sign))
  }

  /// Where text goes on after a tag that ends at `place`, whose closing is preceded by `sign`.
  private func endOfTag(_ place: Int, sign: Unicode.Scalar) -> Int {
    if sign == "-" { return skippingSpace(from: place) }
    if sign != "+", place < source.count, source[place] == "\n" { return place + 1 }
    return place
  }

  private mutating func lexRaw() throws(TemplateError) {
    var close = position
    while !starts(with: "%}", at: close) { close += 1 }
    // Unlike other tags this one keeps the line break that follows.
    let isStripping = source[close - 1] == "-"
    advance(to: isStripping ? skippingSpace(from: close + 2) : close + 2)
    // A template that ends right here is whole to Jinja.
    if position == source.count { return }
    var place = position
    while place < source.count {
      guard starts(with: "{%", at: place) else {
        place += 1
        continue
      }
      let sign = place + 2 < source.count ? source[place + 2] : " "
      let inner = place + 2 + (sign == "-" || sign == "+" ? 1 : 0)
      let name = skippingSpace(from: inner)
      let end = skippingSpace(from: name + 7)
      let closing = ["-%}", "+%}", "%}"].first { starts(with: $0, at: end) }
      if starts(with: "endraw", at: name), let closing {
        let last = skippingSpace(from: name + 6)
        if last == end || starts(with: closing, at: last) {
          finishRaw(text: position..<place, tagSign: sign, closing: closing, at: last)
          return
        }
      }
      place += 1
    }
    throw .syntax(line: line, expected: "'{% endraw %}'", found: "the end of the template")
  }

  private mutating func finishRaw(
    text: Range<Int>, tagSign: Unicode.Scalar, closing: String, at place: Int
  ) {
    appendData(stripped(source[text], before: .raw, sign: tagSign))
    let end = place + closing.unicodeScalars.count
    advance(to: endOfTag(end, sign: closing.unicodeScalars.first ?? " "))
  }

  // MARK: Tags

  private mutating func lexTag(isBlock: Bool) throws(TemplateError) {
    let close = isBlock ? "%}" : "}}"
    var brackets: [Unicode.Scalar] = []
    while position < source.count {
      let scalar = source[position]
      if scalar.isPythonSpace {
        advance(to: position + 1)
        continue
      }
      if brackets.isEmpty, let length = closingLength(close, isBlock: isBlock) {
        let sign = source[position]
        append(isBlock ? .blockEnd : .variableEnd)
        let end = position + length
        advance(
          to: isBlock ? endOfTag(end, sign: sign) : sign == "-" ? skippingSpace(from: end) : end)
        return
      }
      if scalar == "\"" || scalar == "'" {
        try lexString(scalar)
      } else if ("0"..."9").contains(scalar) {
        try lexNumber()
      } else if scalar == "_" || scalar.properties.isXIDStart {
        lexName()
      } else {
        try lexSymbol(&brackets)
      }
    }
    throw .syntax(line: line, expected: "'\(close)'", found: "the end of the template")
  }

  private func closingLength(_ close: String, isBlock: Bool) -> Int? {
    if starts(with: close, at: position) { return 2 }
    if starts(with: "-" + close, at: position) { return 3 }
    return isBlock && starts(with: "+" + close, at: position) ? 3 : nil
  }

  private mutating func lexName() {
    var end = position
    while end < source.count, source[end] == "_" || source[end].properties.isXIDContinue {
      end += 1
    }
    var name = ""
    name.unicodeScalars.append(contentsOf: source[position..<end])
    append(.name(name))
    advance(to: end)
  }

  private mutating func lexSymbol(_ brackets: inout [Unicode.Scalar]) throws(TemplateError) {
    let symbols = [
      "**", "//", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{",
      "}", "<", ">", "=", ".", ":", "|", ",", ";",
    ]
    guard let symbol = symbols.first(where: { starts(with: $0, at: position) }) else {
      throw .syntax(line: line, expected: "an expression", found: "'\(source[position])'")
    }
    switch symbol {
    case "(": brackets.append(")")
    case "[": brackets.append("]")
    case "{": brackets.append("}")
    case ")", "]", "}":
      guard let expected = brackets.popLast(), String(expected) == symbol else {
        throw .syntax(line: line, expected: "a matching bracket", found: "'\(symbol)'")
      }
    default: break
    }
    append(.symbol(symbol))
    advance(to: position + symbol.unicodeScalars.count)
  }

  private mutating func lexNumber() throws(TemplateError) {
    let start = position
    var end = position
    let isPrefixed =
      source[start] == "0" && start + 1 < source.count
      && ["x", "X", "b", "B", "o", "O"].contains(source[start + 1])
    func skipDigits() {
      while end < source.count, ("0"..."9").contains(source[end]) || source[end] == "_" { end += 1 }
    }
    if isPrefixed {
      end += 2
      while end < source.count, source[end].properties.isXIDContinue { end += 1 }
      return try appendPrefixedInteger(start..<end)
    }
    skipDigits()
    var isFloat = false
    if end + 1 < source.count, source[end] == ".", ("0"..."9").contains(source[end + 1]) {
      isFloat = true
      end += 1
      skipDigits()
    }
    if end < source.count, source[end] == "e" || source[end] == "E" {
      var exponent = end + 1
      if exponent < source.count, ["+", "-"].contains(source[exponent]) { exponent += 1 }
      if exponent < source.count, ("0"..."9").contains(source[exponent]) {
        isFloat = true
        end = exponent
        skipDigits()
      }
    }
    let text = digits(start..<end)
    if isFloat, let value = Double(text) {
      append(.float(value))
    } else if !isFloat, let value = Int(text) {
      append(.integer(value))
    } else {
      throw .syntax(line: line, expected: "a number within range", found: text)
    }
    advance(to: end)
  }

  private func digits(_ range: Range<Int>) -> String {
    var text = ""
    text.unicodeScalars.append(contentsOf: source[range].filter { $0 != "_" })
    return text
  }

  private mutating func appendPrefixedInteger(_ range: Range<Int>) throws(TemplateError) {
    let text = digits(range)
    let radix = text.lowercased().hasPrefix("0x") ? 16 : text.lowercased().hasPrefix("0b") ? 2 : 8
    guard let value = Int(text.dropFirst(2), radix: radix) else {
      throw .syntax(line: line, expected: "a number", found: text)
    }
    append(.integer(value))
    advance(to: range.upperBound)
  }

  /// Reads a string literal with Python's escapes; unknown escapes keep their backslash.
  private mutating func lexString(_ quote: Unicode.Scalar) throws(TemplateError) {
    var result = String.UnicodeScalarView()
    var place = position + 1
    while true {
      guard place < source.count else {
        throw .syntax(
          line: line, expected: "the end of the string", found: "the end of the template")
      }
      let scalar = source[place]
      place += 1
      if scalar == quote { break }
      guard scalar == "\\", place < source.count else {
        result.append(scalar)
        continue
      }
      let letter = source[place]
      place += 1
      if let plain = Self.plainEscapes[letter] {
        result.append(contentsOf: plain.unicodeScalars)
      } else if let count = ["x": 2, "u": 4, "U": 8][letter] {
        result.append(try scalarEscape(&place, count: count))
      } else if ("0"..."7").contains(letter) {
        result.append(octalEscape(letter, &place))
      } else if letter == "N" {
        throw .unsupported(line: line, construct: "the escape \\N in a string")
      } else {
        result.append("\\")
        result.append(letter)
      }
    }
    append(.string(String(result)))
    advance(to: place)
  }

  private static let plainEscapes: [Unicode.Scalar: String] = [
    "n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", "\"": "\"", "a": "\u{7}", "b": "\u{8}",
    "f": "\u{C}", "v": "\u{B}", "\n": "",
  ]

  private func scalarEscape(
    _ place: inout Int, count: Int
  ) throws(TemplateError) -> Unicode.Scalar {
    let end = min(place + count, source.count)
    var text = ""
    text.unicodeScalars.append(contentsOf: source[place..<end])
    guard end == place + count, let value = UInt32(text, radix: 16),
      let scalar = Unicode.Scalar(value)
    else { throw .syntax(line: line, expected: "\(count) hexadecimal digits", found: "'\(text)'") }
    place = end
    return scalar
  }

  private func octalEscape(_ first: Unicode.Scalar, _ place: inout Int) -> Unicode.Scalar {
    var value = first.value - 48
    var count = 1
    while count < 3, place < source.count, ("0"..."7").contains(source[place]) {
      value = value * 8 + source[place].value - 48
      place += 1
      count += 1
    }
    // At most 0o777, which is a scalar.
    return Unicode.Scalar(value) ?? "\u{FFFD}"
  }
}
