import CommandLineInterface
import Foundation
import ImageProcessing
import Inference
import JSONScanning
import OutputParsing

/// `step3 chat`: a conversation in the terminal.
struct ChatCommand: Command {
  static let specification = CommandSpecification(
    "chat", abstract: "Talk with a model in the terminal.", example: "step3 chat --model DIR",
    takesModel: true, flags: GenerationFlags.all,
    discussion: """
      Lines are sent as they are; these begin a command: /system TEXT sets the system message and
      starts over, /image FILE shows an image with the next line, /retry answers the last line
      again, /save FILE writes the conversation as JSON, /exit ends. Ctrl-C stops the answer, and
      at the prompt the program. Reasoning is shown dimmed.
      """)

  static func run(_ arguments: ParsedArguments) async throws {
    var chat = Chat(
      conversation: try await Conversation(arguments), arguments: arguments,
      system: arguments.optionalString("system"))
    try await chat.loop()
  }
}

/// The state of a conversation.
private struct Chat {
  let conversation: Conversation
  let arguments: ParsedArguments
  var system: String?
  var messages: [JSONValue] = []
  /// The images of all messages, in order, and those for the next line.
  var images: [PromptImage] = []
  var pending: [PromptImage] = []

  mutating func loop() async throws {
    let isTerminal = StandardInput.isTerminal
    if isTerminal { StandardError.write("\(conversation.folder.path) is ready; /exit ends.\n") }
    while true {
      if isTerminal { StandardError.write("> ") }
      guard let line = readLine() else { return }
      let words = line.split(separator: " ", maxSplits: 1).map(String.init)
      let rest = words.count > 1 ? words[1] : ""
      switch words.first ?? "" {
      case "": continue
      case "/exit", "/quit": return
      case "/system":
        system = rest.isEmpty ? nil : rest
        messages = []
        images = []
        StandardError.write("system message set, conversation started over\n")
      case "/retry": try await retry()
      case "/save": save(to: rest)
      case "/image":
        show(rest)
      case let word where word.hasPrefix("/"):
        StandardError.write("unknown command \(word); known: /system /image /retry /save /exit\n")
      default:
        messages.append(.user(line, imageCount: pending.count))
        images += pending
        pending = []
        try await reply()
      }
    }
  }

  private mutating func show(_ path: String) {
    guard !path.isEmpty else {
      StandardError.write("usage: /image FILE\n")
      return
    }
    do {
      let image = try ImageFlags.read(path, conversation.images, arguments)
      pending.append(image)
      let count = image.prepared.tokenCount
      StandardError.write("\(path) goes with the next line, \(count) tokens\n")
    } catch { StandardError.write("\(error)\n") }
  }

  private mutating func retry() async throws {
    guard let last = messages.lastIndex(where: { $0["role"]?.string == "user" }) else {
      StandardError.write("nothing to retry yet\n")
      return
    }
    messages.removeSubrange((last + 1)...)
    try await reply()
  }

  private mutating func reply() async throws {
    let opening: [JSONValue] = system.map { [["role": "system", "content": .string($0)]] } ?? []
    let prompt = try conversation.prompt(opening + messages, images: images)
    let trimmed = prompt.text.trimmingCharacters(in: .whitespacesAndNewlines)
    let thinks = trimmed.hasSuffix("<think>")
    let dims = StandardOutput.isTerminal
    let signals = SignalWatch { _ in }
    var isDim = false
    let answer: Answer
    do {
      answer = try await conversation.answer(
        to: prompt.prompt, arguments, startsInReasoning: thinks, watching: signals
      ) { event in
        let wantsDim = if case .reasoning = event { true } else { false }
        if dims && wantsDim != isDim {
          StandardOutput.write(wantsDim ? "\u{1B}[2m" : "\u{1B}[0m\n")
          isDim = wantsDim
        }
        switch event {
        case .reasoning(let text), .content(let text): StandardOutput.write(text)
        default: break
        }
      }
    } catch let error as InferenceError {
      // A conversation that has outgrown the context is the person's to shorten, not the end.
      StandardError.write("\(error)\n")
      let lost = messages.removeLast()["content"]?.array?.count { $0["type"]?.string == "image" }
      images.removeLast(lost ?? 0)
      return
    }
    StandardOutput.write(isDim ? "\u{1B}[0m\n" : "\n")
    messages.append(["role": "assistant", "content": .string(answer.text)])
    if signals.received == .terminated { throw StoppedBySignal(.terminated) }
  }

  private func save(to path: String) {
    let opening: [JSONValue] = system.map { [["role": "system", "content": .string($0)]] } ?? []
    let text = JSONValue.array(opening + messages).text() + "\n"
    guard !path.isEmpty, FileManager.default.createFile(atPath: path, contents: Data(text.utf8))
    else {
      StandardError.write("cannot write '\(path)'; usage: /save FILE\n")
      return
    }
    StandardError.write("saved to \(path)\n")
  }
}
