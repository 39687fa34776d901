/// What a command is called, takes and prints in its help.
///
/// A command in full:
///
/// ```swift
/// struct TokenizeCommand: Command {
///   static let specification = CommandSpecification(
///     "tokenize", abstract: "Turn text into token ids, and back.",
///     example: "step3 tokenize --text 'Hello'", takesModel: true,
///     flags: [
///       .string("text", "T", help: "the text; standard input when absent"),
///       .integer("limit", in: 1...Int.max, default: 100, help: "most ids to print"),
///       .toggle("decode", help: "take ids and print text"),
///     ])
///
///   static func run(_ arguments: ParsedArguments) throws {
///     let directory = arguments.model              // --model, or the first argument
///     let text = arguments.optionalString("text") ?? StandardInput.text()
///     let limit = arguments.integer("limit")       // has a default, so it is never absent
///     if arguments.isOn("decode") { … }
///     guard !text.isEmpty else {
///       throw CommandFailure(.usage, code: "empty_text", "--text is empty; give some text")
///     }
///     StandardOutput.write("…\n")
///   }
/// }
/// ```
///
/// It is registered by adding it to the table in `Step3Command.swift`.
package struct CommandSpecification: Sendable {
  /// The words that name it: `["bench", "limits"]`.
  package let path: [String]
  /// One sentence on what it does.
  package let abstract: String
  /// One command line that works.
  package let example: String
  /// Whether it takes a checkpoint folder: `--model DIR`, or the first argument.
  package let takesModel: Bool
  /// Its positional arguments, the model aside.
  package let arguments: [Argument]
  /// Its own flags; one that is called like a common flag replaces it.
  package let flags: [Flag]
  /// More text for the help, when one sentence does not do.
  package let discussion: String

  /// A command of this `path` (words separated by spaces).
  package init(
    _ path: String, abstract: String, example: String, takesModel: Bool = false,
    arguments: [Argument] = [], flags: [Flag] = [], discussion: String = ""
  ) {
    self.path = path.split(separator: " ").map(String.init)
    self.abstract = abstract
    self.example = example
    self.takesModel = takesModel
    self.arguments = arguments
    self.flags = flags
    self.discussion = discussion
    precondition(!self.path.isEmpty, "a command without a name")
    precondition(
      arguments.dropLast().allSatisfy { !$0.isRepeated }, "only the last argument repeats")
    precondition(Set(flags.map(\.name)).count == flags.count, "\(path): two flags of one name")
  }

  /// The name as people type it.
  package var name: String { path.joined(separator: " ") }

  /// Where the default model lies, relative to the working directory.
  package static let defaultModelDirectory = ".cache/models/smollm2-135m-step3"

  /// The flag behind `takesModel`.
  package static let modelFlag = Flag.string(
    "model", "DIR", default: defaultModelDirectory,
    help: "checkpoint folder: config.json, *.safetensors, tokenizer.json")

  /// The flags every command has.
  package static let commonFlags: [Flag] = [
    .integer("threads", in: 1...4096, help: "worker threads (default: the physical cores)"),
    .choice(
      "kernels", ["auto", "avx512", "avx512-fma", "avx2", "reference"], default: "auto",
      help: "the instruction set to use"),
    .choice("format", ["text", "json"], default: "text", help: "form of the result"),
    .choice(
      "log-level", LogLevel.allCases.map(\.rawValue), default: "info",
      help: "what goes to standard error"),
    .string("config", "FILE", help: "JSON file whose keys are flags"),
  ]

  /// Every flag the command takes: its own, the model, and the common ones it does not replace.
  package var allFlags: [Flag] {
    let own = (takesModel ? [Self.modelFlag] : []) + flags
    return own + Self.commonFlags.filter { common in !own.contains { $0.name == common.name } }
  }

  func flag(_ name: String) -> Flag? { allFlags.first { $0.name == name } }
}

/// One command of the program.
package protocol Command: SendableMetatype {
  /// What it is called and takes.
  static var specification: CommandSpecification { get }
  /// Does the work; what it throws becomes the exit code (`CommandError`).
  static func run(_ arguments: ParsedArguments) async throws
}
