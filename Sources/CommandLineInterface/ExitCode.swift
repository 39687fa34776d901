/// What the process tells its caller; the numbers are a contract (README, "Exit codes").
package enum ExitCode: Int32, Sendable, CaseIterable {
  /// Done.
  case done = 0
  /// Failed while working.
  case failed = 1
  /// Wrong usage: the message says what was wrong, and the nearest valid spelling.
  case usage = 2
  /// Model files missing or broken: the message names file, tensor and offset.
  case modelFiles = 3
  /// Does not fit in memory: the message holds the numbers and the flag that helps.
  case memory = 4
  /// Port busy or bind refused.
  case bind = 5
  /// Peer unreachable, or of another version, key or model.
  case peer = 6
  /// A self-check failed.
  case selfCheck = 7
  /// Stopped by SIGINT, after draining.
  case interrupted = 130
  /// Stopped by SIGTERM, after draining.
  case terminated = 143
}

/// An error that knows how the process should end because of it.
///
/// The executable conforms each module's error enum to this protocol (`ErrorTable.swift`); an error
/// that does not conform ends the process with `ExitCode.failed` and the code string `failed`.
package protocol CommandError: Error, CustomStringConvertible {
  /// The process's exit code.
  var exitCode: ExitCode { get }
  /// The `code` of the error's JSON form: lower case, words joined by underscores.
  var code: String { get }
}

/// An error made on the spot by a command.
package struct CommandFailure: CommandError, Equatable {
  /// The process's exit code.
  package let exitCode: ExitCode
  /// The `code` of the error's JSON form.
  package let code: String
  /// What is wrong, where, and what to do.
  package let description: String

  /// An error with this exit code, code string and message.
  package init(_ exitCode: ExitCode, code: String, _ message: String) {
    self.exitCode = exitCode
    self.code = code
    self.description = message
  }
}

/// What is wrong with a command line, an environment variable or a configuration file.
package enum UsageError: Error, Equatable, Sendable {
  case noCommand
  case unknownCommand(String, nearest: String?)
  case incompleteCommand(String, choices: [String])
  case unknownFlag(String, command: String, nearest: String?)
  case missingValue(flag: String, placeholder: String)
  case unexpectedValue(flag: String, value: String)
  case badValue(String, origin: ValueOrigin, expected: String, nearest: String?)
  case givenTwice(flag: String)
  case missingArgument(String, command: String)
  case missingFlag(String, command: String)
  case tooManyArguments(first: String, command: String)
  case unknownKey(String, file: String, nearest: String?)
  case badConfigurationFile(String, reason: String)
}

extension UsageError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String { "usage" }

  package var description: String {
    switch self {
    case .noCommand:
      "no command given; `step3 --help` lists them"
    case .unknownCommand(let name, let nearest):
      "there is no command '\(name)'\(Self.hint(nearest)); `step3 --help` lists them"
    case .incompleteCommand(let name, let choices):
      "'\(name)' needs one of: \(choices.joined(separator: ", "))"
    case .unknownFlag(let flag, let command, let nearest):
      "there is no flag '\(flag)'\(Self.hint(nearest)); "
        + "`step3 \(command) --help` lists the flags"
    case .missingValue(let flag, let placeholder):
      "--\(flag) needs a value: --\(flag) \(placeholder)"
    case .unexpectedValue(let flag, let value):
      "--\(flag) is a switch and takes no value, but was given '\(value)'; "
        + "write --\(flag) or --no-\(flag)"
    case .badValue(let value, let origin, let expected, let nearest):
      "\(origin): '\(value)' is not \(expected)\(Self.hint(nearest))"
    case .givenTwice(let flag):
      "--\(flag) is given more than once; keep one"
    case .missingArgument(let name, let command):
      "\(name) is missing; see `step3 \(command) --help`"
    case .missingFlag(let flag, let command):
      "--\(flag) is missing; see `step3 \(command) --help`"
    case .tooManyArguments(let first, let command):
      "'\(first)' is one argument too many; see `step3 \(command) --help`"
    case .unknownKey(let key, let file, let nearest):
      "\(file): there is no key '\(key)'\(Self.hint(nearest))"
    case .badConfigurationFile(let file, let reason):
      "\(file): \(reason)"
    }
  }

  private static func hint(_ nearest: String?) -> String {
    nearest.map { "; did you mean '\($0)'?" } ?? ""
  }
}

/// Where the value of a flag came from.
package enum ValueOrigin: Equatable, Sendable, CustomStringConvertible {
  case flag(String)
  case argument(String)
  case environment(variable: String)
  case file(path: String, key: String)
  case standard

  package var description: String {
    switch self {
    case .flag(let name): "--\(name)"
    case .argument(let name): name
    case .environment(let variable): variable
    case .file(let path, let key): "\(path), key \(key)"
    case .standard: "default"
    }
  }
}
