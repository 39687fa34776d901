/// One flag of a command: `--name VALUE`, or `--name` / `--no-name` for a switch.
///
/// Every flag is also the environment variable `STEP3_NAME` and the key `name` of `--config FILE`.
package struct Flag: Sendable {
  /// What values a flag takes.
  package enum Kind: Sendable {
    case string
    case integer(ClosedRange<Int>)
    case integerList
    case number(ClosedRange<Double>)
    case byteCount
    case choice([String])
    case toggle
  }

  /// The name without dashes in front, words joined by dashes.
  package let name: String
  /// What values it takes.
  package let kind: Kind
  /// How the value is called in the help.
  package let placeholder: String
  /// One line for the help.
  package let help: String
  /// The value when it is given nowhere.
  package let standard: String?
  /// Whether it may be given several times.
  package let isRepeated: Bool
  /// Whether leaving it out is an error.
  package let isRequired: Bool

  private init(
    _ name: String, _ kind: Kind, _ placeholder: String, _ help: String, standard: String? = nil,
    isRepeated: Bool = false, isRequired: Bool = false
  ) {
    self.name = name
    self.kind = kind
    self.placeholder = placeholder
    self.help = help
    self.standard = standard
    self.isRepeated = isRepeated
    self.isRequired = isRequired
  }

  /// A flag that takes text as it is.
  package static func string(
    _ name: String, _ placeholder: String = "TEXT", default standard: String? = nil,
    repeated: Bool = false, required: Bool = false, help: String
  ) -> Flag {
    Flag(
      name, .string, placeholder, help, standard: standard, isRepeated: repeated,
      isRequired: required)
  }

  /// A flag that takes a whole number within `range`.
  package static func integer(
    _ name: String, _ placeholder: String = "N", in range: ClosedRange<Int> = 0...Int.max,
    default standard: Int? = nil, repeated: Bool = false, required: Bool = false, help: String
  ) -> Flag {
    Flag(
      name, .integer(range), placeholder, help, standard: standard.map(String.init),
      isRepeated: repeated, isRequired: required)
  }

  /// A flag that takes whole numbers joined by commas, as in `--ids 1,2,3`.
  package static func integerList(
    _ name: String, _ placeholder: String = "N,N,…", help: String
  ) -> Flag {
    Flag(name, .integerList, placeholder, help)
  }

  /// A flag that takes a finite number within `range`.
  package static func number(
    _ name: String, _ placeholder: String = "X",
    in range: ClosedRange<Double> = -Double
      .greatestFiniteMagnitude...Double.greatestFiniteMagnitude,
    default standard: Double? = nil, repeated: Bool = false, required: Bool = false, help: String
  ) -> Flag {
    Flag(
      name, .number(range), placeholder, help, standard: standard.map { "\($0)" },
      isRepeated: repeated, isRequired: required)
  }

  /// A flag that takes a number of bytes, as in `8GiB`, `512MB` or `4096`.
  package static func byteCount(
    _ name: String, _ placeholder: String = "SIZE", default standard: String? = nil, help: String
  ) -> Flag {
    Flag(name, .byteCount, placeholder, help, standard: standard)
  }

  /// A flag that takes one of `choices`.
  package static func choice(
    _ name: String, _ choices: [String], default standard: String? = nil, repeated: Bool = false,
    required: Bool = false, help: String
  ) -> Flag {
    precondition(standard.map(choices.contains) ?? true, "default of --\(name) is no choice")
    return Flag(
      name, .choice(choices), choices.joined(separator: "|"), help, standard: standard,
      isRepeated: repeated, isRequired: required)
  }

  /// A switch: `--name` turns it on, `--no-name` off.
  package static func toggle(_ name: String, default standard: Bool = false, help: String) -> Flag {
    Flag(name, .toggle, "", help, standard: standard ? "true" : "false")
  }

  /// The environment variable that stands for this flag.
  package var environmentVariable: String {
    "STEP3_" + String(name.map { $0 == "-" ? "_" : $0 }).uppercased()
  }

  /// Whether the flag is a switch.
  package var isToggle: Bool {
    if case .toggle = kind { true } else { false }
  }

  /// What a valid value is, in words, and the nearest one when there is a finite choice; nil when
  /// `value` is valid.
  func complaint(about value: String) -> (expected: String, nearest: String?)? {
    switch kind {
    case .string:
      return nil
    case .integer(let range):
      if let number = Int(value), range.contains(number) { return nil }
      return ("a whole number\(Self.words(range))", nil)
    case .integerList:
      if Flag.integers(value) != nil { return nil }
      return ("a list of whole numbers such as 1,2,3", nil)
    case .number(let range):
      if let number = Double(value), number.isFinite, range.contains(number) { return nil }
      return ("a number\(Self.words(range))", nil)
    case .byteCount:
      if ByteSize(value) != nil { return nil }
      return ("a size such as 8GiB, 512MB or 4096", nil)
    case .choice(let choices):
      if choices.contains(value) { return nil }
      return (
        "one of \(choices.joined(separator: ", "))", NearestSpelling.of(value, among: choices)
      )
    case .toggle:
      if Flag.toggleValue(value) != nil { return nil }
      return ("true or false", nil)
    }
  }

  /// Integers between commas or spaces; nil when a piece is none, or nothing stands between commas.
  static func integers(_ text: String) -> [Int]? {
    var numbers: [Int] = []
    for piece in text.split(separator: ",", omittingEmptySubsequences: false) {
      let words = piece.split(separator: " ")
      guard !words.isEmpty else { return nil }
      for word in words {
        guard let number = Int(word) else { return nil }
        numbers.append(number)
      }
    }
    return numbers
  }

  static func toggleValue(_ text: String) -> Bool? {
    switch text.lowercased() {
    case "true", "1", "yes", "on": true
    case "false", "0", "no", "off": false
    default: nil
    }
  }

  private static func words(_ range: ClosedRange<Int>) -> String {
    switch (range.lowerBound, range.upperBound) {
    case (Int.min, Int.max): ""
    case (let low, Int.max): " of at least \(low)"
    case (Int.min, let high): " of at most \(high)"
    case (let low, let high): " from \(low) to \(high)"
    }
  }

  private static func words(_ range: ClosedRange<Double>) -> String {
    let limit = Double.greatestFiniteMagnitude
    switch (range.lowerBound, range.upperBound) {
    case (-limit, limit): return ""
    case (let low, limit): return " of at least \(low)"
    case (-limit, let high): return " of at most \(high)"
    case (let low, let high): return " from \(low) to \(high)"
    }
  }
}

/// One positional argument of a command.
package struct Argument: Sendable {
  /// Its name in capitals, as the help shows it.
  package let name: String
  /// One line for the help.
  package let help: String
  /// Whether leaving it out is an error.
  package let isRequired: Bool
  /// Whether it takes every argument that is left; only the last one may.
  package let isRepeated: Bool

  /// A positional argument.
  package init(_ name: String, required: Bool = true, repeated: Bool = false, help: String) {
    self.name = name
    self.help = help
    self.isRequired = required
    self.isRepeated = repeated
  }
}
