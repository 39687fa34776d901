import CommandLineInterface
import Foundation
import JSONScanning
import Tokenization

/// A file of messages to be rendered with a checkpoint's chat template.
struct ChatFile {
  private var messages: [JSONValue] = []
  private var tools: [JSONValue]?
  private var extra: [String: JSONValue] = [:]

  /// Reads an array of messages, or an object with `messages`, `tools` and further variables.
  init(path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CommandFailure(.usage, code: "file_not_readable", "\(path) cannot be read")
    }
    let value: JSONValue
    do {
      value = try JSONValue(parsing: [UInt8](data))
    } catch {
      throw CommandFailure(.usage, code: "bad_json", "\(path): \(error)")
    }
    guard let messages = value.array ?? value["messages"]?.array else {
      throw CommandFailure(
        .usage, code: "bad_messages",
        "\(path) must hold an array of messages, or an object with \"messages\"")
    }
    self.messages = messages
    tools = value["tools"]?.array
    for member in value.object?.members ?? []
    where member.key != "messages" && member.key != "tools" {
      extra[member.key] = member.value
    }
  }

  /// The prompt by the template of the checkpoint in `model`.
  func prompt(_ tokenizer: Tokenizer, model: String, withPrompt: Bool) throws -> String {
    let template = try ChatTemplate(directory: model)
    if template.origin == .step3Default {
      // Without these as single tokens the default's markers would be read as ordinary text.
      for token in ChatTemplate.step3DefaultTokens { _ = try tokenizer.requiredID(of: token) }
    }
    return try template.render(
      messages: messages, tools: tools, addGenerationPrompt: withPrompt,
      bosToken: tokenizer.beginToken.flatMap { tokenizer.spelling(of: $0) },
      eosToken: tokenizer.endTokens.first.flatMap { tokenizer.spelling(of: $0) }, extra: extra)
  }
}
