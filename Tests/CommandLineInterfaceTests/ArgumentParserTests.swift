import CommandLineInterface
import Foundation
import Testing

struct Cook: Command {
  static let specification = CommandSpecification(
    "cook", abstract: "Cook a meal.", example: "step3 cook --salt 2 soup", takesModel: true,
    arguments: [Argument("DISH", required: false, help: "what to cook")],
    flags: [
      .integer("salt", in: 0...9, default: 1, help: "how much"),
      .number("heat", in: 0...2, help: "how hot"),
      .byteCount("pot", help: "how large"),
      .choice("style", ["boiled", "fried"], help: "how"),
      .string("guest", "NAME", repeated: true, help: "for whom"),
      .integerList("ids", help: "which"),
      .toggle("lid", default: true, help: "with a lid"),
    ])
  static func run(_ arguments: ParsedArguments) {}
}

struct Serve: Command {
  static let specification = CommandSpecification(
    "bench serve", abstract: "Serve.", example: "step3 bench serve",
    flags: [
      .string("dish", repeated: true, help: "dishes"), .string("to", required: true, help: "whom"),
    ])
  static func run(_ arguments: ParsedArguments) {}
}

private let table = CommandTable([Cook.self, Serve.self], version: "1.2.3")

private func parse(
  _ words: String..., environment: [String: String] = [:]
) throws -> ParsedArguments {
  guard case .run(_, let arguments) = try table.request(words, environment: environment) else {
    throw UsageError.noCommand
  }
  return arguments
}

private func failure(_ words: String..., environment: [String: String] = [:]) -> UsageError? {
  do {
    _ = try table.request(words, environment: environment)
    return nil
  } catch {
    return error
  }
}

@Suite("Command lines become typed values")
struct ArgumentParserTests {
  @Test("flags of every kind are read")
  func kinds() throws {
    let arguments = try parse(
      "cook", "--salt", "3", "--heat=-0.0", "--pot", "8GiB", "--style", "fried", "--guest", "a",
      "--guest=b", "--ids", "1,2,3", "--no-lid", "soup")
    #expect(arguments.integer("salt") == 3)
    #expect(arguments.optionalNumber("heat") == 0)
    #expect(arguments.optionalByteCount("pot") == 8 << 30)
    #expect(arguments.optionalString("style") == "fried")
    #expect(arguments.strings("guest") == ["a", "b"])
    #expect(arguments.integers("ids") == [1, 2, 3])
    #expect(!arguments.isOn("lid"))
    #expect(arguments.argument("DISH") == "soup")
    #expect(arguments.model == CommandSpecification.defaultModelDirectory)
  }

  @Test("a negative number is a value, not a flag")
  func negative() throws {
    #expect(
      failure("cook", "--heat", "-1")
        == .badValue(
          "-1", origin: .flag("heat"), expected: "a number from 0.0 to 2.0", nearest: nil))
  }

  @Test("flag wins over environment, that over file, that over default")
  func precedence() throws {
    let file = FileManager.default.temporaryDirectory
      .appendingPathComponent("step3-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data(#"{"salt": 2, "guest": ["x", "y"], "lid": false}"#.utf8).write(to: file)
    #expect(try parse("cook").integer("salt") == 1)
    let fromFile = try parse("cook", "--config", file.path)
    #expect(fromFile.integer("salt") == 2)
    #expect(fromFile.strings("guest") == ["x", "y"])
    #expect(!fromFile.isOn("lid"))
    let environment = ["STEP3_SALT": "3", "STEP3_CONFIG": file.path, "STEP3_GUEST": #"["p","q"]"#]
    let fromEnvironment = try parse("cook", environment: environment)
    #expect(fromEnvironment.integer("salt") == 3)
    #expect(fromEnvironment.strings("guest") == ["p", "q"])
    #expect(fromEnvironment.origin(of: "salt") == .environment(variable: "STEP3_SALT"))
    #expect(try parse("cook", "--salt", "4", environment: environment).integer("salt") == 4)
    #expect(!fromEnvironment.isGiven("pot"))
  }

  @Test("an unknown key of the file is refused with the nearest one")
  func unknownKey() throws {
    let file = FileManager.default.temporaryDirectory
      .appendingPathComponent("step3-\(UUID().uuidString).json")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data(#"{"sallt": 2}"#.utf8).write(to: file)
    #expect(
      failure("cook", "--config", file.path)
        == .unknownKey("sallt", file: file.path, nearest: "salt"))
    #expect(
      failure("cook", "--config", "/nowhere.json")
        == .badConfigurationFile("/nowhere.json", reason: "cannot be read; check the path"))
  }

  @Test("the first argument is the model when it names a folder, or is one too many")
  func model() throws {
    let folder = FileManager.default.temporaryDirectory.path
    #expect(try parse("cook", folder, "soup").model == folder)
    #expect(try parse("cook", folder).model == folder)
    #expect(try parse("cook", "no-folder", "soup").model == "no-folder")
    #expect(try parse("cook", "soup").argument("DISH") == "soup")
    #expect(try parse("cook", "--model", "m", "soup").argument("DISH") == "soup")
  }

  @Test("a repeated flag takes the plain words after it when there are no arguments")
  func greedy() throws {
    let arguments = try parse("bench", "serve", "--dish", "a", "b", "--to", "me", "--dish", "c")
    #expect(arguments.strings("dish") == ["a", "b", "c"])
  }

  @Test("after -- everything is an argument")
  func doubleDash() throws {
    #expect(try parse("cook", "--", "--salt").argument("DISH") == "--salt")
  }

  @Test("wrong usage is named, with the nearest valid spelling")
  func usage() {
    #expect(failure() == .noCommand)
    #expect(failure("cok") == .unknownCommand("cok", nearest: "cook"))
    #expect(failure("bench") == .incompleteCommand("bench", choices: ["serve"]))
    #expect(failure("bench", "srve") == .unknownCommand("bench srve", nearest: "bench serve"))
    #expect(
      failure("cook", "--slat", "1") == .unknownFlag("--slat", command: "cook", nearest: "--salt"))
    #expect(
      failure("cook", "--log_level", "info")
        == .unknownFlag("--log_level", command: "cook", nearest: "--log-level"))
    #expect(failure("cook", "--salt") == .missingValue(flag: "salt", placeholder: "N"))
    #expect(failure("cook", "--salt", "1", "--salt", "2") == .givenTwice(flag: "salt"))
    #expect(failure("cook", "--lid=true") == .unexpectedValue(flag: "lid", value: "true"))
    #expect(
      failure("cook", "--style", "fryed")
        == .badValue(
          "fryed", origin: .flag("style"), expected: "one of boiled, fried", nearest: "fried"))
    #expect(failure("cook", "a", "b", "c") == .tooManyArguments(first: "c", command: "cook"))
    #expect(failure("bench", "serve") == .missingFlag("to", command: "bench serve"))
    #expect(
      failure("cook", environment: ["STEP3_SALT": "much"])
        == .badValue(
          "much", origin: .environment(variable: "STEP3_SALT"),
          expected: "a whole number from 0 to 9", nearest: nil))
    #expect(failure("cook", "-x") == .unknownFlag("-x", command: "cook", nearest: nil))
  }

  @Test("a variable that belongs to no flag is found")
  func unknownVariable() {
    let found = table.unknownVariables(["STEP3_SLAT": "1", "STEP3_SALT": "1", "HOME": "x"])
    #expect(found.map(\.name) == ["STEP3_SLAT"])
    #expect(found.first?.nearest == "STEP3_SALT")
  }

  @Test("every command has help that shows its flags, defaults and example")
  func help() throws {
    guard case .help(let text) = try table.request(["cook", "--help"], environment: [:]) else {
      Issue.record("no help")
      return
    }
    for part in ["--salt N", "how much (1)", "--no-lid", "step3 cook --salt 2 soup", "[DISH]"] {
      #expect(text.contains(part))
    }
    guard case .help(let group) = try table.request(["bench", "--help"], environment: [:]) else {
      Issue.record("no help for the group")
      return
    }
    #expect(group.contains("bench serve"))
    guard case .version = try table.request(["--version"], environment: [:]) else {
      Issue.record("no version")
      return
    }
  }
}

@Suite("Sizes")
struct ByteSizeTests {
  @Test(
    "sizes are read with binary and decimal units",
    arguments: [
      ("4096", 4096), ("8GiB", 8 << 30), ("8G", 8 << 30), ("512MB", 512_000_000),
      ("1.5 KiB", 1536), ("0", 0), ("2tib", 2 << 40),
    ])
  func reading(_ text: String, _ byteCount: Int) {
    #expect(ByteSize(text)?.byteCount == byteCount)
  }

  @Test(
    "what is no size is refused", arguments: ["", "x", "-1", "1.5", "8Gb/s", "1e3", "9999999T"])
  func refusing(_ text: String) {
    #expect(ByteSize(text) == nil)
  }

  @Test("sizes are written with three digits")
  func words() {
    #expect(ByteSize.words(999) == "999 B")
    #expect(ByteSize.words(1 << 30) == "1.00 GiB")
    #expect(ByteSize.words(15_728_640) == "15.0 MiB")
    #expect(ByteSize.words(326 << 30) == "326 GiB")
    #expect(ByteSize.decimal(-0.005, digits: 1) == "0.0")
    #expect(ByteSize.decimal(1.05, digits: 1) == "1.1")
  }
}
