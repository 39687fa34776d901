import CKernels
package import Tensors

/// Adds up partial sums that several owners of a layer's parts have computed, in the order of one
/// owner (`Compute.feedForward`): binary trees over slices and over experts, absent sides left out.
///
/// What is added for each token is found by asking who holds a part; a plane is one partial sum
/// [T, D] of an owner.
package struct PartialSums: Sendable {
  /// A part of the sum that may be someone's plane.
  package enum Part: Sendable, Hashable {
    /// All experts, over a range of slices that is already added up.
    case all(slices: Range<Int>)
    /// The shared expert in one slice.
    case shared(slice: Int)
    /// The routed experts of a range in one slice.
    case routed(Range<Int>, slice: Int)
  }

  private let planes: [Part: Int]
  private let sliceCount: Int
  private let expertCount: Int
  private var terms: [ck_term] = []
  private var starts: [Int] = []
  private var chosen: [Int] = []

  /// Planes in the order in which their memory stands; together they must make up the layer.
  package init(planes: [Part], sliceCount: Int, expertCount: Int) {
    self.planes = Dictionary(
      planes.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
    precondition(self.planes.count == planes.count, "two planes hold the same part")
    self.sliceCount = sliceCount
    self.expertCount = expertCount
  }

  /// Whether the planes make up the layer.
  package var isComplete: Bool { isComplete(0..<sliceCount) }

  private func isComplete(_ slices: Range<Int>) -> Bool {
    if planes[.all(slices: slices)] != nil { return true }
    if slices.count > 1 {
      let middle = ExpertTree.middle(of: slices)
      return isComplete(slices.lowerBound..<middle) && isComplete(middle..<slices.upperBound)
    }
    let slice = slices.lowerBound
    return planes[.shared(slice: slice)] != nil && isComplete(0..<expertCount, slice)
  }

  private func isComplete(_ experts: Range<Int>, _ slice: Int) -> Bool {
    if planes[.routed(experts, slice: slice)] != nil { return true }
    if experts.count < 2 { return false }
    let middle = ExpertTree.middle(of: experts)
    return isComplete(experts.lowerBound..<middle, slice)
      && isComplete(middle..<experts.upperBound, slice)
  }

  /// Adds up the planes.
  ///
  /// - Shape: `partial` [planes, T, D], `experts` [T, K] → `output` [T, D].
  package mutating func combine(
    _ partial: borrowing Buffer<Float>, experts: borrowing Buffer<Int32>, expertsPerToken: Int,
    tokenCount: Int, hiddenSize: Int, compute: Compute, into output: inout Buffer<Float>
  ) {
    precondition(
      planes.count * tokenCount * hiddenSize <= partial.count
        && tokenCount * hiddenSize <= output.count
        && (expertCount == 0 || tokenCount * expertsPerToken <= experts.count),
      "planes outside the buffer")
    precondition(isComplete, "the planes do not make up the layer")
    terms.removeAll(keepingCapacity: true)
    starts.removeAll(keepingCapacity: true)
    starts.append(0)
    for token in 0..<tokenCount {
      chosen.removeAll(keepingCapacity: true)
      if expertCount > 0 {
        for choice in 0..<expertsPerToken {
          chosen.append(Int(experts[token * expertsPerToken + choice]))
        }
      }
      add(0..<sliceCount, token, tokenCount)
      starts.append(terms.count)
    }
    run(partial, hiddenSize, compute, &output)
  }

  private func run(
    _ partial: borrowing Buffer<Float>, _ hiddenSize: Int, _ compute: Compute,
    _ output: inout Buffer<Float>
  ) {
    let table = unsafe compute.kernels.table
    unsafe partial.withUnsafePointer { partial in
      unsafe output.withUnsafeMutablePointer { output in
        unsafe terms.withUnsafeBufferPointer { terms in
          compute.forEachRange(starts.count - 1, grain: max(1, 65_536 / hiddenSize)) { range, _ in
            for token in range {
              let first = starts[token]
              unsafe table.pointee.combine(
                output + token * hiddenSize, 0, partial, 1, hiddenSize,
                terms.baseAddress.map { unsafe $0 + first }, starts[token + 1] - first)
            }
          }
        }
      }
    }
  }

  private mutating func add(_ slices: Range<Int>, _ token: Int, _ tokenCount: Int) {
    if let plane = planes[.all(slices: slices)] { return add(plane, token, tokenCount) }
    if slices.count > 1 {
      let middle = ExpertTree.middle(of: slices)
      add(slices.lowerBound..<middle, token, tokenCount)
      add(middle..<slices.upperBound, token, tokenCount)
      terms[terms.count - 1].adds += 1
      return
    }
    let slice = slices.lowerBound
    guard let shared = planes[.shared(slice: slice)] else { return }
    add(shared, token, tokenCount)
    if add(0..<expertCount, slice, token, tokenCount) { terms[terms.count - 1].adds += 1 }
  }

  /// Adds the chosen experts of a range; false when there is none.
  private mutating func add(
    _ experts: Range<Int>, _ slice: Int, _ token: Int, _ tokenCount: Int
  ) -> Bool {
    if !chosen.contains(where: experts.contains) { return false }
    if let plane = planes[.routed(experts, slice: slice)] {
      add(plane, token, tokenCount)
      return true
    }
    let middle = ExpertTree.middle(of: experts)
    let left = add(experts.lowerBound..<middle, slice, token, tokenCount)
    let right = add(middle..<experts.upperBound, slice, token, tokenCount)
    if left && right { terms[terms.count - 1].adds += 1 }
    return true
  }

  private mutating func add(_ plane: Int, _ token: Int, _ tokenCount: Int) {
    terms.append(ck_term(slot: UInt32(plane * tokenCount + token), adds: 0, factor: 1))
  }
}
