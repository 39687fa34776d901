import CommandLineInterface

/// `step3 completion`: a script that completes commands and flags in a shell.
struct CompletionCommand: Command {
  static let specification = CommandSpecification(
    "completion", abstract: "Print a script that completes commands and flags in a shell.",
    example: "source <(step3 completion bash)",
    arguments: [Argument("SHELL", help: "bash, zsh or fish")])

  static func run(_ arguments: ParsedArguments) throws {
    let commands = Step3Command.table.specifications
    switch arguments.argument("SHELL") {
    case "bash": StandardOutput.write(CompletionScript.bash(commands))
    case "zsh": StandardOutput.write(CompletionScript.zsh(commands))
    case "fish": StandardOutput.write(CompletionScript.fish(commands))
    case let other:
      throw UsageError.badValue(
        other ?? "", origin: .argument("SHELL"), expected: "one of bash, zsh, fish",
        nearest: other.flatMap { NearestSpelling.of($0, among: ["bash", "zsh", "fish"]) })
    }
  }
}
