/// Python's methods of `str`, which work scalar by scalar.
struct JinjaStringMethods {
  let text: String
  let line: Int
  let interpreter: JinjaInterpreter

  /// The value of `text.name(arguments)`.
  func call(_ name: String, _ given: JinjaArgumentReader) throws(TemplateError) -> JinjaValue {
    var arguments = given
    var value = try simple(name, &arguments)
    if case nil = value { value = try searching(name, &arguments) }
    if case nil = value { value = try splitting(name, &arguments) }
    if let value {
      try arguments.finish()
      return value
    }
    switch name {
    case "join":
      var parts: [String] = []
      for item in try interpreter.items(of: try arguments.required("iterable")) {
        guard case .string(let part) = item else {
          throw .wrongKind(line: line, operation: "join", kind: item.kind)
        }
        parts.append(part)
      }
      return .string(parts.joined(separator: text))
    case "format":
      let (positional, named) = arguments.rest()
      return .string(try JinjaFormat(line: line).braces(text, positional, named))
    case "center", "ljust", "rjust", "zfill": return .string(try padded(name, &arguments))
    default: throw .unsupported(line: line, construct: "the string method \(name)")
    }
  }

  private func simple(
    _ name: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue? {
    switch name {
    case "upper": return .string(text.uppercased())
    case "lower": return .string(text.lowercased())
    case "casefold": return .string(Self.foldingCase(text))
    case "capitalize": return .string(Self.capitalized(text))
    case "title": return .string(title)
    case "swapcase": return .string(swappingCase)
    case "strip", "lstrip", "rstrip":
      let set = try arguments.optionalString("chars")
      return .string(
        text.strippingScalars(set, left: name != "rstrip", right: name != "lstrip"))
    case "replace":
      let old = try arguments.string("old")
      let new = try arguments.string("new")
      let count = try arguments.integer("count", default: -1)
      return .string(text.replacingScalars(old, with: new, limit: count < 0 ? .max : count))
    case "removeprefix":
      let prefix = try arguments.string("prefix")
      let isThere = text.utf8.starts(with: prefix.utf8)
      return .string(isThere ? String(text.unicodeScalars.dropFirst(prefix.scalarCount)) : text)
    case "removesuffix":
      let suffix = try arguments.string("suffix")
      let isThere = !suffix.isEmpty && text.utf8.reversed().starts(with: suffix.utf8.reversed())
      return .string(isThere ? String(text.unicodeScalars.dropLast(suffix.scalarCount)) : text)
    case "expandtabs":
      return .string(expandingTabs(try arguments.integer("tabsize", default: 8)))
    default: return classification(name).map { .boolean($0) }
    }
  }

  // MARK: Classes of characters

  private func classification(_ name: String) -> Bool? {
    let scalars = text.unicodeScalars
    func all(_ test: (Unicode.Scalar) -> Bool) -> Bool { !text.isEmpty && scalars.allSatisfy(test) }
    switch name {
    case "isascii": return scalars.allSatisfy(\.isASCII)
    case "isspace": return all(\.isPythonSpace)
    case "isalpha": return all(Self.isLetter)
    case "isdecimal": return all { $0.properties.generalCategory == .decimalNumber }
    case "isdigit":
      return all { $0.properties.numericType == .decimal || $0.properties.numericType == .digit }
    case "isnumeric": return all { $0.properties.numericType != nil }
    case "isalnum": return all { Self.isLetter($0) || $0.properties.numericType != nil }
    case "islower": return hasCase { $0.properties.isLowercase }
    case "isupper": return hasCase { $0.properties.isUppercase }
    case "istitle": return hasCase { _ in true } && text.isIdentical(to: title)
    default: return nil
    }
  }

  private static func isLetter(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      return true
    default: return false
    }
  }

  /// Whether there are cased letters, and all of them pass.
  private func hasCase(_ test: (Unicode.Scalar) -> Bool) -> Bool {
    let cased = text.unicodeScalars.filter(\.properties.isCased)
    return !cased.isEmpty && cased.allSatisfy(test)
  }

  /// Python's `casefold` as far as lower case of upper case gives it.
  static func foldingCase(_ text: String) -> String { text.uppercased().lowercased() }

  /// The first letter large, all others small.
  static func capitalized(_ text: String) -> String {
    guard let first = text.unicodeScalars.first else { return text }
    return first.properties.titlecaseMapping
      + String(text.unicodeScalars.dropFirst()).lowercased()
  }

  /// Every letter after a non-letter large, the others small.
  private var title: String {
    var result = ""
    var isAfterLetter = false
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      result += isAfterLetter ? properties.lowercaseMapping : properties.titlecaseMapping
      isAfterLetter = properties.isCased
    }
    return result
  }

  private var swappingCase: String {
    var result = ""
    for scalar in text.unicodeScalars {
      let properties = scalar.properties
      result += properties.isUppercase ? properties.lowercaseMapping : properties.uppercaseMapping
    }
    return result
  }

  private func expandingTabs(_ size: Int) -> String {
    var result = ""
    var column = 0
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\t":
        let count = size > 0 ? size - column % size : 0
        result += String(repeating: " ", count: count)
        column += count
      case "\n", "\r":
        result.unicodeScalars.append(scalar)
        column = 0
      default:
        result.unicodeScalars.append(scalar)
        column += 1
      }
    }
    return result
  }

  // MARK: Searching

  private func searching(
    _ name: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue? {
    switch name {
    case "startswith", "endswith":
      let value = try arguments.required("prefix")
      let candidates = value.elements ?? [value]
      let part = try window(&arguments)
      for candidate in candidates {
        guard case .string(let fix) = candidate else {
          throw arguments.problem("the prefix must be a string or a tuple of strings")
        }
        let isThere =
          name == "startswith"
          ? part.utf8.starts(with: fix.utf8)
          : part.utf8.reversed().starts(with: fix.utf8.reversed())
        if isThere { return .boolean(true) }
      }
      return .boolean(false)
    case "find", "rfind", "index", "rindex":
      let part = try arguments.string("sub")
      let place = position(of: part, fromRight: name.hasPrefix("r"))
      if place == nil, name.hasSuffix("index") {
        throw .impossible(line: line, operation: "substring not found")
      }
      return .integer(place ?? -1)
    case "count":
      let part = try arguments.string("sub")
      if part.isEmpty { return .integer(text.scalarCount + 1) }
      return .integer(text.pieces(separatedBy: part).count - 1)
    default: return nil
    }
  }

  /// The part of the text between the optional arguments `start` and `end`.
  private func window(_ arguments: inout JinjaArgumentReader) throws(TemplateError) -> String {
    let start = try arguments.integer("start", default: 0)
    let end = try arguments.integer("end", default: .max)
    if start == 0, end == .max { return text }
    let scalars = Array(text.unicodeScalars)
    func place(_ bound: Int) -> Int {
      min(max(bound < 0 ? bound + scalars.count : bound, 0), scalars.count)
    }
    var result = ""
    if place(start) < place(end) {
      result.unicodeScalars.append(contentsOf: scalars[place(start)..<place(end)])
    }
    return result
  }

  private func position(of part: String, fromRight: Bool) -> Int? {
    var found: Range<String.Index>?
    var start = text.startIndex
    while let range = text.scalarRange(of: part, from: start) {
      found = range
      guard fromRight, range.lowerBound < text.endIndex else { break }
      start = text.unicodeScalars.index(after: range.lowerBound)
    }
    return found.map { text.unicodeScalars[..<$0.lowerBound].count }
  }

  // MARK: Splitting

  private func splitting(
    _ name: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> JinjaValue? {
    func list(_ parts: [String]) -> JinjaValue { .list(parts.map { .string($0) }) }
    switch name {
    case "split", "rsplit":
      let separator = try arguments.optionalString("sep")
      let count = try arguments.integer("maxsplit", default: -1)
      let limit = count < 0 ? Int.max : count
      guard let separator else {
        guard name == "rsplit", limit != .max else { return list(text.words(limit: limit)) }
        let reversed = String(String.UnicodeScalarView(text.unicodeScalars.reversed()))
        return list(
          reversed.words(limit: limit).reversed().map {
            String(String.UnicodeScalarView($0.unicodeScalars.reversed()))
          })
      }
      guard !separator.isEmpty else { throw arguments.problem("the separator is empty") }
      if name == "split" { return list(text.pieces(separatedBy: separator, limit: limit)) }
      let pieces = text.pieces(separatedBy: separator)
      let first = max(pieces.count - 1 - min(limit, pieces.count), 0)
      return list(
        [pieces[...first].joined(separator: separator)] + Array(pieces[(first + 1)...]))
    case "splitlines":
      return list(Self.lines(of: text, keepingEnds: arguments.flag("keepends", default: false)))
    case "partition", "rpartition":
      let separator = try arguments.string("sep")
      let pieces = text.pieces(separatedBy: separator)
      guard pieces.count > 1, !separator.isEmpty else {
        let parts = name == "partition" ? [text, "", ""] : ["", "", text]
        return .tuple(parts.map { .string($0) })
      }
      let cut = name == "partition" ? 1 : pieces.count - 1
      let parts = [pieces[..<cut], pieces[cut...]].map { $0.joined(separator: separator) }
      return .tuple([.string(parts[0]), .string(separator), .string(parts[1])])
    default: return nil
    }
  }

  /// Python's `splitlines`.
  static func lines(of text: String, keepingEnds: Bool = false) -> [String] {
    let breaks: Set<Unicode.Scalar> = [
      "\n", "\r", "\u{B}", "\u{C}", "\u{1C}", "\u{1D}", "\u{1E}", "\u{85}", "\u{2028}", "\u{2029}",
    ]
    var result: [String] = []
    var current = String.UnicodeScalarView()
    var previous: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      if scalar == "\n", previous == "\r" {
        if keepingEnds { result[result.count - 1].unicodeScalars.append(scalar) }
      } else if breaks.contains(scalar) {
        if keepingEnds { current.append(scalar) }
        result.append(String(current))
        current = String.UnicodeScalarView()
      } else {
        current.append(scalar)
      }
      previous = scalar
    }
    if !current.isEmpty { result.append(String(current)) }
    return result
  }

  // MARK: Padding

  private func padded(
    _ name: String, _ arguments: inout JinjaArgumentReader
  ) throws(TemplateError) -> String {
    let width = min(try arguments.integer("width", default: 0), 1 << 20)
    let fill = name == "zfill" ? "0" : try arguments.string("fillchar", default: " ")
    try arguments.finish()
    let missing = max(width - text.scalarCount, 0)
    func filling(_ count: Int) -> String { String(repeating: fill, count: count) }
    switch name {
    case "ljust": return text + filling(missing)
    case "rjust": return filling(missing) + text
    case "zfill":
      guard let sign = text.unicodeScalars.first, sign == "-" || sign == "+" else {
        return filling(missing) + text
      }
      return String(Character(sign)) + filling(missing) + String(text.unicodeScalars.dropFirst())
    default: return Self.centered(text, width: width, fill: fill)
    }
  }

  /// Python's `center`: an odd space goes left when the width is odd.
  static func centered(_ text: String, width: Int, fill: String = " ") -> String {
    let missing = max(width - text.scalarCount, 0)
    let left = missing / 2 + (missing & width & 1)
    return String(repeating: fill, count: left) + text
      + String(repeating: fill, count: missing - left)
  }
}
