internal import JSONScanning

/// The tokens that tokenizer.json puts around every text.
struct PostProcessor: Sendable, Equatable {
  private(set) var prefix: [TokenID] = []
  private(set) var suffix: [TokenID] = []

  /// Reads tokenizer.json's `post_processor`.
  init(parsing value: JSONValue?) throws(TokenizerError) {
    guard let value, !value.isNull else { return }
    switch value["type"]?.string {
    // ByteLevel here only trims offsets, which are not kept.
    case "ByteLevel": return
    case "Sequence":
      guard let members = value["processors"]?.array else {
        throw .malformed(member: "post_processor.processors", expected: "an array")
      }
      for member in members {
        let inner = try PostProcessor(parsing: member)
        prefix = inner.prefix + prefix
        suffix += inner.suffix
      }
    case "TemplateProcessing": try readTemplate(value)
    case let other: throw .unsupported(component: "post_processor", value: other ?? "null")
    }
  }

  private mutating func readTemplate(_ value: JSONValue) throws(TokenizerError) {
    guard let parts = value["single"]?.array else {
      throw .malformed(member: "post_processor.single", expected: "an array")
    }
    var isAfterText = false
    for part in parts {
      if part["Sequence"]?["id"]?.string == "A" {
        isAfterText = true
        continue
      }
      guard let name = part["SpecialToken"]?["id"]?.string else {
        throw .malformed(
          member: "post_processor.single", expected: "special tokens and the sequence A")
      }
      guard let ids = value["special_tokens"]?[name]?["ids"]?.array else {
        throw .malformed(
          member: "post_processor.special_tokens.\(name).ids", expected: "an array of ids")
      }
      for id in ids {
        guard let number = id.integer, let token = TokenID(exactly: number) else {
          throw .malformed(
            member: "post_processor.special_tokens.\(name).ids", expected: "an array of ids")
        }
        if isAfterText { suffix.append(token) } else { prefix.append(token) }
      }
    }
  }
}
