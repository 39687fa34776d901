import CommandLineInterface
import JSONScanning
import Tokenization

/// `step3 tokenize`: text to token ids, and back.
struct TokenizeCommand: Command {
  static let specification = CommandSpecification(
    "tokenize", abstract: "Turn text into token ids, and back.",
    example: "step3 tokenize --model DIR --text 'Hello, world!'", takesModel: true,
    flags: [
      .string("text", "T", help: "the text, or the ids with --decode (default: standard input)"),
      .string("chat", "FILE", help: "messages as JSON: an array, or an object with more variables"),
      .toggle("generation-prompt", default: true, help: "end a chat with the answer's beginning"),
      .toggle("decode", help: "take ids (a JSON array, or separated by white space), print text"),
      .toggle("add-special-tokens", help: "add the tokens that tokenizer.json puts around a text"),
      .toggle("special", default: true, help: "recognize added tokens in the text"),
      .toggle("skip-special-tokens", help: "leave special tokens out of decoded text"),
    ],
    discussion: """
      Ids are printed on one line, separated by spaces, as --decode reads them. JSON has the ids,
      the tokens as tokenizer.json spells them, and their count. --chat renders messages with the
      checkpoint's chat template first: its file holds an array of messages, or an object with
      "messages", "tools" and whatever else the template knows; JSON then has the prompt as "text".
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let tokenizer = try Tokenizer(directory: arguments.model)
    if let path = arguments.optionalString("chat") {
      let prompt = try ChatFile(path: path).prompt(
        tokenizer, model: arguments.model, withPrompt: arguments.isOn("generation-prompt"))
      return print(try tokenizer.encode(prompt), tokenizer, arguments, prompt: prompt)
    }
    let input = arguments.optionalString("text") ?? StandardInput.text()
    if arguments.isOn("decode") {
      try decode(input, tokenizer, arguments)
    } else {
      let ids = try tokenizer.encode(
        input, addingSpecialTokens: arguments.isOn("add-special-tokens"),
        recognizing: arguments.isOn("special") ? .recognizeAll : .recognizeNone)
      print(ids, tokenizer, arguments)
    }
  }

  private static func print(
    _ ids: [TokenID], _ tokenizer: Tokenizer, _ arguments: ParsedArguments, prompt: String? = nil
  ) {
    guard arguments.wantsJSON else {
      StandardOutput.write(ids.map { "\($0)" }.joined(separator: " ") + "\n")
      return
    }
    var document = JSONObject()
    document["ids"] = .array(ids.map { .integer(Int($0)) })
    document["tokens"] = .array(ids.map { .string(tokenizer.spelling(of: $0) ?? "") })
    document["count"] = .integer(ids.count)
    document["text"] = prompt.map { .string($0) }
    StandardOutput.write(JSONValue.object(document).text() + "\n")
  }

  private static func decode(
    _ input: String, _ tokenizer: Tokenizer, _ arguments: ParsedArguments
  ) throws {
    let ids = try parseIDs(input)
    let text = try tokenizer.decode(
      ids, skippingSpecialTokens: arguments.isOn("skip-special-tokens"))
    let document: JSONValue = ["text": .string(text), "count": .integer(ids.count)]
    StandardOutput.write(arguments.wantsJSON ? document.text() + "\n" : text)
  }

  /// Ids as a JSON array, or as numbers separated by white space or commas.
  private static func parseIDs(_ input: String) throws -> [TokenID] {
    let separators = input.drop { $0.isWhitespace }.first == "[" ? "[]," : ","
    let words = input.split { $0.isWhitespace || separators.contains($0) }
    return try words.map { word in
      guard let id = TokenID(word) else {
        throw CommandFailure(
          .usage, code: "bad_id",
          "'\(word)' is not a token id; give a JSON array or numbers separated by spaces")
      }
      return id
    }
  }
}
