/// Why a chat template cannot be read or rendered, and at which of its lines.
package enum TemplateError: Error, Equatable, Sendable {
  /// The source breaks Jinja's grammar.
  case syntax(line: Int, expected: String, found: String)
  /// The source uses a part of Jinja that chat templates do not use.
  case unsupported(line: Int, construct: String)
  /// Something that is not defined is used as if it were.
  case undefined(line: Int, name: String)
  /// An operation meets a value of a kind it is not for.
  case wrongKind(line: Int, operation: String, kind: String)
  /// A function, filter, test or macro is called with arguments it does not take.
  case badArguments(line: Int, function: String, problem: String)
  /// Division by zero, an overflow, a missing element: a value that does not exist.
  case impossible(line: Int, operation: String)
  /// The template asks for something the sandbox forbids.
  case forbidden(line: Int, construct: String)
  /// The template itself refuses its input (`raise_exception`).
  case raised(message: String)
  /// Rendering exceeds a limit that keeps templates from running away.
  case limitExceeded(line: Int, TemplateLimit)
  /// A file that should hold a template is unreadable or of another form.
  case badFile(name: String, problem: String)
}

/// What is limited when a template is read and rendered.
package enum TemplateLimit: String, Equatable, Sendable {
  case steps
  case depth
  case outputBytes = "bytes of output"
  case stringBytes = "bytes of a value"
  case rangeLength = "length of a range"
}

extension TemplateError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .syntax(let line, let expected, let found):
      return "chat template, line \(line): found \(found) where \(expected) is needed"
    case .unsupported(let line, let construct):
      return "chat template, line \(line): \(construct) is not supported"
    case .undefined(let line, let name):
      return "chat template, line \(line): \(name) is undefined"
    case .wrongKind(let line, let operation, let kind):
      return "chat template, line \(line): \(operation) does not work on a value of kind \(kind)"
    case .badArguments(let line, let function, let problem):
      return "chat template, line \(line): \(function): \(problem)"
    case .impossible(let line, let operation):
      return "chat template, line \(line): \(operation)"
    case .forbidden(let line, let construct):
      return "chat template, line \(line): \(construct) is forbidden, as values cannot change"
    case .raised(let message):
      return "the chat template refuses these messages: \(message)"
    case .limitExceeded(let line, let limit):
      return "chat template, line \(line): more \(limit.rawValue) than allowed"
    case .badFile(let name, let problem):
      return "\(name): \(problem)"
    }
  }
}
