/// Scripts that complete commands and flags in a shell, made from the command table.
package enum CompletionScript {
  /// For bash: `source <(step3 completion bash)`.
  package static func bash(_ commands: [CommandSpecification]) -> String {
    let cases = commands.map { command in
      "    \(quoted(command.name))) words=\(quoted(words(command).joined(separator: " "))) ;;"
    }
    let heads = commands.map { $0.path[0] }.uniqued().joined(separator: " ")
    let groupLines = groups(commands).map { group in
      let choices = quoted(second(commands, group).joined(separator: " "))
      return "  [ \"$name\" = \(group) ] && words=\(choices)"
    }
    let choices = choiceCases(commands) { words in
      "COMPREPLY=($(compgen -W \(quoted(words)) -- \"$current\")); return"
    }
    return """
      # bash completion for step3
      _step3() {
        local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
        local name="" words="" word
        for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
          case "$word" in -*) break ;; esac
          if [ -z "$name" ]; then name="$word"; continue; fi
          case "$name $word" in \(twoWordPattern(commands))) name="$name $word" ;; esac
          break
        done
        case "$previous" in
      \(choices)
          --*) case "$current" in -*) ;; *)
            COMPREPLY=($(compgen -f -- "$current")); return ;; esac ;;
        esac
        case "$name" in
      \(cases.joined(separator: "\n"))
          *) words=\(quoted(heads)) ;;
        esac
      \(groupLines.joined(separator: "\n"))
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        case "$current" in -*) ;; *) COMPREPLY+=($(compgen -f -- "$current")) ;; esac
      }
      complete -o filenames -F _step3 step3

      """
  }

  /// For zsh: `source <(step3 completion zsh)`.
  package static func zsh(_ commands: [CommandSpecification]) -> String {
    "#compdef step3\nautoload -U +X bashcompinit && bashcompinit\n" + bash(commands)
  }

  /// For fish: `step3 completion fish | source`.
  package static func fish(_ commands: [CommandSpecification]) -> String {
    var lines = ["# fish completion for step3"]
    let heads = commands.map { $0.path[0] }.uniqued()
    for head in heads {
      let abstract = commands.first { $0.path == [head] }?.abstract ?? "commands of \(head)"
      lines.append(
        "complete -c step3 -n __fish_use_subcommand -a \(head) -d \(quoted(abstract))")
    }
    for command in commands {
      let seen = "'__fish_seen_subcommand_from \(command.path[0])'"
      if command.path.count > 1 {
        lines.append(
          "complete -c step3 -n \(seen) -a \(command.path[1]) -d \(quoted(command.abstract))")
      }
      for flag in command.allFlags {
        var line = "complete -c step3 -n \(seen) -l \(flag.name) -d \(quoted(flag.help))"
        if case .choice(let choices) = flag.kind {
          line += " -x -a \(quoted(choices.joined(separator: " ")))"
        } else if !flag.isToggle {
          line += " -r"
        }
        if !lines.contains(line) { lines.append(line) }
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func words(_ command: CommandSpecification) -> [String] {
    command.allFlags.map { "--\($0.name)" } + ["--help"]
  }

  private static func groups(_ commands: [CommandSpecification]) -> [String] {
    commands.filter { $0.path.count > 1 }.map { $0.path[0] }.uniqued()
  }

  private static func second(_ commands: [CommandSpecification], _ group: String) -> [String] {
    commands.filter { $0.path.count > 1 && $0.path[0] == group }.map { $0.path[1] }
  }

  private static func twoWordPattern(_ commands: [CommandSpecification]) -> String {
    let names = commands.filter { $0.path.count > 1 }.map { quoted($0.name) }
    return names.isEmpty ? "''" : names.joined(separator: "|")
  }

  /// One shell case per flag with a finite choice; the first command's choice counts.
  private static func choiceCases(
    _ commands: [CommandSpecification], reply: (String) -> String
  ) -> String {
    var seen: Set<String> = []
    var lines: [String] = []
    for flag in commands.flatMap(\.allFlags) {
      guard case .choice(let choices) = flag.kind, seen.insert(flag.name).inserted else { continue }
      lines.append("    --\(flag.name)) \(reply(choices.joined(separator: " "))) ;;")
    }
    return lines.joined(separator: "\n")
  }

  private static func quoted(_ text: String) -> String {
    "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''")
      + "'"
  }
}

extension Array where Element: Hashable {
  /// The elements without later repetitions.
  fileprivate func uniqued() -> [Element] {
    var seen: Set<Element> = []
    return filter { seen.insert($0).inserted }
  }
}
