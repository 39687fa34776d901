internal import JSONScanning
internal import Synchronization

/// Text to tokens and back, as a checkpoint's tokenizer.json defines it.
///
/// Byte-level BPE: added tokens are cut out of the text, the rest is cut into pieces by the file's
/// own patterns (executed by PCRE2), and the bytes of each piece merge by rank. Ids equal those of
/// the Python package `tokenizers`. One instance serves any number of threads.
package final class Tokenizer: Sendable {
  let vocabulary: Vocabulary
  private let addedTokens: [AddedToken]
  private let rawMatcher: AddedTokenMatcher
  private let normalizedMatcher: AddedTokenMatcher
  /// Finds special tokens spelled out in foreign text.
  let specialMatcher: AddedTokenMatcher
  private let normalizer: Normalizer
  private let preTokenizer: PreTokenizer
  private let encoder: BytePairEncoder
  private let postProcessor: PostProcessor
  private let isSpecialID: [Bool]
  /// Working memory that is not in use, so that piece caches outlive a call.
  private let idleScratches = Mutex<[EncodingScratch]>([])

  /// The token that begins a sequence, when the checkpoint names one.
  package let beginToken: TokenID?
  /// The tokens that end a sequence, in the order in which the checkpoint names them.
  package let endTokens: [TokenID]

  /// Builds the tokenizer that `bytes`, the content of a tokenizer.json, describe.
  package convenience init(json bytes: [UInt8]) throws(TokenizerError) {
    try self.init(json: bytes, names: SequenceTokenNames())
  }

  init(json bytes: [UInt8], names: SequenceTokenNames) throws(TokenizerError) {
    let file = try TokenizerFile(parsing: bytes)
    try Self.checkDecoder(file.decoder)
    let normalizer = try Normalizer(parsing: file.normalizer)
    preTokenizer = try PreTokenizer(parsing: file.preTokenizer ?? .null)
    postProcessor = try PostProcessor(parsing: file.postProcessor)
    let vocabulary = try Vocabulary(
      spellings: file.spellings, ends: file.spellingEnds, ids: file.ids, added: file.addedTokens)
    encoder = try BytePairEncoder(file, vocabulary)
    addedTokens = file.addedTokens
    rawMatcher = AddedTokenMatcher(addedTokens.filter { !$0.isNormalized }) { $0.content }
    specialMatcher = AddedTokenMatcher(addedTokens.filter { $0.isSpecial }) { $0.content }
    normalizedMatcher = AddedTokenMatcher(addedTokens.filter { $0.isNormalized }) {
      normalizer.apply(to: $0.content)
    }
    var isSpecialID = [Bool](repeating: false, count: vocabulary.idCount)
    for token in addedTokens where token.isSpecial { isSpecialID[Int(token.id)] = true }
    (beginToken, endTokens) = try names.ids(in: vocabulary)
    self.isSpecialID = isSpecialID
    self.vocabulary = vocabulary
    self.normalizer = normalizer
  }

  private static func checkDecoder(_ value: JSONValue?) throws(TokenizerError) {
    guard let value, !value.isNull else {
      throw .unsupported(component: "decoder", value: "null")
    }
    switch value["type"]?.string {
    case "ByteLevel": return
    case "Sequence":
      for member in value["decoders"]?.array ?? [] { try checkDecoder(member) }
    case let other: throw .unsupported(component: "decoder", value: other ?? "null")
    }
  }

  // MARK: Tokens

  /// One more than the highest id: the rows that logits need at least.
  package var vocabularyCount: Int { vocabulary.idCount }

  /// The id of the token spelled `spelling` in tokenizer.json, added tokens included.
  package func id(of spelling: String) -> TokenID? { vocabulary.id(ofSpelling: spelling) }

  /// The id of a token that must exist.
  package func requiredID(of spelling: String) throws(TokenizerError) -> TokenID {
    guard let id = id(of: spelling) else { throw .tokenMissing(spelling) }
    return id
  }

  /// The spelling of `id` in tokenizer.json, where GPT-2's alphabet stands for bytes.
  package func spelling(of id: TokenID) -> String? { vocabulary.spelling(of: id) }

  /// The bytes of text that `id` stands for, perhaps a part of a character.
  package func bytes(of id: TokenID) -> ArraySlice<UInt8>? { vocabulary.text(of: id) }

  /// Whether `id` steers the model rather than being text.
  package func isSpecial(_ id: TokenID) -> Bool {
    id >= 0 && Int(id) < isSpecialID.count && isSpecialID[Int(id)]
  }

  /// The tokens outside the merges, in the file's order.
  package var allAddedTokens: [AddedToken] { addedTokens }

  /// Bytes of UTF-8 that no token stands for; `encode` leaves them out, as `tokenizers` does.
  ///
  /// Vocabularies trained without some rare control characters lack them.
  package var unencodableBytes: [UInt8] {
    (UInt8.min...UInt8.max).filter { byte in
      // The other bytes occur in no UTF-8.
      (byte < 0xC0 || (0xC2...0xF4).contains(byte)) && encoder.byteTokens[Int(byte)] < 0
    }
  }

  // MARK: Text to tokens

  /// The tokens of `text`.
  ///
  /// `addingSpecialTokens` puts those around it that the file's post-processor names. Foreign text
  /// is encoded with `.recognizeNone`, so that it cannot contain the template's markers.
  package func encode(
    _ text: String, addingSpecialTokens: Bool = false,
    recognizing policy: AddedTokenPolicy = .recognizeAll
  ) throws(TokenizerError) -> [TokenID] {
    var scratch = idleScratches.withLock { $0.popLast() } ?? EncodingScratch()
    defer {
      let returned = scratch
      idleScratches.withLock { $0.append(returned) }
    }
    var ids: [TokenID] = []
    ids.reserveCapacity(text.utf8.count / 3 + 8)
    if addingSpecialTokens { ids += postProcessor.prefix }
    let bytes = Array(text.utf8)
    let whole = Piece(start: 0, end: bytes.count)
    for segment in rawMatcher.segments(of: bytes, whole, policy: policy) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let piece):
        try encodeNormalized(bytes, piece, policy, &scratch, &ids)
      }
    }
    if addingSpecialTokens { ids += postProcessor.suffix }
    return ids
  }

  /// The tokens of bytes that should be UTF-8; what is not becomes U+FFFD.
  package func encode(
    repairing bytes: some Collection<UInt8>, addingSpecialTokens: Bool = false,
    recognizing policy: AddedTokenPolicy = .recognizeAll
  ) throws(TokenizerError) -> [TokenID] {
    try encode(
      String(decoding: bytes, as: UTF8.self), addingSpecialTokens: addingSpecialTokens,
      recognizing: policy)
  }

  private func encodeNormalized(
    _ bytes: [UInt8], _ piece: Piece, _ policy: AddedTokenPolicy, _ scratch: inout EncodingScratch,
    _ ids: inout [TokenID]
  ) throws(TokenizerError) {
    var bytes = bytes
    var piece = piece
    if normalizer != .none {
      let text = String(decoding: bytes[piece.start..<piece.end], as: UTF8.self)
      bytes = Array(normalizer.apply(to: text).utf8)
      piece = Piece(start: 0, end: bytes.count)
    }
    for segment in normalizedMatcher.segments(of: bytes, piece, policy: policy) {
      switch segment {
      case .token(let id): ids.append(id)
      case .text(let piece):
        // The segment alone: copying the whole text for each would be quadratic in its tokens.
        var text = Array(bytes[piece.start..<piece.end])
        if policy == .recognizeUnshielded { Self.removeShields(from: &text) }
        var pieces = [Piece(start: 0, end: text.count)]
        try preTokenizer.apply(to: &text, pieces: &pieces, using: scratch.matchSpace)
        for piece in pieces { encoder.encode(text, piece, using: &scratch.merging, into: &ids) }
      }
    }
  }

  // MARK: Tokens to text

  /// The text of `ids`; bytes that are no UTF-8 become U+FFFD.
  package func decode(
    _ ids: some Sequence<TokenID>, skippingSpecialTokens: Bool = false
  ) throws(TokenizerError) -> String {
    var bytes: [UInt8] = []
    for id in ids {
      guard let text = vocabulary.text(of: id) else { throw .unknownID(id) }
      if !skippingSpecialTokens || !isSpecial(id) { bytes.append(contentsOf: text) }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// Working memory of one encoding.
struct EncodingScratch: Sendable {
  let matchSpace = MatchSpace()
  var merging = MergeScratch()
}

extension BytePairEncoder {
  /// Takes the merges of a file whose tokens are `vocabulary`.
  init(_ file: TokenizerFile, _ vocabulary: Vocabulary) throws(TokenizerError) {
    var unknown: TokenID = -1
    if let spelling = file.unknownToken {
      guard let id = vocabulary.id(ofSpelling: spelling) else { throw .tokenMissing(spelling) }
      unknown = id
    }
    var byteTokens = [TokenID](repeating: -1, count: 256)
    for byte in UInt8.min...UInt8.max {
      let spelling = Array(String(Character(ByteAlphabet.scalars[Int(byte)])).utf8)
      let id = vocabulary.modelID(ofSpelling: spelling, 0..<spelling.count)
      byteTokens[Int(byte)] = id ?? unknown
    }
    var table = MergeTable(capacity: file.mergeEnds.count / 2)
    for rank in 0..<file.mergeEnds.count / 2 {
      let start = rank == 0 ? 0 : file.mergeEnds[rank * 2 - 1]
      let middle = file.mergeEnds[rank * 2]
      let end = file.mergeEnds[rank * 2 + 1]
      var ids: (TokenID, TokenID, TokenID) = (0, 0, 0)
      ids.0 = try Self.id(vocabulary, file.merges, start..<middle, rank)
      ids.1 = try Self.id(vocabulary, file.merges, middle..<end, rank)
      ids.2 = try Self.id(vocabulary, file.merges, start..<end, rank)
      table.insert(ids.0, ids.1, rank: rank, id: ids.2)
    }
    self.init(
      byteTokens: byteTokens, merges: table, wholePieces: file.ignoresMerges ? vocabulary : nil)
  }

  private static func id(
    _ vocabulary: Vocabulary, _ bytes: [UInt8], _ range: Range<Int>, _ rank: Int
  ) throws(TokenizerError) -> TokenID {
    guard let id = vocabulary.modelID(ofSpelling: bytes, range) else {
      throw .mergeOutsideVocabulary(
        rank: rank, token: String(decoding: bytes[range], as: UTF8.self))
    }
    return id
  }
}
