/// The texts of `--help`.
enum HelpText {
  /// Help for one command.
  static func command(_ specification: CommandSpecification) -> String {
    var text = "\(specification.abstract)\n\nUsage: step3 \(usage(specification))\n"
    if !specification.discussion.isEmpty { text += "\n\(specification.discussion)\n" }
    text += "\nExample:\n  \(specification.example)\n"
    if !specification.arguments.isEmpty {
      text += "\nArguments:\n"
      text += table(specification.arguments.map { ($0.name, $0.help) })
    }
    let common = Set(CommandSpecification.commonFlags.map(\.name))
    let own = specification.allFlags.filter {
      flag in !common.contains(flag.name) || specification.flags.contains { $0.name == flag.name }
    }
    if !own.isEmpty { text += "\nFlags:\n" + table(own.map(row)) }
    let rest = specification.allFlags.filter { flag in !own.contains { $0.name == flag.name } }
    text += "\nCommon flags:\n" + table(rest.map(row) + [("--help", "this text")])
    text += """

      Every flag is also an environment variable (--max-tokens: STEP3_MAX_TOKENS) and a key of the
      --config file; a flag wins over the environment, that over the file, that over the default.

      """
    return text
  }

  /// Help for the program, or for a group of commands such as `bench`.
  static func overview(_ commands: [CommandSpecification], group: [String]) -> String {
    let name = (["step3"] + group).joined(separator: " ")
    var text =
      group.isEmpty
      ? "step3 runs, serves and plans the Step3 model on CPUs.\n\n" : ""
    text += "Usage: \(name) COMMAND [flags]\n\nCommands:\n"
    text += table(commands.map { ($0.name, $0.abstract) })
    text += "\n`step3 COMMAND --help` shows a command's flags and one example.\n"
    if group.isEmpty {
      text += "`step3 --version` shows the version.\n\nExit codes:\n" + exitCodes
    }
    return text
  }

  private static let exitCodes = """
      0 done    1 failed    2 wrong usage    3 model files missing or broken
      4 does not fit in memory    5 port busy    6 peer unreachable or different
      7 self-check failed    130, 143 stopped by a signal

    """

  private static func usage(_ specification: CommandSpecification) -> String {
    var words = [specification.name]
    if specification.takesModel { words.append("[MODEL]") }
    words += specification.arguments.map { argument in
      let name = argument.name + (argument.isRepeated ? "…" : "")
      return argument.isRequired ? name : "[\(name)]"
    }
    words += specification.flags.filter(\.isRequired).map { "--\($0.name) \($0.placeholder)" }
    return (words + ["[flags]"]).joined(separator: " ")
  }

  private static func row(_ flag: Flag) -> (String, String) {
    var left = flag.isToggle ? "--\(flag.name), --no-\(flag.name)" : "--\(flag.name)"
    if !flag.isToggle { left += " \(flag.placeholder)" + (flag.isRepeated ? " …" : "") }
    var help = flag.help
    if let standard = flag.standard {
      help += flag.isToggle ? (standard == "true" ? " (on)" : "") : " (\(standard))"
    } else if flag.isRequired {
      help += " (required)"
    }
    return (left, help)
  }

  /// Two columns, the second wrapped to 96 columns in all; a long left side gets a line of its own.
  private static func table(_ rows: [(String, String)]) -> String {
    let width = min(30, rows.map(\.0.count).max() ?? 0)
    var text = ""
    for (left, right) in rows {
      text += "  " + left
      var column = left.count
      if column > width {
        text += "\n  "
        column = 0
      }
      text += String(repeating: " ", count: width - column + 2)
      var used = width + 4
      for word in right.split(separator: " ") {
        if used + word.count + 1 > 96 {
          text += "\n" + String(repeating: " ", count: width + 4)
          used = width + 4
        }
        text += used > width + 4 ? " \(word)" : String(word)
        used += word.count + 1
      }
      text += "\n"
    }
    return text
  }
}
