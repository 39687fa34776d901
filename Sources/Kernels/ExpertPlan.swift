import CKernels
package import Tensors

/// Who computes what in a mixture: tokens sorted by expert, and the order in which a token's
/// results are added.
///
/// A token's result of one expert has a *slot*. The shared expert's slots come first, one for each
/// token; then those of the routed experts by ascending index, tokens in order. Arrays keep their
/// memory, so that a step allocates nothing once they have grown.
package struct ExpertPlan: Sendable {
  /// The tokens of one expert; its slots are `firstSlot..<firstSlot + count`.
  struct Run {
    /// The expert's index in the layer; nil for the shared expert.
    var expert: Int?
    var firstSlot: Int
    var count: Int
    /// The row of the prepared input that its first token has; the others follow.
    var inputRow: Int
  }

  private(set) var runs: [Run] = []
  /// All tokens' terms, and where each token's begin; one more entry ends the last.
  private(set) var terms: [ck_term] = []
  private(set) var termStarts: [Int] = []
  /// Copies of prepared rows, so that the tokens of an expert follow each other: (token, row).
  private(set) var copies: [(token: Int32, row: Int32)] = []
  private(set) var slotCount = 0
  /// Pairs of a token and a routed expert that is held.
  var pairCount: Int { slotCount - slotBase }
  private(set) var tokenCount = 0

  // Working memory: where an expert's slots begin, the slot of each (token, choice), and one
  // token's choices by ascending expert.
  private var starts: [Int] = []
  private var slots: [Int32] = []
  private var chosen: [(expert: Int32, slot: Int32, weight: Float)] = []

  /// An empty plan.
  package init() {}

  /// Plans for tokens that all visit one expert, the shared or only one.
  package mutating func planAll(tokenCount: Int) {
    begin(tokenCount: tokenCount, shared: true)
    for token in 0..<tokenCount {
      terms.append(ck_term(slot: UInt32(token), adds: 0, factor: 1))
      termStarts.append(terms.count)
    }
  }

  /// Plans for routed tokens: the experts in `held` of all `expertCount`, after the shared one
  /// if `shared`.
  ///
  /// - Shape: `experts` and `weights` [tokenCount, expertsPerToken].
  package mutating func plan(
    experts: borrowing Buffer<Int32>, weights: borrowing Buffer<Float>, tokenCount: Int,
    expertsPerToken: Int, expertCount: Int, held: Range<Int>, shared: Bool
  ) {
    precondition(tokenCount * expertsPerToken <= min(experts.count, weights.count))
    begin(tokenCount: tokenCount, shared: shared)
    sort(experts, pairCount: tokenCount * expertsPerToken, expertCount, held)
    addRuns(held)
    for token in 0..<tokenCount {
      let first = token * expertsPerToken
      chosen.removeAll(keepingCapacity: true)
      for pair in first..<first + expertsPerToken where slots[pair] >= 0 {
        insert((experts[pair], slots[pair], weights[pair]))
      }
      if shared { terms.append(ck_term(slot: UInt32(token), adds: 0, factor: 1)) }
      addTree(0..<chosen.count, held)
      if shared && !chosen.isEmpty { terms[terms.count - 1].adds += 1 }
      termStarts.append(terms.count)
    }
    addCopies(experts, expertsPerToken)
  }

  private mutating func begin(tokenCount: Int, shared: Bool) {
    self.tokenCount = tokenCount
    runs.removeAll(keepingCapacity: true)
    terms.removeAll(keepingCapacity: true)
    termStarts.removeAll(keepingCapacity: true)
    copies.removeAll(keepingCapacity: true)
    termStarts.append(0)
    slotCount = 0
    slotBase = 0
    if shared {
      runs.append(Run(expert: nil, firstSlot: 0, count: tokenCount, inputRow: 0))
      slotCount = tokenCount
      slotBase = tokenCount
    }
  }

  /// The matrices of a run; `experts` are those that are held.
  func weights(of run: Run, _ shared: SwiGLU?, _ experts: [SwiGLU]) -> SwiGLU {
    if let expert = run.expert { return experts[expert - heldBase] }
    guard let shared else { preconditionFailure("the plan has a shared expert") }
    return shared
  }

  /// Counts the tokens of each expert into `starts`, and numbers each pair within its expert.
  private mutating func sort(
    _ experts: borrowing Buffer<Int32>, pairCount: Int, _ expertCount: Int, _ held: Range<Int>
  ) {
    starts.removeAll(keepingCapacity: true)
    slots.removeAll(keepingCapacity: true)
    for _ in 0...held.count { starts.append(0) }
    for pair in 0..<pairCount {
      let expert = Int(experts[pair])
      // Negative: the copy of an expert elsewhere computes it.
      precondition(expert < expertCount, "expert \(expert) of \(expertCount)")
      guard held.contains(expert) else {
        slots.append(-1)
        continue
      }
      slots.append(Int32(starts[expert - held.lowerBound + 1]))
      starts[expert - held.lowerBound + 1] += 1
    }
    for expert in 0..<held.count { starts[expert + 1] += starts[expert] }
  }

  private mutating func addRuns(_ held: Range<Int>) {
    for index in 0..<held.count {
      let count = starts[index + 1] - starts[index]
      if count == 0 { continue }
      let slot = slotBase + starts[index]
      // A single token is read where it was prepared; that row is filled in with the copies.
      runs.append(
        Run(expert: held.lowerBound + index, firstSlot: slot, count: count, inputRow: -1))
    }
    slotCount = slotBase + starts[held.count]
    heldBase = held.lowerBound
  }

  private var slotBase = 0
  private var heldBase = 0

  private mutating func insert(_ one: (expert: Int32, slot: Int32, weight: Float)) {
    let slot = Int32(slotBase + starts[Int(one.expert) - heldBase]) + one.slot
    var place = chosen.count
    chosen.append((one.expert, slot, one.weight))
    while place > 0 && chosen[place - 1].expert > one.expert {
      chosen.swapAt(place, place - 1)
      place -= 1
    }
    precondition(
      place == 0 || chosen[place - 1].expert < one.expert, "a token visits an expert once")
  }

  /// The sum over the chosen experts of a range: its halves' sums; an absent half is left out.
  private mutating func addTree(_ part: Range<Int>, _ range: Range<Int>) {
    if part.isEmpty { return }
    if part.count == 1 {
      let one = chosen[part.lowerBound]
      terms.append(ck_term(slot: UInt32(one.slot), adds: 0, factor: one.weight))
      return
    }
    let middle = ExpertTree.middle(of: range)
    var cut = part.lowerBound
    while cut < part.upperBound && chosen[cut].expert < Int32(middle) { cut += 1 }
    addTree(part.lowerBound..<cut, range.lowerBound..<middle)
    addTree(cut..<part.upperBound, middle..<range.upperBound)
    if cut > part.lowerBound && cut < part.upperBound { terms[terms.count - 1].adds += 1 }
  }

  /// Lets every run know where its input rows are, and copies rows where they do not follow.
  private mutating func addCopies(_ experts: borrowing Buffer<Int32>, _ expertsPerToken: Int) {
    // Copies stand behind the tokens' own rows, at the place of their slot among the pairs.
    var run = runs.first?.expert == nil ? 1 : 0
    while run < runs.count {
      if runs[run].count > 1 { runs[run].inputRow = tokenCount + runs[run].firstSlot - slotBase }
      run += 1
    }
    for pair in 0..<slots.count where slots[pair] >= 0 {
      let index = Int(experts[pair]) - heldBase
      let token = Int32(pair / expertsPerToken)
      if starts[index + 1] - starts[index] > 1 {
        copies.append((token, Int32(tokenCount + starts[index]) + slots[pair]))
      } else {
        setInputRow(Int(token), ofSlot: slotBase + starts[index])
      }
    }
  }

  private mutating func setInputRow(_ row: Int, ofSlot slot: Int) {
    // Runs are in the order of their slots.
    var (low, high) = (0, runs.count - 1)
    while low < high {
      let middle = (low + high) / 2
      if runs[middle].firstSlot + runs[middle].count <= slot {
        low = middle + 1
      } else {
        high = middle
      }
    }
    runs[low].inputRow = row
  }
}

/// The binary tree over a layer's experts, by recursive halving of their index range.
package enum ExpertTree {
  /// Where a range is halved.
  package static func middle(of range: Range<Int>) -> Int {
    range.lowerBound + range.count / 2
  }

  /// Whether `part` is one of the ranges that halving `0..<count` leads to.
  package static func isSubtree(_ part: Range<Int>, of count: Int) -> Bool {
    var range = 0..<count
    while range != part {
      if range.count < 2 { return false }
      let middle = middle(of: range)
      if part.upperBound <= middle {
        range = range.lowerBound..<middle
      } else if part.lowerBound >= middle {
        range = middle..<range.upperBound
      } else {
        return false
      }
    }
    return true
  }
}
