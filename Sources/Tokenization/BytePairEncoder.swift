/// Turns pieces of text into tokens by merging bytes in the order of the merges' ranks.
///
/// Of all neighbouring pairs the one of lowest rank merges first, the leftmost of equals; this is
/// repeated until no pair merges. Short pieces search for the lowest rank anew each time; long
/// ones keep the pairs in a heap, so that a megabyte without a break costs n log n. Short pieces
/// are remembered: text repeats itself.
struct BytePairEncoder: Sendable {
  /// The token of each byte, -1 where the vocabulary has none: such bytes are left out.
  let byteTokens: [TokenID]
  let merges: MergeTable
  /// The vocabulary, when whole pieces found in it are taken before any merging.
  let wholePieces: Vocabulary?

  private static let heapThreshold = 48

  /// Appends the tokens of `text[piece]` to `ids`.
  func encode(
    _ text: [UInt8], _ piece: Piece, using scratch: inout MergeScratch, into ids: inout [TokenID]
  ) {
    let count = piece.end - piece.start
    if count == 1 {
      appendByte(text[piece.start], &ids)
      return
    }
    guard count <= PieceCache.keyLength else {
      merge(text, piece, &scratch, &ids)
      return
    }
    let key = PieceCache.Key(text, piece)
    if scratch.cache.appendHit(key, to: &ids) { return }
    let start = ids.count
    merge(text, piece, &scratch, &ids)
    scratch.cache.store(key, ids[start...])
  }

  @inline(__always)
  private func appendByte(_ byte: UInt8, _ ids: inout [TokenID]) {
    let id = byteTokens[Int(byte)]
    if id >= 0 { ids.append(id) }
  }

  private func merge(
    _ text: [UInt8], _ piece: Piece, _ scratch: inout MergeScratch, _ ids: inout [TokenID]
  ) {
    if let wholePieces {
      scratch.spelling.removeAll(keepingCapacity: true)
      ByteAlphabet.appendSpelling(of: text[piece.start..<piece.end], to: &scratch.spelling)
      let range = 0..<scratch.spelling.count
      if let id = wholePieces.modelID(ofSpelling: scratch.spelling, range) {
        ids.append(id)
        return
      }
    }
    scratch.symbols.removeAll(keepingCapacity: true)
    for index in piece.start..<piece.end { appendByte(text[index], &scratch.symbols) }
    guard scratch.symbols.count > 1 else {
      ids.append(contentsOf: scratch.symbols)
      return
    }
    if scratch.symbols.count < Self.heapThreshold {
      mergeShort(&scratch)
      ids.append(contentsOf: scratch.symbols)
    } else {
      mergeLong(&scratch, &ids)
    }
  }

  private func mergeShort(_ scratch: inout MergeScratch) {
    scratch.pairs.removeAll(keepingCapacity: true)
    for index in 1..<scratch.symbols.count {
      scratch.pairs.append(merges.result(scratch.symbols[index - 1], scratch.symbols[index]))
    }
    while true {
      var best = MergeTable.none
      var place = 0
      for index in scratch.pairs.indices where scratch.pairs[index] < best {
        (best, place) = (scratch.pairs[index], index)
      }
      if best == MergeTable.none { return }
      let id = MergeTable.id(in: best)
      scratch.symbols[place] = id
      scratch.symbols.remove(at: place + 1)
      scratch.pairs.remove(at: place)
      if place > 0 { scratch.pairs[place - 1] = merges.result(scratch.symbols[place - 1], id) }
      if place < scratch.pairs.count {
        scratch.pairs[place] = merges.result(id, scratch.symbols[place + 1])
      }
    }
  }

  /// Symbols form a linked list; the heap holds (rank, place) words, some of them out of date.
  private func mergeLong(_ scratch: inout MergeScratch, _ ids: inout [TokenID]) {
    let count = scratch.symbols.count
    precondition(count < Int(Int32.max), "a piece is limited to 2 GiB")
    var next = (1...count).map(Int32.init)
    var previous = (-1..<count - 1).map(Int32.init)
    // The current merge of each place with its right neighbour; `none` for dead places.
    var current = [MergeTable.Result](repeating: MergeTable.none, count: count)
    var heap = MinimumHeap()
    for place in 0..<count - 1 {
      current[place] = merges.result(scratch.symbols[place], scratch.symbols[place + 1])
      if current[place] != MergeTable.none { heap.appendUnordered(current[place], place) }
    }
    heap.order()
    while let (rank, place) = heap.popFirst() {
      let result = current[place]
      // Out of date: the place merged or grew since this word was pushed.
      guard result != MergeTable.none, result >> 32 == rank else { continue }
      let id = MergeTable.id(in: result)
      let eaten = Int(next[place])
      scratch.symbols[place] = id
      next[place] = next[eaten]
      current[eaten] = MergeTable.none
      current[place] = MergeTable.none
      let right = Int(next[place])
      if right < count {
        previous[right] = Int32(place)
        current[place] = merges.result(id, scratch.symbols[right])
        if current[place] != MergeTable.none { heap.push(current[place], place) }
      }
      let left = Int(previous[place])
      if left >= 0 {
        current[left] = merges.result(scratch.symbols[left], id)
        if current[left] != MergeTable.none { heap.push(current[left], left) }
      }
    }
    var place = 0
    while place < count {
      ids.append(scratch.symbols[place])
      place = Int(next[place])
    }
  }
}

/// A heap of (rank, place) words with the smallest first.
struct MinimumHeap {
  private var words: [UInt64] = []

  /// Adds a word without keeping order; `order` must follow.
  mutating func appendUnordered(_ result: MergeTable.Result, _ place: Int) {
    words.append((result & ~0xFFFF_FFFF) | UInt64(place))
  }

  /// Makes a heap of what was appended.
  mutating func order() {
    for index in stride(from: words.count / 2 - 1, through: 0, by: -1) { sink(index) }
  }

  mutating func push(_ result: MergeTable.Result, _ place: Int) {
    let word = (result & ~0xFFFF_FFFF) | UInt64(place)
    words.append(word)
    var index = words.count - 1
    while index > 0, words[(index - 1) / 2] > word {
      words[index] = words[(index - 1) / 2]
      index = (index - 1) / 2
    }
    words[index] = word
  }

  mutating func popFirst() -> (rank: UInt64, place: Int)? {
    guard let first = words.first, let last = words.popLast() else { return nil }
    if !words.isEmpty {
      words[0] = last
      sink(0)
    }
    return (first >> 32, Int(first & 0xFFFF_FFFF))
  }

  private mutating func sink(_ start: Int) {
    var index = start
    let word = words[index]
    while true {
      var child = 2 * index + 1
      guard child < words.count else { break }
      if child + 1 < words.count, words[child + 1] < words[child] { child += 1 }
      guard words[child] < word else { break }
      words[index] = words[child]
      index = child
    }
    words[index] = word
  }
}
