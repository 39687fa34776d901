package import JSONScanning

extension ChatTemplate {
  /// The text that stands for an image in a prompt.
  package static let imagePlaceholder = "<im_patch>"

  /// Messages as this template can render them.
  ///
  /// A template that writes the placeholder itself gets content as parts. Others only know strings:
  /// for them texts and placeholders are joined by line breaks, in order.
  package func placingImages(in messages: [JSONValue]) -> [JSONValue] {
    if source.contains(Self.imagePlaceholder) { return messages }
    return messages.map { message in
      guard case .object(var fields) = message, let parts = fields["content"]?.array,
        parts.contains(where: { $0["type"]?.string == "image" })
      else { return message }
      let lines = parts.map { part in
        part["type"]?.string == "image"
          ? Self.imagePlaceholder : part["text"]?.string ?? part.string ?? ""
      }
      fields["content"] = .string(lines.joined(separator: "\n"))
      return .object(fields)
    }
  }
}
