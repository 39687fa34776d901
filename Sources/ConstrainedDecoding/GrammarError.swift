/// Why a constraint cannot be compiled; known before any token is generated.
package enum GrammarError: Error, Equatable, Sendable {
  /// A keyword or regex construct that cannot be enforced.
  case unsupported(path: String, construct: String, reason: String)
  /// A keyword's value is not what JSON Schema asks for.
  case invalid(path: String, construct: String, expected: String)
  /// A regular expression is malformed at an offset that counts Unicode scalars.
  case badPattern(path: String, pattern: String, offset: Int, reason: String)
  /// No output can satisfy the constraint.
  case unsatisfiable(path: String)
  /// The constraint needs a larger automaton, or more steps to make it, than is allowed.
  case tooLarge(path: String, limit: Int)
}

extension GrammarError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .unsupported(let path, let construct, let reason):
      "\(path): '\(construct)' is not supported: \(reason)"
    case .invalid(let path, let construct, let expected):
      "\(path): '\(construct)' must be \(expected)"
    case .badPattern(let path, let pattern, let offset, let reason):
      "\(path): the pattern '\(pattern)' is wrong at character \(offset): \(reason)"
    case .unsatisfiable(let path):
      "\(path): no output can satisfy this"
    case .tooLarge(let path, let limit):
      "\(path): this needs an automaton of more than \(limit) states or steps; "
        + "use smaller bounds on lengths and repetitions"
    }
  }
}
