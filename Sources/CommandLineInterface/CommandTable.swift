#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif
#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// All commands of the program, and the way from a command line to one of them.
package struct CommandTable: Sendable {
  /// What a command line asks for.
  package enum Request: Sendable {
    case help(String)
    case version
    case run(any Command.Type, ParsedArguments)
  }

  /// The commands, in the order of the help.
  package let commands: [any Command.Type]
  /// The version that `--version` prints.
  package let version: String

  /// A table of `commands`.
  package init(_ commands: [any Command.Type], version: String) {
    self.commands = commands
    self.version = version
  }

  /// The specifications, in the order of the help.
  package var specifications: [CommandSpecification] { commands.map { $0.specification } }

  /// Finds what `words` (without the program's own name) ask for.
  package func request(
    _ words: [String], environment: [String: String]
  ) throws(UsageError) -> Request {
    let names = words.prefix { !$0.hasPrefix("-") }
    let rest = Array(words.dropFirst(names.count))
    let asksForHelp = words.prefix { $0 != "--" }.contains {
      // The help is whole already; vLLM's `--help=all` and `--help=Group` ask for no more.
      $0 == "--help" || $0 == "-h" || $0.hasPrefix("--help=")
    }
    guard let head = names.first else {
      if rest.contains("--version") { return .version }
      if asksForHelp { return .help(HelpText.overview(specifications, group: [])) }
      if let flag = rest.first {
        throw .unknownFlag(
          flag, command: "COMMAND",
          nearest: NearestSpelling.of(flag, among: ["--help", "--version"])
        )
      }
      throw .noCommand
    }
    if head == "help" { return .help(try help(for: Array(names.dropFirst()))) }
    if let command = match(names) {
      let specification = command.specification
      if asksForHelp { return .help(HelpText.command(specification)) }
      let own = Array(words.dropFirst(specification.path.count))
      let arguments = try ArgumentParser.parse(own, as: specification, environment: environment)
      return .run(command, arguments)
    }
    let group = specifications.filter { $0.path.count > 1 && $0.path[0] == head }
    guard !group.isEmpty else {
      throw .unknownCommand(
        head, nearest: NearestSpelling.of(head, among: specifications.map { $0.path[0] }))
    }
    if asksForHelp { return .help(HelpText.overview(group, group: [head])) }
    let choices = group.map { $0.path[1] }
    guard names.count > 1, let wrong = names.dropFirst().first else {
      throw .incompleteCommand(head, choices: choices)
    }
    throw .unknownCommand(
      "\(head) \(wrong)",
      nearest: NearestSpelling.of(wrong, among: choices).map { "\(head) \($0)" })
  }

  /// The variables of `environment` that look like flags but belong to no command.
  package func unknownVariables(_ environment: [String: String]) -> [(
    name: String, nearest: String?
  )] {
    let known = Set(specifications.flatMap(\.allFlags).map(\.environmentVariable))
    return environment.keys.filter { $0.hasPrefix("STEP3_") && !known.contains($0) }.sorted()
      .map { ($0, NearestSpelling.of($0, among: known.sorted())) }
  }

  /// Runs the program: does what the process's command line asks for and ends the process.
  package func main() async -> Never {
    signal(SIGPIPE, SIG_IGN)
    let words = Array(CommandLine.arguments.dropFirst())
    let environment = ProcessInfo.processInfo.environment
    exit(await run(words, environment: environment).rawValue)
  }

  /// Does what `words` ask for; results go to standard output, errors to standard error.
  package func run(_ words: [String], environment: [String: String]) async -> ExitCode {
    do {
      switch try request(words, environment: environment) {
      case .help(let text):
        StandardOutput.write(text)
      case .version:
        StandardOutput.write("step3 \(version)\n")
      case .run(let command, let arguments):
        for unknown in unknownVariables(environment) {
          let hint = unknown.nearest.map { "; did you mean \($0)?" } ?? ""
          arguments.log.warning("\(unknown.name) is the variable of no flag\(hint)")
        }
        try await command.run(arguments)
      }
      return .done
    } catch {
      return report(error, asJSON: Self.wantsJSON(words, environment))
    }
  }

  private func report(_ error: any Error, asJSON: Bool) -> ExitCode {
    let known = error as? any CommandError
    let message = known?.description ?? String(describing: error)
    if asJSON {
      StandardError.write(Self.json(code: known?.code ?? "failed", message: message) + "\n")
    } else if !(error is StoppedBySignal) {
      StandardError.write("step3: \(message)\n")
    }
    return known?.exitCode ?? .failed
  }

  /// `{"error":{"code":"…","message":"…"}}` on one line.
  static func json(code: String, message: String) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let text = try? encoder.encode(["error": ["code": code, "message": message]])
    return text.map { String(decoding: $0, as: UTF8.self) } ?? #"{"error":{"code":"failed"}}"#
  }

  /// Whether errors go out as JSON; looked up by hand, since the command line may be the error.
  static func wantsJSON(_ words: [String], _ environment: [String: String]) -> Bool {
    let own = words.prefix { $0 != "--" }
    if own.contains("--format=json") { return true }
    if let place = own.firstIndex(of: "--format") {
      return own.dropFirst(place + 1).first == "json"
    }
    return environment["STEP3_FORMAT"] == "json"
  }

  private func help(for path: [String]) throws(UsageError) -> String {
    guard !path.isEmpty else { return HelpText.overview(specifications, group: []) }
    guard case .help(let text) = try request(path + ["--help"], environment: [:]) else {
      throw .noCommand
    }
    return text
  }

  /// The command with the longest name that `words` begin with.
  private func match(_ words: ArraySlice<String>) -> (any Command.Type)? {
    commands.filter { words.starts(with: $0.specification.path) }
      .max { $0.specification.path.count < $1.specification.path.count }
  }
}
