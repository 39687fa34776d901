internal import JSONScanning

/// The parts of a tokenizer.json as they stand in the file.
///
/// `truncation` and `padding` describe batches of equal length and are left to the caller, as
/// transformers resets them at every call.
struct TokenizerFile {
  private(set) var addedTokens: [AddedToken] = []
  private(set) var normalizer: JSONValue?
  private(set) var preTokenizer: JSONValue?
  private(set) var postProcessor: JSONValue?
  private(set) var decoder: JSONValue?
  /// Spellings of the vocabulary end to end, the end of each, and their ids.
  private(set) var spellings: [UInt8] = []
  private(set) var spellingEnds: [Int] = []
  private(set) var ids: [TokenID] = []
  /// Both halves of every merge end to end, and the end of each half.
  private(set) var merges: [UInt8] = []
  private(set) var mergeEnds: [Int] = []
  private(set) var ignoresMerges = false
  /// What stands for bytes without a token.
  private(set) var unknownToken: String?
  private var hasModel = false

  /// Reads a whole file.
  init(parsing bytes: [UInt8]) throws(TokenizerError) {
    do {
      var scanner = JSONScanner(bytes.span)
      try read(&scanner)
      try scanner.finish()
    } catch let error as JSONError {
      throw .json(file: "tokenizer.json", error)
    } catch let error as TokenizerError {
      throw error
    } catch {
      throw .malformed(member: "tokenizer.json", expected: "a tokenizer")
    }
    guard hasModel else { throw .malformed(member: "model", expected: "an object") }
  }

  private mutating func read(_ scanner: inout JSONScanner) throws {
    try scanner.enterObject()
    while let key = try scanner.nextKey() {
      switch key {
      case "added_tokens":
        guard let list = try scanner.readValue().array else {
          throw TokenizerError.malformed(member: key, expected: "an array")
        }
        addedTokens = try list.map(Self.addedToken)
      case "normalizer": normalizer = try scanner.readValue()
      case "pre_tokenizer": preTokenizer = try scanner.readValue()
      case "post_processor": postProcessor = try scanner.readValue()
      case "decoder": decoder = try scanner.readValue()
      case "model": try readModel(&scanner)
      default: try scanner.skipValue()
      }
    }
  }

  private static func addedToken(_ value: JSONValue) throws -> AddedToken {
    guard let content = value["content"]?.string else {
      throw TokenizerError.malformed(member: "added_tokens content", expected: "a string")
    }
    guard let id = value["id"]?.integer else {
      throw TokenizerError.malformed(member: "added_tokens id", expected: "an integer")
    }
    guard 0..<Vocabulary.idLimit ~= id else {
      throw TokenizerError.invalidID(id, token: content)
    }
    let isSpecial = try value.flag("special", default: false)
    return AddedToken(
      id: TokenID(id), content: content, isSpecial: isSpecial,
      isNormalized: try value.flag("normalized", default: !isSpecial),
      isSingleWord: try value.flag("single_word", default: false),
      stripsLeft: try value.flag("lstrip", default: false),
      stripsRight: try value.flag("rstrip", default: false))
  }

  // MARK: Model

  private mutating func readModel(_ scanner: inout JSONScanner) throws {
    guard !hasModel else {
      throw TokenizerError.malformed(member: "model", expected: "given once")
    }
    hasModel = true
    try scanner.enterObject()
    while let key = try scanner.nextKey() {
      switch key {
      case "vocab": try readVocabulary(&scanner)
      case "merges": try readMerges(&scanner)
      default: try readSetting(key, try scanner.readValue())
      }
    }
  }

  private mutating func readSetting(_ key: String, _ value: JSONValue) throws {
    switch (key, value) {
    case ("type", .string("BPE")), (_, .null), (_, .boolean(false)): return
    case ("dropout", .integer(0)), ("dropout", .number(0)): return
    case ("continuing_subword_prefix", .string("")), ("end_of_word_suffix", .string("")): return
    case ("unk_token", .string(let token)): unknownToken = token
    case ("ignore_merges", .boolean(true)): ignoresMerges = true
    default:
      throw TokenizerError.unsupported(
        component: "model.\(key)", value: value.string ?? value.text())
    }
  }

  private mutating func readVocabulary(_ scanner: inout JSONScanner) throws {
    try scanner.enterObject()
    while try scanner.nextKey(into: &spellings) {
      let id = try scanner.readInteger()
      guard 0..<Vocabulary.idLimit ~= id else {
        let spelling = spellings[(spellingEnds.last ?? 0)...]
        throw TokenizerError.invalidID(id, token: String(decoding: spelling, as: UTF8.self))
      }
      spellingEnds.append(spellings.count)
      ids.append(TokenID(id))
    }
  }

  /// Merges are strings "left right" in older files, pairs ["left", "right"] in newer ones.
  private mutating func readMerges(_ scanner: inout JSONScanner) throws {
    try scanner.enterArray()
    while try scanner.nextElement() {
      if try scanner.peekKind() == .string {
        try readSpacedMerge(&scanner)
        continue
      }
      try scanner.enterArray()
      var count = 0
      while try scanner.nextElement() {
        try scanner.readString(into: &merges)
        mergeEnds.append(merges.count)
        count += 1
      }
      guard count == 2 else { throw malformedMerge() }
    }
  }

  private mutating func readSpacedMerge(_ scanner: inout JSONScanner) throws {
    let start = merges.count
    try scanner.readString(into: &merges)
    let blank = UInt8(ascii: " ")
    guard let place = merges[start...].firstIndex(of: blank),
      merges.last != blank, place > start, !merges[(place + 1)...].contains(blank)
    else { throw malformedMerge() }
    merges.remove(at: place)
    mergeEnds.append(place)
    mergeEnds.append(merges.count)
  }

  private func malformedMerge() -> TokenizerError {
    .malformed(member: "model.merges[\(mergeEnds.count / 2)]", expected: "two tokens")
  }
}
