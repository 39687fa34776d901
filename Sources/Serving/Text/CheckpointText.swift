package import ConstrainedDecoding
import Foundation
package import JSONScanning
package import Tokenization

/// The text side of a checkpoint: its tokenizer and its chat template.
package struct CheckpointText: ModelText {
  private let tokenizer: Tokenizer
  private let template: ChatTemplate
  /// Every token's bytes, for constraints.
  package let vocabulary: TokenVocabulary
  /// tokenizer_config.json with the template in use.
  package let information: JSONValue

  /// Reads a checkpoint's folder; a template given here stands in for the checkpoint's own.
  package init(directory: String, template: ChatTemplate? = nil, vocabularySize: Int) throws {
    let tokenizer = try Tokenizer(directory: directory)
    self.tokenizer = tokenizer
    self.template = try template ?? ChatTemplate(directory: directory)
    if self.template.origin == .step3Default {
      // The default writes markers that must be tokens, not spelled-out text.
      for token in ChatTemplate.step3DefaultTokens { _ = try tokenizer.requiredID(of: token) }
    }
    let ids = 0..<vocabularySize
    vocabulary = TokenVocabulary(
      tokenBytes: ids.map { Array(tokenizer.bytes(of: TokenID($0)) ?? []) },
      specialIDs: Set(ids.filter { tokenizer.isSpecial(TokenID($0)) }),
      endIDs: tokenizer.endTokens.map { Int($0) })
    information = Self.information(directory, self.template)
  }

  private static func information(_ directory: String, _ template: ChatTemplate) -> JSONValue {
    let url = URL(fileURLWithPath: directory).appendingPathComponent("tokenizer_config.json")
    let data = try? Data(contentsOf: url)
    let file = data.flatMap { try? JSONValue(parsing: [UInt8]($0), duplicateKeys: .keepLast) }
    var object = file?.object ?? JSONObject()
    object["tokenizer_class"] = object["tokenizer_class"] ?? "PreTrainedTokenizerFast"
    object["chat_template"] = .string(template.source)
    return .object(object)
  }

  /// Ids of text; markers written out in it are recognised.
  package func encode(_ text: String, addsSpecialTokens: Bool) throws(APIError) -> [Int] {
    try encode(text, addsSpecialTokens, .recognizeAll)
  }

  /// Ids of a rendered prompt; only the template's own markers are recognised.
  package func encode(rendered: String, addsSpecialTokens: Bool) throws(APIError) -> [Int] {
    try encode(rendered, addsSpecialTokens, .recognizeUnshielded)
  }

  private func encode(
    _ text: String, _ addsSpecialTokens: Bool, _ policy: AddedTokenPolicy
  ) throws(APIError) -> [Int] {
    do throws(TokenizerError) {
      return try tokenizer.encode(
        text, addingSpecialTokens: addsSpecialTokens, recognizing: policy
      ).map { Int($0) }
    } catch {
      throw .badField(path: "", reason: "The text cannot be tokenised: \(error).")
    }
  }

  /// The id of a token by its spelling, nil where it is no single token.
  package func id(of token: String) -> Int? { tokenizer.id(of: token).map { Int($0) } }

  /// A token's bytes, none for ids past the tokenizer's.
  package func bytes(of token: Int) -> [UInt8] {
    TokenID(exactly: token).flatMap { tokenizer.bytes(of: $0) }.map { Array($0) } ?? []
  }

  /// Whether tokenizer.json calls the token special.
  package func isSpecial(_ token: Int) -> Bool {
    TokenID(exactly: token).map { tokenizer.isSpecial($0) } ?? false
  }

  /// Runs the template.
  package func render(_ given: ChatTemplateInput) throws(APIError) -> String {
    let input = shielded(given)
    var extra: [String: JSONValue] = [:]
    for member in input.variables.members { extra[member.key] = member.value }
    let rendered: String
    do throws(TemplateError) {
      let template = try input.template.map(ChatTemplate.init(source:)) ?? template
      rendered = try template.render(
        messages: template.placingImages(in: input.messages), tools: input.tools,
        addGenerationPrompt: input.addsGenerationPrompt, bosToken: spelling(tokenizer.beginToken),
        eosToken: spelling(tokenizer.endTokens.first), extra: extra)
    } catch {
      throw .badField(path: "messages", reason: "cannot be put into the chat template: \(error).")
    }
    return input.continuesFinalMessage ? try open(rendered, input) : rendered
  }

  /// The same input with every string shielded, so that nobody can write the template's markers.
  /// Assistant turns are left alone: they are the model's, and templates look for markers in them.
  private func shielded(_ input: ChatTemplateInput) -> ChatTemplateInput {
    var input = input
    input.messages = input.messages.map {
      $0["role"]?.string == "assistant" ? $0 : shielded($0)
    }
    input.tools = input.tools?.map(shielded)
    input.variables = shielded(.object(input.variables)).object ?? input.variables
    return input
  }

  private func shielded(_ value: JSONValue) -> JSONValue {
    if let string = value.string { return .string(tokenizer.shielded(string)) }
    if let array = value.array { return .array(array.map(shielded)) }
    guard let object = value.object else { return value }
    var result = JSONObject()
    for member in object.members {
      result[tokenizer.shielded(member.key)] = shielded(member.value)
    }
    return .object(result)
  }

  /// Cuts off what closes the last message, so that the model goes on with it.
  private func open(_ rendered: String, _ input: ChatTemplateInput) throws(APIError) -> String {
    var content = input.messages.last?["content"]?.string ?? ""
    while content.last?.isWhitespace == true { content.removeLast() }
    guard !content.isEmpty, let place = rendered.range(of: content, options: .backwards) else {
      throw .badField(
        path: "continue_final_message",
        reason: "needs a last message whose content the template repeats.")
    }
    return String(rendered[..<place.upperBound])
  }

  private func spelling(_ token: TokenID?) -> String? {
    token.flatMap { tokenizer.spelling(of: $0) }
  }
}
