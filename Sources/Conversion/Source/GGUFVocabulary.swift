/// The tokenizer that a GGUF file carries: tokens, their kinds, merges and the chat template.
package struct GGUFVocabulary: Sendable, Equatable {
  /// What a token is, by GGUF's numbers.
  package enum Kind: UInt8, Sendable {
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  /// Where the tokenizer comes from, for messages.
  package var path: String
  /// The algorithm: `gpt2` is byte-level BPE.
  package var model: String
  /// The name of the rule that splits text before merging.
  package var preTokenizer: String
  /// The tokens by id; ids beyond it are padding of the embedding table.
  package var tokens: [String]
  /// The kinds by id; empty when the file states none.
  package var kinds: [Kind]
  /// Pairs to merge, best first, as `left right`.
  package var merges: [String]
  package var beginID: Int?
  package var endID: Int?
  package var unknownID: Int?
  package var paddingID: Int?
  package var addsBegin: Bool
  package var chatTemplate: String?

  /// Reads and checks the tokenizer keys of a GGUF file.
  init(_ file: GGUFFile, rowCount: Int) throws(ConversionError) {
    path = file.path
    do throws(GGUFError) {
      model = try file.required("tokenizer.ggml.model", file.string("tokenizer.ggml.model"))
      preTokenizer = try file.string("tokenizer.ggml.pre") ?? "default"
      tokens = try file.required("tokenizer.ggml.tokens", file.strings("tokenizer.ggml.tokens"))
      merges = try file.strings("tokenizer.ggml.merges") ?? []
      beginID = try file.count("tokenizer.ggml.bos_token_id")
      endID = try file.count("tokenizer.ggml.eos_token_id")
      unknownID = try file.count("tokenizer.ggml.unknown_token_id")
      paddingID = try file.count("tokenizer.ggml.padding_token_id")
      addsBegin = try file.bool("tokenizer.ggml.add_bos_token") ?? false
      chatTemplate = try file.string("tokenizer.chat_template")
    } catch {
      throw .gguf(error)
    }
    kinds = []
    if let value = file.metadata["tokenizer.ggml.token_type"] {
      guard case .array(let numbers) = value else {
        throw .invalidTokenizer(path: path, fact: "token_type is \(value.summary)")
      }
      for (id, number) in numbers.enumerated() {
        guard let kind = number.count.flatMap({ UInt8(exactly: $0) }).flatMap(Kind.init) else {
          throw .invalidTokenizer(path: path, fact: "token \(id) has type \(number.summary)")
        }
        kinds.append(kind)
      }
    }
    try check(rowCount: rowCount)
  }

  private func check(rowCount: Int) throws(ConversionError) {
    guard tokens.count <= rowCount else {
      throw .invalidTokenizer(
        path: path, fact: "\(tokens.count) tokens for an embedding of \(rowCount) rows")
    }
    guard kinds.isEmpty || kinds.count == tokens.count else {
      throw .invalidTokenizer(
        path: path, fact: "\(kinds.count) token types for \(tokens.count) tokens")
    }
    var seen = Set<[UInt8]>()
    for (id, token) in tokens.enumerated() where !seen.insert(Array(token.utf8)).inserted {
      throw .invalidTokenizer(path: path, fact: "token \(id) \"\(token)\" occurs twice")
    }
    let named = [("bos", beginID), ("eos", endID), ("unknown", unknownID), ("padding", paddingID)]
    for (name, id) in named {
      if let id, id >= tokens.count {
        throw .invalidTokenizer(
          path: path, fact: "the \(name) id \(id) is beyond the \(tokens.count) tokens")
      }
    }
  }
}
