import Kernels
import Tensors
import Testing

/// A mixture to try: random experts, and routing in which some experts get nothing.
private struct Mixture {
  let shared: SwiGLU
  let experts: [SwiGLU]
  let x: [Float]
  let chosen: [Int32]
  let weights: [Float]
  let hidden: Int
  let choices: Int

  init(
    _ format: WeightMatrix.Format, hidden: Int, width: Int, experts count: Int, choices: Int,
    tokens: Int
  ) {
    var numbers = TestNumbers(seed: UInt64(width + tokens))
    func matrix(_ rows: Int, _ columns: Int, _ numbers: inout TestNumbers) -> WeightMatrix {
      TestMatrix(format, rows: rows, columns: columns, using: &numbers).weights
    }
    func mlp(_ numbers: inout TestNumbers) -> SwiGLU {
      SwiGLU(
        gateProjection: matrix(width, hidden, &numbers),
        upProjection: matrix(width, hidden, &numbers),
        downProjection: matrix(hidden, width, &numbers))
    }
    shared = mlp(&numbers)
    experts = (0..<count).map { _ in mlp(&numbers) }
    x = numbers.floats(tokens * hidden)
    var chosen: [Int32] = []
    for _ in 0..<tokens {
      var free = Array(0..<Int32(count - 1))
      for _ in 0..<choices { chosen.append(free.remove(at: numbers.int(0..<free.count))) }
    }
    self.chosen = chosen
    weights = numbers.floats(tokens * choices)
    self.hidden = hidden
    self.choices = choices
  }

  var sliceCount: Int { shared.downProjection.sliceCount }

  /// The layer's output for tokens `range`.
  func output(_ compute: Compute, _ range: Range<Int>) -> [UInt32] {
    let pairs = range.lowerBound * choices..<range.upperBound * choices
    var scratch = FeedForwardScratch(
      kernels: compute.kernels, activation: .bfloat16, tokenLimit: range.count,
      hiddenSize: hidden, denseWidth: 0, expertWidth: shared.width,
      expertsPerToken: choices)
    scratch.plan.plan(
      experts: Buffer(Array(chosen[pairs])), weights: Buffer(Array(weights[pairs])),
      tokenCount: range.count, expertsPerToken: choices, expertCount: experts.count,
      held: 0..<experts.count, shared: true)
    var y = Buffer<Float>(count: range.count * hidden)
    let rows = Buffer(Array(x[range.lowerBound * hidden..<range.upperBound * hidden]))
    compute.feedForward(
      shared: shared, experts: experts, sliceCount: sliceCount, rows, scratch: &scratch, into: &y)
    return bits(y)
  }

  /// The same for one token, by its definition: products of slices, added in Swift.
  func reference(_ compute: Compute, token: Int) -> [UInt32] {
    let row = Array(x[token * hidden..<(token + 1) * hidden])
    let own = (0..<choices).map {
      (Int(chosen[token * choices + $0]), weights[token * choices + $0])
    }
    let sharedSlices = slices(compute, shared, row)
    let expertSlices = own.map {
      (expert: $0.0, weight: $0.1, sums: slices(compute, experts[$0.0], row))
    }
    func tree(_ range: Range<Int>, _ slice: Int, _ n: Int) -> Float? {
      if range.count == 1 {
        return expertSlices.first { $0.expert == range.lowerBound }.map {
          $0.sums[slice][n] * $0.weight
        }
      }
      let middle = range.lowerBound + (range.upperBound - range.lowerBound) / 2
      let left = tree(range.lowerBound..<middle, slice, n)
      let right = tree(middle..<range.upperBound, slice, n)
      guard let left, let right else { return left ?? right }
      return left + right
    }
    return (0..<hidden).map { n in
      let sums = (0..<sliceCount).map { slice in
        sharedSlices[slice][n] + (tree(0..<experts.count, slice, n) ?? 0)
      }
      let sum =
        switch sums.count {
        case 1: sums[0]
        case 2: sums[0] + sums[1]
        default: (sums[0] + sums[1]) + (sums[2] + sums[3])
        }
      return sum.bitPattern
    }
  }

  private func slices(_ compute: Compute, _ mlp: SwiGLU, _ row: [Float]) -> [[Float]] {
    let gate = product(compute, mlp.gateProjection, row)
    let up = product(compute, mlp.upProjection, row)
    var h = Buffer<Float>(count: mlp.width)
    compute.swiglu(gate: Buffer(gate), up: Buffer(up), count: mlp.width, into: &h)
    let size = mlp.width / sliceCount
    return (0..<sliceCount).map { slice in
      let columns = slice * size..<(slice + 1) * size
      return product(compute, mlp.downProjection.columns(columns), h.array(columns))
    }
  }

  private func product(_ compute: Compute, _ weights: WeightMatrix, _ x: [Float]) -> [Float] {
    var input = LinearInput(
      kernels: compute.kernels, activation: .bfloat16, maxTokens: 1, maxColumns: weights.columns)
    compute.prepare(&input, from: Buffer(x), rowCount: 1, columns: weights.columns)
    var y = Buffer<Float>(count: weights.rows)
    compute.linear(weights, input, into: &y)
    return y.array(0..<weights.rows)
  }
}

@Suite struct FeedForwardTests {
  @Test("a mixture is summed in the canonical order", arguments: KernelSet.available)
  func order(set: KernelSet) {
    let compute = Compute(kernels: set, threadCount: 2)
    for format in WeightMatrix.Format.allCases {
      for (hidden, width, tokens) in [(33, 50, 3), (40, 64, 2), (20, 128, 5), (18, 512, 4)] {
        let one = Mixture(
          format, hidden: hidden, width: width, experts: 6, choices: 3, tokens: tokens)
        let whole = one.output(compute, 0..<tokens)
        for token in 0..<tokens {
          #expect(
            Array(whole[token * hidden..<(token + 1) * hidden])
              == one.reference(compute, token: token),
            "\(format) [\(hidden), \(width)] token \(token)")
        }
      }
    }
  }

  @Test("a mixture's bits depend on neither threads nor batch", arguments: KernelSet.available)
  func sameBits(set: KernelSet) {
    let (single, team) = (
      Compute(kernels: set, threadCount: 1), Compute(kernels: set, threadCount: 3)
    )
    for format in WeightMatrix.Format.allCases {
      let one = Mixture(format, hidden: 70, width: 256, experts: 4, choices: 2, tokens: 40)
      let whole = one.output(single, 0..<40)
      #expect(one.output(team, 0..<40) == whole)
      for range in [0..<1, 1..<3, 3..<20, 20..<40] {
        #expect(
          one.output(team, range) == Array(whole[range.lowerBound * 70..<range.upperBound * 70]))
      }
    }
  }

  @Test("only halves of halves are subtrees of experts")
  func subtrees() {
    #expect(ExpertTree.isSubtree(0..<11, of: 11))
    #expect(ExpertTree.isSubtree(0..<5, of: 11))
    #expect(ExpertTree.isSubtree(5..<8, of: 11))
    #expect(ExpertTree.isSubtree(6..<8, of: 11))
    #expect(!ExpertTree.isSubtree(0..<4, of: 11))
    #expect(!ExpertTree.isSubtree(4..<6, of: 11))
  }
}
