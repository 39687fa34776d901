/// A piece of a template's source.
struct JinjaToken: Equatable, Sendable {
  enum Kind: Equatable, Sendable {
    /// Text outside all tags.
    case data(String)
    case variableBegin
    case variableEnd
    case blockBegin
    case blockEnd
    case name(String)
    case string(String)
    case integer(Int)
    case float(Double)
    case symbol(String)
    case end
  }

  let kind: Kind
  /// The line in the source, from 1.
  let line: Int

  /// How errors call it.
  var description: String {
    switch kind {
    case .data: return "text"
    case .variableBegin: return "'{{'"
    case .variableEnd: return "'}}'"
    case .blockBegin: return "'{%'"
    case .blockEnd: return "'%}'"
    case .name(let name): return "'\(name)'"
    case .string: return "a string"
    case .integer(let value): return "\(value)"
    case .float(let value): return "\(value)"
    case .symbol(let symbol): return "'\(symbol)'"
    case .end: return "the end of the template"
    }
  }
}
