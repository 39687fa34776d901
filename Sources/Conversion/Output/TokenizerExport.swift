import JSONScanning

/// Writes the tokenizer of a GGUF file in the form of HF's tokenizer.json.
struct TokenizerExport {
  let vocabulary: GGUFVocabulary
  let contextLength: Int
  /// Special tokens behind the last row of the embedding, which may have more rows than tokens.
  var imageTokens: [(id: Int, text: String)] = []
  /// A chat template instead of the vocabulary's own.
  var visionTemplate: String?

  /// The chat template to ship.
  var chatTemplate: String? { visionTemplate ?? vocabulary.chatTemplate }

  /// Tokens that end an answer wherever a vocabulary has them as control tokens.
  private static let endNames: Set<String> = [
    "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>",
  ]

  /// The begin, end and padding ids; the file's own end id comes first.
  static func specialIDs(_ vocabulary: GGUFVocabulary) -> SpecialIDs {
    var ends = vocabulary.endID.map { [$0] } ?? []
    for (id, token) in vocabulary.tokens.enumerated()
    where endNames.contains(token) && vocabulary.kind(id) == .control && !ends.contains(id) {
      ends.append(id)
    }
    var ids = SpecialIDs()
    ids.begin = vocabulary.beginID
    ids.end = ends
    ids.padding = vocabulary.paddingID
    return ids
  }

  /// The text of tokenizer.json.
  func tokenizer() throws(ConversionError) -> JSONValue {
    guard vocabulary.model == "gpt2" else {
      throw .unsupportedTokenizer(path: vocabulary.path, model: vocabulary.model)
    }
    guard let split = PreTokenizerRule(rawValue: vocabulary.preTokenizer) else {
      throw .unsupportedTokenizer(
        path: vocabulary.path,
        model: "\(vocabulary.model) with the splitting rule \(vocabulary.preTokenizer)")
    }
    var model = JSONObject()
    model["type"] = "BPE"
    for key in ["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
      model[key] = .null
    }
    model["fuse_unk"] = false
    model["byte_fallback"] = false
    model["ignore_merges"] = .boolean(split.ignoresMerges)
    var ids = JSONObject()
    for (id, token) in vocabulary.tokens.enumerated() { ids[token] = .integer(id) }
    model["vocab"] = .object(ids)
    for (rank, merge) in vocabulary.merges.enumerated() {
      guard merge.utf8.split(separator: UInt8(ascii: " ")).count == 2 else {
        throw .invalidTokenizer(
          path: vocabulary.path, fact: "merge \(rank) \"\(merge)\" is not a pair of tokens")
      }
    }
    model["merges"] = .array(vocabulary.merges.map { .string($0) })

    var json = JSONObject()
    json["version"] = "1.0"
    json["truncation"] = .null
    json["padding"] = .null
    json["added_tokens"] = .array(
      addedTokens.map { id, token, isSpecial in
        .object(addedToken(token, id: id, isSpecial: isSpecial))
      })
    json["normalizer"] = .null
    json["pre_tokenizer"] = split.json
    json["post_processor"] = postProcessor
    json["decoder"] = [
      "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
    ]
    json["model"] = .object(model)
    return .object(json)
  }

  /// The content of tokenizer_config.json.
  var configuration: JSONValue {
    var json = JSONObject()
    json["add_bos_token"] = .boolean(vocabulary.addsBegin)
    json["add_prefix_space"] = false
    var decoder = JSONObject()
    for (id, token, isSpecial) in addedTokens {
      decoder["\(id)"] = .object(addedToken(token, isSpecial: isSpecial))
    }
    json["added_tokens_decoder"] = .object(decoder)
    let named = [
      ("bos_token", vocabulary.beginID), ("eos_token", vocabulary.endID),
      ("unk_token", vocabulary.unknownID), ("pad_token", vocabulary.paddingID),
    ]
    for (key, id) in named {
      json[key] = id.map { .string(vocabulary.tokens[$0]) } ?? .null
    }
    if let template = chatTemplate { json["chat_template"] = .string(template) }
    json["clean_up_tokenization_spaces"] = false
    json["model_max_length"] = .integer(contextLength)
    json["tokenizer_class"] = "PreTrainedTokenizerFast"
    return .object(json)
  }

  /// Ids, texts and specialness of the tokens that are matched as a whole.
  private var addedTokens: [(Int, String, Bool)] {
    let own: [(Int, String, Bool)] = vocabulary.tokens.enumerated().compactMap { id, token in
      switch vocabulary.kind(id) {
      case .control, .unknown: (id, token, true)
      case .userDefined: (id, token, false)
      default: nil
      }
    }
    return own
      + imageTokens.map { ($0.id, $0.text, true) }
  }

  private func addedToken(_ token: String, id: Int? = nil, isSpecial: Bool) -> JSONObject {
    var entry = JSONObject()
    if let id { entry["id"] = .integer(id) }
    entry["content"] = .string(token)
    for key in ["lstrip", "normalized", "rstrip", "single_word"] { entry[key] = false }
    entry["special"] = .boolean(isSpecial)
    return entry
  }

  private var postProcessor: JSONValue {
    guard vocabulary.addsBegin, let id = vocabulary.beginID else { return .null }
    let begin = JSONValue.string(vocabulary.tokens[id])
    func special(_ type: Int) -> JSONValue {
      ["SpecialToken": ["id": begin, "type_id": .integer(type)]]
    }
    func sequence(_ name: String, _ type: Int) -> JSONValue {
      ["Sequence": ["id": .string(name), "type_id": .integer(type)]]
    }
    var tokens = JSONObject()
    tokens[vocabulary.tokens[id]] = [
      "id": begin, "ids": [.integer(id)], "tokens": [begin],
    ]
    return [
      "type": "TemplateProcessing",
      "single": [special(0), sequence("A", 0)],
      "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
      "special_tokens": .object(tokens),
    ]
  }
}

extension GGUFVocabulary {
  /// What token `id` is; normal where the file states no kinds.
  func kind(_ id: Int) -> Kind { kinds.isEmpty ? .normal : kinds[id] }
}

/// The rules that split text before merging, by the names that GGUF files use.
enum PreTokenizerRule: String {
  case smollm
  case starcoder
  case refact
  case gpt2 = "gpt-2"
  case llama3 = "llama-bpe"
  case qwen2

  /// Whether a piece that is a token is taken whole, whatever the merges say.
  var ignoresMerges: Bool { self == .llama3 }

  var json: JSONValue {
    switch self {
    case .smollm, .starcoder, .refact:
      [
        "type": "Sequence",
        "pretokenizers": [
          ["type": "Digits", "individual_digits": true], Self.byteLevel(splits: true),
        ],
      ]
    case .gpt2: Self.byteLevel(splits: true)
    case .llama3: Self.sequence(Self.llama3Pattern)
    case .qwen2: Self.sequence(Self.qwen2Pattern)
    }
  }

  private static let llama3Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"#
    + #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let qwen2Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"#
    + #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

  private static func byteLevel(splits: Bool) -> JSONValue {
    [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
      "use_regex": .boolean(splits),
    ]
  }

  private static func sequence(_ pattern: String) -> JSONValue {
    [
      "type": "Sequence",
      "pretokenizers": [
        [
          "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated",
          "invert": false,
        ],
        byteLevel(splits: false),
      ],
    ]
  }
}
