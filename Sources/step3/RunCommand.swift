import CommandLineInterface
import Inference
import JSONScanning
import OutputParsing
import Tokenization

/// `step3 run`: one prompt, one answer.
struct RunCommand: Command {
  static let specification = CommandSpecification(
    "run", abstract: "Answer one prompt.",
    example: "step3 run --model DIR --temperature 0 'Why is the sky blue?'", takesModel: true,
    arguments: [
      Argument("PROMPT", required: false, help: "the prompt (default: standard input)")
    ],
    flags: [
      .toggle("raw", help: "continue the prompt as it is, without the chat template"),
      .integerList("ids", help: "the prompt as token ids, without the chat template"),
      ImageFlags.files,
    ] + GenerationFlags.all,
    discussion: """
      Images stand before the prompt. With --raw and --ids they stand where the prompt holds
      <im_patch>.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    let given = try promptText(arguments)
    let conversation = try await Conversation(arguments)
    let prompt = try prompt(given, conversation, arguments)
    let signals = SignalWatch { _ in }
    let streams = !arguments.wantsJSON
    let answer = try await conversation.answer(
      to: prompt, arguments, startsInReasoning: nil, watching: signals
    ) { event in
      if streams, case .content(let text) = event { StandardOutput.write(text) }
    }
    if let code = signals.received { throw StoppedBySignal(code) }
    if streams {
      StandardOutput.write("\n")
    } else {
      StandardOutput.write(document(answer, conversation).text() + "\n")
    }
  }

  /// The prompt as text; nil when it is given as ids.
  private static func promptText(_ arguments: ParsedArguments) throws -> String? {
    if arguments.isGiven("system"), arguments.isOn("raw") || arguments.isGiven("ids") {
      throw CommandFailure(
        .usage, code: "usage",
        "--system needs the chat template, which --raw and --ids leave out; drop one of them")
    }
    if arguments.isGiven("ids") {
      if arguments.argument("PROMPT") != nil {
        throw CommandFailure(
          .usage, code: "usage", "PROMPT and --ids exclude each other; give the prompt once")
      }
      return nil
    }
    let text = arguments.argument("PROMPT") ?? StandardInput.text()
    guard text.contains(where: { !$0.isWhitespace }) || (arguments.isOn("raw") && !text.isEmpty)
    else { throw InferenceError.emptyPrompt }
    return text
  }

  private static func prompt(
    _ text: String?, _ conversation: Conversation, _ arguments: ParsedArguments
  ) throws -> Prompt {
    let images = try arguments.strings(ImageFlags.files.name).map {
      try ImageFlags.read($0, conversation.images, arguments)
    }
    guard let text else {
      return try conversation.prompt(ids: arguments.integers("ids"), images: images)
    }
    if arguments.isOn("raw") {
      let ids = try conversation.tokenizer.encode(text).map(Int.init)
      return try conversation.prompt(ids: ids, images: images)
    }
    var messages: [JSONValue] = []
    if let system = arguments.optionalString("system") {
      messages.append(["role": "system", "content": .string(system)])
    }
    messages.append(.user(text, imageCount: images.count))
    return try conversation.prompt(messages, images: images).prompt
  }

  private static func document(_ answer: Answer, _ conversation: Conversation) -> JSONValue {
    let rates = answer.rates
    return [
      "text": .string(answer.text), "ids": .array(answer.ids.map { .integer($0) }),
      "finish_reason": .string(answer.finishReason),
      "usage": [
        "prompt_tokens": .integer(answer.promptCount),
        "completion_tokens": .integer(answer.ids.count),
        "total_tokens": .integer(answer.promptCount + answer.ids.count),
      ],
      "timings": [
        "prefill_tokens_per_second": .number(rates.prefill),
        "decode_tokens_per_second": .number(rates.decode),
        "load_seconds": .number(conversation.loadSeconds),
      ],
    ]
  }
}

extension JSONValue {
  /// A user's turn with images before its text.
  static func user(_ text: String, imageCount: Int) -> JSONValue {
    if imageCount == 0 { return ["role": "user", "content": .string(text)] }
    let images = [JSONValue](repeating: ["type": "image"], count: imageCount)
    return ["role": "user", "content": .array(images + [["type": "text", "text": .string(text)]])]
  }
}
