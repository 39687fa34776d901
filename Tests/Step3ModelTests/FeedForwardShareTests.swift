import Kernels
import Step3Model
import Tensors
import Testing

private struct Numbers {
  var state: UInt64 = 88_172_645_463_325_252

  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state
  }

  mutating func float() -> Float { Float(Int64(bitPattern: next()) >> 40) / Float(1 << 23) }

  mutating func matrix(rows: Int, columns: Int) -> WeightMatrix {
    let bytes = (0..<rows * columns).flatMap { _ in
      let bits = float().bitPattern >> 16
      return [UInt8(bits & 0xFF), UInt8(bits >> 8)]
    }
    return .bfloat16(ByteRegion(copying: bytes), rows: rows, columns: columns)
  }

  mutating func mlp(hidden: Int, width: Int) -> SwiGLU {
    SwiGLU(
      gateProjection: matrix(rows: width, columns: hidden),
      upProjection: matrix(rows: width, columns: hidden),
      downProjection: matrix(rows: hidden, columns: width))
  }
}

/// A layer, its input, and what one process computes for it.
private struct Case: ~Copyable {
  static let (hidden, tokens, choices, expertCount) = (48, 9, 3, 11)
  let layer: FeedForwardLayer
  var x = Buffer<Float>(count: tokens * hidden)
  var routing = Routing(tokenLimit: tokens, expertsPerToken: choices)
  let compute: Compute

  init(_ set: KernelSet, dense: Bool) {
    var numbers = Numbers()
    let (hidden, count) = (Self.hidden, Self.expertCount)
    layer =
      dense
      ? .dense(numbers.mlp(hidden: hidden, width: 256))
      : .mixture(
        MixtureOfExperts(
          sharedExpert: numbers.mlp(hidden: hidden, width: 256),
          experts: (0..<count).map { _ in numbers.mlp(hidden: hidden, width: 128) }))
    compute = Compute(kernels: set, threadCount: 2)
    for index in 0..<x.count { x[index] = numbers.float() }
    for token in 0..<Self.tokens {
      var free = Array(0..<Int32(count))
      for choice in 0..<Self.choices {
        let pair = token * Self.choices + choice
        routing.experts[pair] = free.remove(at: Int(numbers.next() % UInt64(free.count)))
        routing.weights[pair] = numbers.float()
      }
    }
  }

  private func scratch() -> FeedForwardScratch {
    FeedForwardScratch(
      kernels: compute.kernels, activation: .bfloat16, tokenLimit: Self.tokens,
      hiddenSize: Self.hidden, denseWidth: 256, expertWidth: 256,
      expertsPerToken: Self.choices)
  }

  func whole() -> [UInt32] {
    var scratch = scratch()
    var y = Buffer<Float>(count: Self.tokens * Self.hidden)
    layer.forward(
      x, routing, tokenCount: Self.tokens, scratch: &scratch, compute: compute, into: &y)
    return y.array(0..<y.count).map(\.bitPattern)
  }

  func shared(_ parts: [(FeedForwardShare.Experts, Range<Int>)]) -> [UInt32] {
    let shares = parts.map { FeedForwardShare(of: layer, experts: $0.0, slices: $0.1) }
    let size = Self.tokens * Self.hidden
    let names = shares.flatMap(\.parts)
    var planes = Buffer<Float>(count: names.count * size)
    var scratch = scratch()
    var first = 0
    for share in shares {
      var y = Buffer<Float>(count: share.planeCount * size)
      share.forward(
        x, routing, tokenCount: Self.tokens, scratch: &scratch, compute: compute, into: &y)
      for index in 0..<y.count { planes[first + index] = y[index] }
      first += y.count
    }
    var isDense = false
    if case .dense = layer { isDense = true }
    let sums = PartialSums(
      planes: names, sliceCount: layer.sliceCount, expertCount: isDense ? 0 : Self.expertCount)
    #expect(sums.isComplete)
    return (0..<size).map { index in
      let first = index / Self.hidden * Self.choices
      let chosen = (0..<Self.choices).map { Int(routing.experts[first + $0]) }
      return sums.sum(experts: chosen) { planes[$0 * size + index] }.bitPattern
    }
  }
}

@Suite struct FeedForwardShareTests {
  @Test("a dense layer's slices add up to its bits", arguments: KernelSet.available)
  func dense(set: KernelSet) {
    let one = Case(set, dense: true)
    let whole = one.whole()
    #expect(one.shared([(.all, 0..<4)]) == whole)
    #expect(one.shared([(.all, 2..<4), (.all, 0..<2)]) == whole)
    #expect(one.shared([(.all, 0..<2), (.all, 2..<3), (.all, 3..<4)]) == whole)
  }

  @Test("a mixture's slices and experts add up to its bits", arguments: KernelSet.available)
  func mixture(set: KernelSet) {
    let one = Case(set, dense: false)
    let whole = one.whole()
    #expect(one.layer.sliceCount == 4)
    #expect(one.shared([(.all, 0..<2), (.all, 2..<4)]) == whole)
    #expect(one.shared([(.shared, 0..<4), (.routed(0..<11), 0..<4)]) == whole)
    #expect(
      one.shared([(.routed(0..<5), 0..<4), (.shared, 0..<4), (.routed(5..<11), 0..<4)]) == whole)
    // Both at once: half of the slices by experts, the other half by slices.
    #expect(
      one.shared([
        (.shared, 0..<2), (.routed(5..<8), 0..<2), (.routed(8..<11), 0..<2),
        (.routed(0..<5), 0..<2), (.all, 2..<3), (.all, 3..<4),
      ]) == whole)
  }

  @Test("shares that leave something out are not complete")
  func incomplete() {
    #expect(!PartialSums(planes: [.all(slices: 0..<2)], sliceCount: 4, expertCount: 0).isComplete)
    #expect(
      !PartialSums(
        planes: [.shared(slice: 0), .routed(0..<2, slice: 0)], sliceCount: 1, expertCount: 4
      ).isComplete)
  }
}
