internal import JSONScanning

extension ChatTemplate {
  /// Where a template came from.
  package enum Origin: Sendable, Equatable {
    /// A file of the checkpoint.
    case file(String)
    /// No file has one: `step3DefaultSource`.
    case step3Default
    /// Given by the caller.
    case source
  }

  /// The template of the checkpoint in `directory`.
  ///
  /// Taken from the first of chat_template.jinja, chat_template.json and tokenizer_config.json
  /// that has one; Step3's default otherwise. Of several named templates `default` is used, and
  /// `tool_use`, where it exists, for messages with tools.
  package init(directory: String) throws(TemplateError) {
    let file = CheckpointFile(directory: directory)
    do {
      if let bytes = try file.bytes("chat_template.jinja") {
        try self.init(
          source: String(decoding: bytes, as: UTF8.self), origin: .file("chat_template.jinja"))
        return
      }
      for name in ["chat_template.json", "tokenizer_config.json"] {
        guard let template = try file.json(name)?["chat_template"], !template.isNull else {
          continue
        }
        try self.init(template, file: name)
        return
      }
      try self.init(source: Self.step3DefaultSource, origin: .step3Default)
    } catch let error as TemplateError {
      throw error
    } catch let error as TokenizerError {
      throw .badFile(name: "chat template", problem: error.description)
    } catch {
      throw .badFile(name: "chat template", problem: "\(error)")
    }
  }

  /// The template in the member `chat_template` of a file: a text, or several with names.
  private init(_ value: JSONValue, file: String) throws(TemplateError) {
    if let source = value.string {
      try self.init(source: source, origin: .file(file))
      return
    }
    var named: [String: String] = [:]
    for entry in value.array ?? [] {
      guard let name = entry["name"]?.string, let source = entry["template"]?.string else {
        throw .badFile(name: file, problem: "chat_template must hold names and templates")
      }
      named[name] = source
    }
    guard let source = named["default"] ?? (named.count == 1 ? named.first?.value : nil) else {
      throw .badFile(name: file, problem: "chat_template has no template named default")
    }
    try self.init(source: source, toolSource: named["tool_use"], origin: .file(file))
  }
}
