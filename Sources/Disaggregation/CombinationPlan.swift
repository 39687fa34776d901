import Kernels
package import Step3Model
import Tensors

/// How the partial sums of a layer's shards become its output: the upper part of the tree whose
/// lower parts the shards have computed.
///
/// With Float32 partial sums the result has the bits of one process. Where shards send one rounded
/// sum each, they are added in the order of the shards.
package struct CombinationPlan: Sendable {
  /// Where a partial sum stands: plane `plane` of what shard `shard` sends.
  struct Leaf: Sendable {
    var shard: Int
    var plane: Int
    /// The experts that a token must visit for the sum to be there; nil for always.
    var experts: Range<Int>?
    /// The same sum at other shards, where there are copies of its one expert.
    var copies: [(shard: Int, plane: Int)] = []
  }

  /// A sum over the tree.
  indirect enum Node: Sendable {
    case leaf(Leaf)
    case sum(Node, Node)
  }

  /// The whole sum; nil when shards are to be added in order.
  let root: Node?
  /// Planes per shard.
  package let planeCounts: [Int]
  /// How deep the tree is: rows of scratch that adding takes.
  let depth: Int

  /// The plan for one layer and the shards' subtrees of it.
  ///
  /// - Parameter isExact: Whether shards send each subtree's sum; otherwise one sum each.
  package init(layer: FeedForwardLayer, shares: [[ShareKey]], isExact: Bool) {
    guard isExact else {
      root = nil
      planeCounts = shares.map { $0.isEmpty ? 0 : 1 }
      depth = 1
      return
    }
    planeCounts = shares.map { $0.reduce(0) { $0 + $1.planeCount } }
    let index = LeafIndex(shares)
    let expertCount: Int
    if case .mixture(let mixture) = layer {
      expertCount = mixture.experts.count
    } else {
      expertCount = 0
    }
    let tree = index.overSlices(0..<layer.sliceCount, expertCount: expertCount)
    root = tree
    depth = tree.depth
  }
}

extension CombinationPlan.Node {
  var depth: Int {
    switch self {
    case .leaf: 1
    case .sum(let left, let right): max(left.depth, right.depth + 1)
    }
  }
}

/// Finds the partial sum for a subtree.
private struct LeafIndex {
  private typealias Leaf = CombinationPlan.Leaf
  private var whole: [Range<Int>: Leaf] = [:]
  private var shared: [Int: Leaf] = [:]
  private var routed: [RoutedKey: Leaf] = [:]

  private struct RoutedKey: Hashable {
    let slice: Int
    let experts: Range<Int>
  }

  init(_ shares: [[ShareKey]]) {
    for (shard, keys) in shares.enumerated() {
      var plane = 0
      for key in keys {
        switch key.experts {
        case .all: whole[key.slices] = Leaf(shard: shard, plane: plane, experts: nil)
        case .shared:
          for slice in key.slices {
            shared[slice] = Leaf(
              shard: shard, plane: plane + slice - key.slices.lowerBound, experts: nil)
          }
        case .routed(let experts):
          for slice in key.slices {
            let place = RoutedKey(slice: slice, experts: experts)
            let own = plane + slice - key.slices.lowerBound
            if routed[place]?.copies.append((shard, own)) == nil {
              routed[place] = Leaf(shard: shard, plane: own, experts: experts)
            }
          }
        }
        plane += key.planeCount
      }
    }
  }

  func overSlices(_ slices: Range<Int>, expertCount: Int) -> CombinationPlan.Node {
    if let leaf = whole[slices] { return .leaf(leaf) }
    if slices.count == 1 {
      guard let leaf = shared[slices.lowerBound] else {
        preconditionFailure("slice \(slices.lowerBound) of the shared expert is held by nobody")
      }
      return .sum(.leaf(leaf), overExperts(0..<expertCount, slice: slices.lowerBound))
    }
    let middle = ExpertTree.middle(of: slices)
    return .sum(
      overSlices(slices.lowerBound..<middle, expertCount: expertCount),
      overSlices(middle..<slices.upperBound, expertCount: expertCount))
  }

  private func overExperts(_ experts: Range<Int>, slice: Int) -> CombinationPlan.Node {
    if let leaf = routed[RoutedKey(slice: slice, experts: experts)] { return .leaf(leaf) }
    precondition(experts.count > 1, "slice \(slice) of experts \(experts) is held by nobody")
    let middle = ExpertTree.middle(of: experts)
    return .sum(
      overExperts(experts.lowerBound..<middle, slice: slice),
      overExperts(middle..<experts.upperBound, slice: slice))
  }
}

/// What a shard sent for a micro-batch: planes of rows.
struct ShardAnswer {
  /// Where it lies; planes [P, rows, D] from byte 0.
  var memory: RegisteredSlice
  /// How values are stored.
  var type: PackedType
  /// Rows per plane.
  var rowCount: Int
  /// The shard's row of each token, -1 for tokens that it did not get; nil when it got all.
  var rowOfToken: [Int32]?

  func row(of token: Int) -> Int? {
    guard let rowOfToken else { return token }
    return rowOfToken[token] < 0 ? nil : Int(rowOfToken[token])
  }

  /// Where a row begins, in bytes of the memory's region.
  func offset(plane: Int, row: Int, columns: Int) -> Int {
    memory.range.lowerBound + (plane * rowCount + row) * type.rowByteCount(columns)
  }
}

/// Adds what shards sent.
struct Combiner: ~Copyable {
  private let columns: Int
  private var scratch: Buffer<Float>
  /// One token's experts, and the number of its first choice.
  private var chosen: [Int32] = []
  private var firstPair = 0
  private var copies = CopyChoice()

  init(columns: Int) {
    self.columns = columns
    scratch = Buffer(count: columns)
  }

  /// Writes the sum for each token into `output`, [T, D].
  mutating func combine(
    _ plan: CombinationPlan, _ answers: [ShardAnswer?], _ routing: borrowing Routing,
    _ copies: CopyChoice, tokenCount: Int, into output: inout Buffer<Float>
  ) {
    self.copies = copies
    if scratch.count < plan.depth * columns { scratch = Buffer(count: plan.depth * columns) }
    for token in 0..<tokenCount {
      if let root = plan.root {
        chosen.removeAll(keepingCapacity: true)
        firstPair = token * routing.expertsPerToken
        for choice in 0..<routing.expertsPerToken {
          chosen.append(routing.experts[token * routing.expertsPerToken + choice])
        }
        let isThere = add(root, answers, token, at: 0)
        precondition(isThere, "token \(token) has no sum")
        output.copy(scratch, from: 0, to: token * columns, columns: columns)
      } else {
        addInOrder(answers, token, into: &output)
      }
    }
  }

  /// Puts a node's sum for one token into row `depth` of the scratch; false when it has none.
  private mutating func add(
    _ node: CombinationPlan.Node, _ answers: [ShardAnswer?], _ token: Int, at depth: Int
  ) -> Bool {
    switch node {
    case .leaf(let leaf):
      guard let (answer, offset) = find(leaf, answers, token) else { return false }
      scratch.unpack(
        answer.type, from: answer.memory.memory.region, at: offset, columns: columns,
        to: depth * columns)
      return true
    case .sum(let left, let right):
      let isThere = add(left, answers, token, at: depth)
      if !isThere { return add(right, answers, token, at: depth) }
      if case .leaf(let leaf) = right {
        if let (answer, offset) = find(leaf, answers, token) {
          scratch.addUnpacked(
            answer.type, from: answer.memory.memory.region, at: offset, columns: columns,
            to: depth * columns)
        }
      } else if add(right, answers, token, at: depth + 1) {
        scratch.addWithin(
          from: (depth + 1) * columns, to: depth * columns, columns: columns)
      }
      return true
    }
  }

  private func find(
    _ leaf: CombinationPlan.Leaf, _ answers: [ShardAnswer?], _ token: Int
  ) -> (ShardAnswer, Int)? {
    var (shard, plane) = (leaf.shard, leaf.plane)
    if let experts = leaf.experts {
      guard let choice = chosen.firstIndex(where: { experts.contains(Int($0)) }) else { return nil }
      if !leaf.copies.isEmpty, let computing = copies.shard(pair: firstPair + choice),
        let copy = leaf.copies.first(where: { $0.shard == computing })
      {
        (shard, plane) = copy
      }
    }
    guard let answer = answers[shard], let row = answer.row(of: token) else {
      preconditionFailure("shard \(shard) did not answer for token \(token)")
    }
    return (answer, answer.offset(plane: plane, row: row, columns: columns))
  }

  private func addInOrder(
    _ answers: [ShardAnswer?], _ token: Int, into output: inout Buffer<Float>
  ) {
    var isFirst = true
    for answer in answers {
      guard let answer, let row = answer.row(of: token) else { continue }
      let offset = answer.offset(plane: 0, row: row, columns: columns)
      let region = answer.memory.memory.region
      if isFirst {
        output.unpack(
          answer.type, from: region, at: offset, columns: columns, to: token * columns)
      } else {
        output.addUnpacked(
          answer.type, from: region, at: offset, columns: columns, to: token * columns)
      }
      isFirst = false
    }
    precondition(!isFirst, "token \(token) has no sum")
  }
}
