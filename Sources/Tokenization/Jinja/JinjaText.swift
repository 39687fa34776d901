internal import JSONScanning

extension Unicode.Scalar {
  /// White space to Python's `str`: Unicode's, and the four separators of ASCII.
  var isPythonSpace: Bool { properties.isWhitespace || (0x1C...0x1F).contains(value) }

  /// Whether Python's `repr` shows it as it is.
  fileprivate var isPythonPrintable: Bool {
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
      .paragraphSeparator:
      return false
    case .spaceSeparator: return self == " "
    default: return true
    }
  }
}

extension JinjaValue {
  /// Python's `str()`, which is what `{{ }}` prints.
  var text: String {
    switch self {
    case .undefined: return ""
    case .string(let value): return value
    default: return representation
    }
  }

  /// Python's `repr()`.
  var representation: String {
    switch self {
    case .undefined: return "Undefined"
    case .none: return "None"
    case .boolean(let value): return value ? "True" : "False"
    case .integer(let value): return String(value)
    case .float(let value):
      if value.isFinite { return value.jsonText }
      return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf"
    case .string(let value): return value.pythonRepresentation
    case .list(let elements):
      return "[" + elements.map(\.representation).joined(separator: ", ") + "]"
    case .tuple(let elements):
      let inner = elements.map(\.representation).joined(separator: ", ")
      return elements.count == 1 ? "(\(inner),)" : "(\(inner))"
    case .mapping(let mapping):
      let members = mapping.entries.map { "\($0.key.representation): \($0.value.representation)" }
      return "{" + members.joined(separator: ", ") + "}"
    case .namespace(let namespace):
      return "<Namespace \(JinjaValue.mapping(namespace.members).representation)>"
    case .macro(let macro): return "<Macro '\(macro.definition.name)'>"
    case .function(let name), .method(_, let name): return "<function \(name)>"
    case .loop(let loop): return "<LoopContext \(loop.index + 1)/\(loop.items.count)>"
    case .cycler: return "<Cycler>"
    case .joiner: return "<Joiner>"
    }
  }

  /// The value as JSON; nil when JSON cannot hold it.
  var json: JSONValue? {
    switch self {
    case .none: return .null
    case .boolean(let value): return .boolean(value)
    case .integer(let value): return .integer(value)
    case .float(let value): return .number(value)
    case .string(let value): return .string(value)
    case .list(let elements), .tuple(let elements):
      var result: [JSONValue] = []
      for element in elements {
        guard let json = element.json else { return nil }
        result.append(json)
      }
      return .array(result)
    case .mapping(let mapping):
      var object = JSONObject()
      for (key, value) in mapping.entries {
        guard let name = key.jsonKey, let json = value.json else { return nil }
        object[name] = json
      }
      return .object(object)
    default: return nil
    }
  }

  /// How `json.dumps` spells a key.
  private var jsonKey: String? {
    switch self {
    case .string(let value): return value
    case .none: return "null"
    case .boolean(let value): return value ? "true" : "false"
    case .integer(let value): return String(value)
    case .float(let value): return value.jsonText
    default: return nil
    }
  }
}

extension String {
  /// Python's `repr` of a string.
  fileprivate var pythonRepresentation: String {
    let quote: Unicode.Scalar =
      unicodeScalars.contains("'") && !unicodeScalars.contains("\"") ? "\"" : "'"
    var result = String.UnicodeScalarView()
    result.append(quote)
    for scalar in unicodeScalars {
      switch scalar {
      case "\\", quote: result.append(contentsOf: ["\\", scalar])
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case _ where scalar.isPythonPrintable: result.append(scalar)
      default:
        let digits = String(scalar.value, radix: 16)
        let (letter, width) =
          scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
        let zeros = String(repeating: "0", count: width - digits.utf8.count)
        result.append(contentsOf: "\\\(letter)\(zeros)\(digits)".unicodeScalars)
      }
    }
    result.append(quote)
    return String(result)
  }

  /// The number of scalars, which is Python's `len`.
  var scalarCount: Int { unicodeScalars.count }

  /// Each scalar as a string of its own.
  var scalarStrings: [String] { unicodeScalars.map { String(Character($0)) } }

  /// Where `part` first occurs, compared scalar by scalar.
  func scalarRange(of part: String, from start: String.Index? = nil) -> Range<String.Index>? {
    let start = start ?? startIndex
    guard let first = part.utf8.first else { return start..<start }
    let count = part.utf8.count
    var place = start
    while let candidate = utf8[place...].firstIndex(of: first) {
      guard let end = utf8.index(candidate, offsetBy: count, limitedBy: endIndex) else {
        return nil
      }
      if utf8[candidate..<end].elementsEqual(part.utf8) { return candidate..<end }
      place = utf8.index(after: candidate)
    }
    return nil
  }

  /// The pieces between occurrences of `separator`, at most `limit` cuts from the left.
  func pieces(separatedBy separator: String, limit: Int = .max) -> [String] {
    var result: [String] = []
    var place = startIndex
    while result.count < limit, let range = scalarRange(of: separator, from: place) {
      result.append(String(self[place..<range.lowerBound]))
      place = range.upperBound
    }
    result.append(String(self[place...]))
    return result
  }

  /// All occurrences of `part` replaced, at most `limit`; an empty part stands between scalars.
  func replacingScalars(_ part: String, with replacement: String, limit: Int = .max) -> String {
    guard part.isEmpty else {
      return pieces(separatedBy: part, limit: limit).joined(separator: replacement)
    }
    var result = ""
    var count = 0
    for scalar in unicodeScalars {
      if count < limit { result += replacement }
      count += 1
      result.unicodeScalars.append(scalar)
    }
    return count < limit ? result + replacement : result
  }

  /// Without the scalars of `set` (white space when nil) at the chosen ends.
  func strippingScalars(_ set: String?, left: Bool = true, right: Bool = true) -> String {
    let members = set.map { Set($0.unicodeScalars) }
    func isStripped(_ scalar: Unicode.Scalar) -> Bool {
      members.map { $0.contains(scalar) } ?? scalar.isPythonSpace
    }
    var scalars = unicodeScalars[...]
    if left { scalars = scalars.drop(while: isStripped) }
    if right { while let last = scalars.last, isStripped(last) { scalars.removeLast() } }
    return String(scalars)
  }

  /// The words between runs of white space, as `str.split()` gives them.
  func words(limit: Int = .max) -> [String] {
    var result: [String] = []
    var rest = unicodeScalars[...].drop(while: \.isPythonSpace)
    while !rest.isEmpty {
      if result.count == limit {
        result.append(String(rest).strippingScalars(nil, left: false))
        break
      }
      let word = rest.prefix { !$0.isPythonSpace }
      result.append(String(word))
      rest = rest[word.endIndex...].drop(while: \.isPythonSpace)
    }
    return result
  }
}
