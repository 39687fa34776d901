#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// Turns the words after a command's name into checked values.
///
/// Precedence: flag, environment variable, `--config` file, default. After a repeated flag further
/// plain words are more values of it, unless the command has positional arguments of its own.
struct ArgumentParser {
  let specification: CommandSpecification
  private var given: [String: [String]] = [:]
  private var words: [String] = []

  private init(_ specification: CommandSpecification) {
    self.specification = specification
  }

  static func parse(
    _ words: [String], as specification: CommandSpecification, environment: [String: String]
  ) throws(UsageError) -> ParsedArguments {
    var parser = ArgumentParser(specification)
    try parser.scan(words)
    let positional = try parser.assignWords(environment: environment)
    let values = try parser.resolve(environment: environment)
    for flag in specification.allFlags where flag.isRequired && values[flag.name] == nil {
      throw .missingFlag(flag.name, command: specification.name)
    }
    return ParsedArguments(specification: specification, values: values, positional: positional)
  }

  // MARK: Words to flags and arguments

  private mutating func scan(_ input: [String]) throws(UsageError) {
    var position = 0
    var open: Flag?  // a repeated flag that takes the plain words that follow
    while position < input.count {
      let word = input[position]
      position += 1
      if word == "--" {
        words += input[position...]
        return
      }
      guard word.hasPrefix("--") else {
        if word.count > 1, word.hasPrefix("-"), Double(word) == nil {
          throw unknown(word)
        }
        if let open { given[open.name, default: []].append(word) } else { words.append(word) }
        continue
      }
      let (flag, value, isNegated) = try split(word)
      open = nil
      if flag.isToggle {
        if let value { throw .unexpectedValue(flag: flag.name, value: value) }
        try record(isNegated ? "false" : "true", for: flag)
      } else if let value {
        try record(value, for: flag)
      } else {
        guard position < input.count, !input[position].hasPrefix("--") else {
          throw .missingValue(flag: flag.name, placeholder: flag.placeholder)
        }
        try record(input[position], for: flag)
        position += 1
        if flag.isRepeated, specification.arguments.isEmpty { open = flag }
      }
    }
  }

  private func split(_ word: String) throws(UsageError) -> (Flag, value: String?, negated: Bool) {
    let body = word.dropFirst(2)
    let name = String(body.prefix { $0 != "=" })
    let value = body.count > name.count ? String(body.dropFirst(name.count + 1)) : nil
    if let flag = specification.flag(name) { return (flag, value, false) }
    if name.hasPrefix("no-"), let flag = specification.flag(String(name.dropFirst(3))),
      flag.isToggle
    {
      return (flag, value, true)
    }
    throw unknown("--" + name)
  }

  private func unknown(_ flag: String) -> UsageError {
    var names = specification.allFlags.map { "--" + $0.name } + ["--help"]
    names += specification.allFlags.filter(\.isToggle).map { "--no-" + $0.name }
    let dashed = String(flag.map { $0 == "_" ? "-" : $0 })
    return .unknownFlag(
      flag, command: specification.name, nearest: NearestSpelling.of(dashed, among: names))
  }

  private mutating func record(_ value: String, for flag: Flag) throws(UsageError) {
    if given[flag.name] != nil, !flag.isRepeated { throw .givenTwice(flag: flag.name) }
    given[flag.name, default: []].append(value)
  }

  /// Gives the plain words to the model and the positional arguments.
  ///
  /// The first word is the model when the command takes one that is not given otherwise, and the
  /// word names a folder or there are more words than the command's own arguments take.
  private mutating func assignWords(
    environment: [String: String]
  ) throws(UsageError) -> [String: [String]] {
    let arguments = specification.arguments
    let unbounded = arguments.last?.isRepeated ?? false
    if specification.takesModel, given["model"] == nil, let first = words.first,
      arguments.isEmpty || Self.isDirectory(first) || (!unbounded && words.count > arguments.count)
    {
      given["model"] = [first]
      words.removeFirst()
    }
    var assigned: [String: [String]] = [:]
    var rest = words[...]
    for argument in arguments {
      if argument.isRepeated {
        assigned[argument.name] = Array(rest)
        rest = []
      } else if let next = rest.popFirst() {
        assigned[argument.name] = [next]
      }
      if argument.isRequired, assigned[argument.name, default: []].isEmpty {
        throw .missingArgument(argument.name, command: specification.name)
      }
    }
    if let extra = rest.first {
      throw .tooManyArguments(first: extra, command: specification.name)
    }
    return assigned
  }

  private static func isDirectory(_ path: String) -> Bool {
    var isDirectory: Bool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory
  }

  // MARK: Precedence

  private func resolve(
    environment: [String: String]
  ) throws(UsageError) -> [String: (values: [String], origin: ValueOrigin)] {
    var values: [String: (values: [String], origin: ValueOrigin)] = [:]
    let file = try configuration(environment)
    for flag in specification.allFlags {
      let found: (values: [String], origin: ValueOrigin)
      let variable = flag.environmentVariable
      if let list = given[flag.name] {
        found = (list, .flag(flag.name))
      } else if let text = environment[variable], !text.isEmpty {
        found = (try environmentValues(text, flag), .environment(variable: variable))
      } else if let file, let entry = file.entries.first(where: { Self.name($0.key) == flag.name })
      {
        found = (entry.values, .file(path: file.path, key: entry.key))
      } else if let standard = flag.standard {
        found = ([standard], .standard)
      } else {
        continue
      }
      try check(found.values, from: found.origin, for: flag)
      values[flag.name] = found
    }
    return values
  }

  private func configuration(
    _ environment: [String: String]
  ) throws(UsageError) -> ConfigurationFile? {
    let variable = environment["STEP3_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
    guard specification.flag("config") != nil, let path = given["config"]?.last ?? variable else {
      return nil
    }
    let file = try ConfigurationFile(path: path)
    let names = specification.allFlags.map(\.name).filter { $0 != "config" }
    for entry in file.entries where !names.contains(Self.name(entry.key)) {
      throw .unknownKey(
        entry.key, file: path, nearest: NearestSpelling.of(Self.name(entry.key), among: names))
    }
    return file
  }

  /// Keys may be written with underscores, as JSON users expect.
  private static func name(_ key: String) -> String {
    String(key.map { $0 == "_" ? "-" : $0 })
  }

  /// A repeated flag's variable holds one value, or a JSON list of texts.
  private func environmentValues(_ text: String, _ flag: Flag) throws(UsageError) -> [String] {
    guard flag.isRepeated, text.hasPrefix("[") else { return [text] }
    guard let list = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) else {
      throw .badValue(
        text, origin: .environment(variable: flag.environmentVariable),
        expected: "a JSON list of texts", nearest: nil)
    }
    return list
  }

  private func check(
    _ values: [String], from origin: ValueOrigin, for flag: Flag
  ) throws(UsageError) {
    if values.count != 1, !flag.isRepeated {
      throw .badValue(
        "\(values)", origin: origin, expected: "one value: --\(flag.name) is not repeated",
        nearest: nil)
    }
    for value in values {
      guard let complaint = flag.complaint(about: value) else { continue }
      throw .badValue(
        value, origin: origin, expected: complaint.expected, nearest: complaint.nearest)
    }
  }
}
