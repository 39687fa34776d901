/// The values of a command's flags and arguments, already checked against its specification.
///
/// Asking for a flag the command does not declare, or in another type than declared, is a
/// programmer's error and traps.
package struct ParsedArguments: Sendable {
  /// The command they belong to.
  package let specification: CommandSpecification
  let values: [String: (values: [String], origin: ValueOrigin)]
  let positional: [String: [String]]

  /// Where the value of flag `name` came from; nil when it has none.
  package func origin(of name: String) -> ValueOrigin? {
    _ = declared(name)
    return values[name]?.origin
  }

  /// Whether flag `name` was given by flag, environment or file.
  package func isGiven(_ name: String) -> Bool {
    origin(of: name).map { $0 != .standard } ?? false
  }

  /// The text of a flag that has a default or is required.
  package func string(_ name: String) -> String {
    present(optionalString(name), name)
  }

  /// The text of a flag, nil when it was not given.
  package func optionalString(_ name: String) -> String? {
    _ = declared(name)
    return values[name]?.values.last
  }

  /// Every value of a repeated flag, in order.
  package func strings(_ name: String) -> [String] {
    precondition(declared(name).isRepeated, "--\(name) is not declared repeated")
    return values[name]?.values ?? []
  }

  /// The whole number of a flag that has a default or is required.
  package func integer(_ name: String) -> Int {
    present(optionalInteger(name), name)
  }

  /// The whole number of a flag, nil when it was not given.
  package func optionalInteger(_ name: String) -> Int? {
    guard case .integer = declared(name).kind else { preconditionFailure("--\(name): not integer") }
    return values[name]?.values.last.flatMap { Int($0) }
  }

  /// Every whole number of a repeated integer flag, or of an integer list such as `1,2,3`.
  package func integers(_ name: String) -> [Int] {
    _ = declared(name)
    return (values[name]?.values ?? []).flatMap { Flag.integers($0) ?? [] }
  }

  /// The number of a flag that has a default or is required.
  package func number(_ name: String) -> Double {
    present(optionalNumber(name), name)
  }

  /// The number of a flag, nil when it was not given.
  package func optionalNumber(_ name: String) -> Double? {
    guard case .number = declared(name).kind else { preconditionFailure("--\(name): not number") }
    return values[name]?.values.last.flatMap { Double($0) }
  }

  /// The bytes of a size flag, nil when it was not given.
  package func optionalByteCount(_ name: String) -> Int? {
    guard case .byteCount = declared(name).kind else { preconditionFailure("--\(name): not size") }
    return values[name]?.values.last.flatMap { ByteSize($0)?.byteCount }
  }

  /// Whether a switch is on.
  package func isOn(_ name: String) -> Bool {
    precondition(declared(name).isToggle, "--\(name) is not a switch")
    return present(values[name]?.values.last.flatMap { Flag.toggleValue($0) }, name)
  }

  /// The choice of a flag as a value of `Choice`, whose raw values are the declared choices.
  package func choice<Choice: RawRepresentable<String>>(
    _ name: String, as type: Choice.Type = Choice.self
  ) -> Choice {
    present(optionalString(name).flatMap { Choice(rawValue: $0) }, name)
  }

  /// The positional argument `name`, nil when it was not given.
  package func argument(_ name: String) -> String? { arguments(name).first }

  /// Every value of the positional argument `name`.
  package func arguments(_ name: String) -> [String] {
    precondition(
      specification.arguments.contains { $0.name == name }, "argument \(name) is not declared")
    return positional[name] ?? []
  }

  /// The checkpoint folder.
  package var model: String { string("model") }

  /// `--threads`, nil for the machine's physical cores.
  package var threads: Int? { optionalInteger("threads") }

  /// `--kernels`: auto, avx512, avx512-fma, avx2 or reference.
  package var kernels: String { string("kernels") }

  /// Whether `--format json` was asked for.
  package var wantsJSON: Bool { string("format") == "json" }

  /// A log that writes what `--log-level` lets through to standard error.
  package var log: Log { Log(level: choice("log-level")) }

  private func declared(_ name: String) -> Flag {
    guard let flag = specification.flag(name) else {
      preconditionFailure("--\(name) is not declared by '\(specification.name)'")
    }
    return flag
  }

  private func present<Value>(_ value: Value?, _ name: String) -> Value {
    guard let value else {
      preconditionFailure("--\(name) has no default: use the optional getter")
    }
    return value
  }
}
