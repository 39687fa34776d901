/// Takes the arguments of a filter, function or method apart by place and by name.
struct JinjaArgumentReader {
  let name: String
  let line: Int
  private var positional: [JinjaValue]
  private var named: [(name: String, value: JinjaValue)]
  private var place = 0

  init(_ name: String, _ arguments: JinjaCallArguments, line: Int) {
    self.name = name
    self.line = line
    positional = arguments.positional
    named = arguments.named
  }

  func problem(_ text: String) -> TemplateError {
    .badArguments(line: line, function: name, problem: text)
  }

  /// The next argument: the one at the next place, or else the one called `name`.
  mutating func next(_ name: String) -> JinjaValue? {
    if place < positional.count {
      place += 1
      return positional[place - 1]
    }
    guard let index = named.firstIndex(where: { $0.name == name }) else { return nil }
    return named.remove(at: index).value
  }

  mutating func required(_ name: String) throws(TemplateError) -> JinjaValue {
    guard let value = next(name) else { throw problem("'\(name)' is missing") }
    return value
  }

  mutating func string(_ name: String, default fallback: String? = nil) throws(TemplateError)
    -> String
  {
    guard let value = next(name) else {
      guard let fallback else { throw problem("'\(name)' is missing") }
      return fallback
    }
    guard case .string(let text) = value else { throw problem("'\(name)' must be a string") }
    return text
  }

  mutating func optionalString(_ name: String) throws(TemplateError) -> String? {
    guard let value = next(name) else { return nil }
    if case .none = value { return nil }
    guard case .string(let text) = value else { throw problem("'\(name)' must be a string") }
    return text
  }

  mutating func integer(_ name: String, default fallback: Int) throws(TemplateError) -> Int {
    guard let value = next(name) else { return fallback }
    guard let number = value.integer else { throw problem("'\(name)' must be an integer") }
    return number
  }

  mutating func flag(_ name: String, default fallback: Bool) -> Bool {
    next(name).map(\.isTrue) ?? fallback
  }

  /// Everything left: for functions that take any arguments.
  mutating func rest() -> (positional: [JinjaValue], named: [(name: String, value: JinjaValue)]) {
    defer {
      place = positional.count
      named = []
    }
    return (Array(positional[place...]), named)
  }

  /// Refuses arguments that nobody asked for.
  func finish() throws(TemplateError) {
    if place < positional.count { throw problem("takes at most \(place) arguments") }
    if let first = named.first { throw problem("takes no argument '\(first.name)'") }
  }
}
