/// The tokens of a model by spelling and by id.
///
/// Spellings lie end to end in one array and are found by an open hash table of entry numbers:
/// 128,000 separate strings would cost more time to make than all the rest of loading.
struct Vocabulary: Sendable {
  private var spellings: [UInt8] = []
  private var ends: [Int] = []
  private var ids: [TokenID] = []
  private var table: [Int32] = []
  /// The entry of each id, -1 for ids without a token.
  private var entries: [Int32] = []
  /// What each id stands for in text, end to end, and where it ends.
  private var texts: [UInt8] = []
  private var textEnds: [Int] = []

  /// Ids beyond this are taken for a broken file rather than allocated for.
  static let idLimit = 1 << 24

  /// One more than the highest id.
  var idCount: Int { entries.count }

  /// The number of tokens, added ones included.
  var tokenCount: Int { ids.count }

  /// Entries from here on are added tokens, which merging never yields.
  private let modelCount: Int

  /// Takes the model's spellings laid end to end, where each ends and their ids, and the added
  /// tokens, some of which may be in the model's vocabulary already.
  init(
    spellings: [UInt8], ends: [Int], ids: [TokenID], added: [AddedToken]
  ) throws(TokenizerError) {
    self.spellings = spellings
    self.ends = ends
    self.ids = ids
    modelCount = ids.count
    let highest = max(ids.max() ?? -1, added.map(\.id).max() ?? -1)
    entries = [Int32](repeating: -1, count: Int(highest) + 1)
    var capacity = 16
    while capacity < (ids.count + added.count) * 2 { capacity *= 2 }
    table = [Int32](repeating: -1, count: capacity)
    for entry in 0..<modelCount { try register(entry) }
    for token in added {
      if let known = id(ofSpelling: token.content) {
        guard known == token.id else {
          throw .conflictingID(token: token.content, vocabulary: known, added: token.id)
        }
        continue
      }
      self.spellings.append(contentsOf: token.content.utf8)
      self.ends.append(self.spellings.count)
      self.ids.append(token.id)
      try register(self.ids.count - 1)
    }
    layOutTexts()
  }

  private mutating func register(_ entry: Int) throws(TokenizerError) {
    let id = Int(ids[entry])
    if entries[id] >= 0 {
      throw .duplicateID(
        ids[entry], first: spelling(ofEntry: Int(entries[id])), second: spelling(ofEntry: entry))
    }
    entries[id] = Int32(entry)
    try insert(entry)
  }

  private func range(ofEntry entry: Int) -> Range<Int> {
    (entry == 0 ? 0 : ends[entry - 1])..<ends[entry]
  }

  private func spelling(ofEntry entry: Int) -> String {
    String(decoding: spellings[range(ofEntry: entry)], as: UTF8.self)
  }

  private mutating func insert(_ entry: Int) throws(TokenizerError) {
    let range = range(ofEntry: entry)
    var slot = Self.hash(spellings, range) & (table.count - 1)
    while table[slot] >= 0 {
      let other = self.range(ofEntry: Int(table[slot]))
      if other.count == range.count, isEqual(other, spellings, range) {
        throw .duplicateToken(spelling(ofEntry: entry))
      }
      slot = (slot + 1) & (table.count - 1)
    }
    table[slot] = Int32(entry)
  }

  @inline(__always)
  private static func hash(_ bytes: [UInt8], _ range: Range<Int>) -> Int {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for index in range { hash = (hash ^ UInt64(bytes[index])) &* 0x100_0000_01B3 }
    return Int(truncatingIfNeeded: (hash ^ hash >> 29) >> 1)
  }

  private mutating func layOutTexts() {
    texts.reserveCapacity(spellings.count)
    textEnds.reserveCapacity(entries.count)
    for entry in entries {
      if entry >= 0 {
        ByteAlphabet.appendBytes(of: spellings[range(ofEntry: Int(entry))], to: &texts)
      }
      textEnds.append(texts.count)
    }
  }

  /// The id of the model's own token spelled by `bytes[range]`.
  func modelID(ofSpelling bytes: [UInt8], _ range: Range<Int>) -> TokenID? {
    guard let entry = entry(ofSpelling: bytes, range), entry < modelCount else { return nil }
    return ids[entry]
  }

  private func entry(ofSpelling bytes: [UInt8], _ range: Range<Int>) -> Int? {
    var slot = Self.hash(bytes, range) & (table.count - 1)
    while table[slot] >= 0 {
      let entry = Int(table[slot])
      let candidate = self.range(ofEntry: entry)
      if candidate.count == range.count, isEqual(candidate, bytes, range) { return entry }
      slot = (slot + 1) & (table.count - 1)
    }
    return nil
  }

  @inline(__always)
  private func isEqual(_ own: Range<Int>, _ bytes: [UInt8], _ range: Range<Int>) -> Bool {
    for offset in 0..<own.count
    where spellings[own.lowerBound + offset] != bytes[range.lowerBound + offset] { return false }
    return true
  }

  /// The id of the token spelled `spelling`.
  func id(ofSpelling spelling: String) -> TokenID? {
    let bytes = Array(spelling.utf8)
    return entry(ofSpelling: bytes, 0..<bytes.count).map { ids[$0] }
  }

  /// The spelling of `id` in the file, nil when no token has it.
  func spelling(of id: TokenID) -> String? {
    guard contains(id) else { return nil }
    return spelling(ofEntry: Int(entries[Int(id)]))
  }

  /// Whether `id` has a token.
  func contains(_ id: TokenID) -> Bool {
    id >= 0 && Int(id) < entries.count && entries[Int(id)] >= 0
  }

  /// The bytes of text that `id` stands for, nil when no token has it.
  func text(of id: TokenID) -> ArraySlice<UInt8>? {
    guard contains(id) else { return nil }
    return texts[(id == 0 ? 0 : textEnds[Int(id) - 1])..<textEnds[Int(id)]]
  }
}
