package import ConstrainedDecoding
package import JSONScanning

/// A model's text side as the server needs it: tokenizer, chat template and their facts.
///
/// The real one stands on a checkpoint's files; tests use one of bytes.
package protocol ModelText: Sendable {
  /// Token ids of plain text; special tokens written out in it are recognised.
  func encode(_ text: String, addsSpecialTokens: Bool) throws(APIError) -> [Int]

  /// Token ids of what `render` gave: the template's markers are recognised, what messages and
  /// tools spell out is their text.
  func encode(rendered: String, addsSpecialTokens: Bool) throws(APIError) -> [Int]

  /// The bytes a token stands for; for a special token those of its name.
  func bytes(of token: Int) -> [UInt8]

  /// Whether a token is special: left out of text unless asked for.
  func isSpecial(_ token: Int) -> Bool

  /// The prompt for a conversation, as text for `encode(rendered:addsSpecialTokens:)`.
  func render(_ input: ChatTemplateInput) throws(APIError) -> String

  /// All tokens by their bytes, for constraints.
  var vocabulary: TokenVocabulary { get }

  /// Facts for `/tokenizer_info`.
  var information: JSONValue { get }
}

/// What a chat template sees.
package struct ChatTemplateInput: Sendable {
  /// The messages, normalised: content is a string or a list of parts.
  package var messages: [JSONValue]
  /// The tools in OpenAI's form, nil when there are none.
  package var tools: [JSONValue]?
  /// Whether the prompt ends with the opening of an assistant turn.
  package var addsGenerationPrompt = true
  /// Whether the last message is continued instead of closed.
  package var continuesFinalMessage = false
  /// Further variables: `chat_template_kwargs`, `reasoning_effort`, `documents`.
  package var variables = JSONObject()
  /// A template that replaces the checkpoint's.
  package var template: String?

  package init(messages: [JSONValue], tools: [JSONValue]? = nil) {
    self.messages = messages
    self.tools = tools
  }

  /// Whether the client wants an answer without thinking. Templates may not know how to: Step3's
  /// opens a think block whatever it is told.
  var declinesThinking: Bool {
    let wishes = ["enable_thinking", "thinking"].compactMap { variables[$0]?.boolean }
    return wishes.contains(false) && !wishes.contains(true)
  }
}

extension ModelText {
  /// The same as for plain text, for tokenizers whose markers nobody can spell.
  package func encode(rendered: String, addsSpecialTokens: Bool) throws(APIError) -> [Int] {
    try encode(rendered, addsSpecialTokens: addsSpecialTokens)
  }

  /// The text of tokens, special ones left out if told so.
  func text(of tokens: [Int], skipsSpecial: Bool) -> String {
    var bytes: [UInt8] = []
    for token in tokens where !(skipsSpecial && isSpecial(token)) { bytes += self.bytes(of: token) }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// One token's text as clients see it in logprobs; a part of a character shows U+FFFD.
  func text(of token: Int) -> String {
    String(decoding: bytes(of: token), as: UTF8.self)
  }
}
