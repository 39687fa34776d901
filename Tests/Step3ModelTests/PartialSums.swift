import Kernels
import Step3Model

/// The slow reference for partial sums of several owners: plain recursion over the trees of slices
/// and experts, absent sides left out.
struct PartialSums {
  /// A part of the sum that may be someone's plane.
  enum Part: Hashable {
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

  /// Planes in the order in which their memory stands; together they must make up the layer.
  init(planes: [Part], sliceCount: Int, expertCount: Int) {
    self.planes = Dictionary(uniqueKeysWithValues: planes.enumerated().map { ($1, $0) })
    self.sliceCount = sliceCount
    self.expertCount = expertCount
  }

  /// Whether the planes make up the layer.
  var isComplete: Bool { isComplete(0..<sliceCount) }

  private func isComplete(_ slices: Range<Int>) -> Bool {
    if planes[.all(slices: slices)] != nil { return true }
    guard slices.count > 1 else {
      return planes[.shared(slice: slices.lowerBound)] != nil
        && isComplete(0..<expertCount, slices.lowerBound)
    }
    let middle = ExpertTree.middle(of: slices)
    return isComplete(slices.lowerBound..<middle) && isComplete(middle..<slices.upperBound)
  }

  private func isComplete(_ experts: Range<Int>, _ slice: Int) -> Bool {
    if planes[.routed(experts, slice: slice)] != nil { return true }
    guard experts.count > 1 else { return false }
    let middle = ExpertTree.middle(of: experts)
    return isComplete(experts.lowerBound..<middle, slice)
      && isComplete(middle..<experts.upperBound, slice)
  }

  /// One element of a token that chose `experts`; `plane` reads it in a plane.
  func sum(experts: [Int], _ plane: (Int) -> Float) -> Float {
    sum(0..<sliceCount, experts, plane)
  }

  private func sum(_ slices: Range<Int>, _ chosen: [Int], _ plane: (Int) -> Float) -> Float {
    if let place = planes[.all(slices: slices)] { return plane(place) }
    guard slices.count > 1 else {
      let slice = slices.lowerBound
      let shared = planes[.shared(slice: slice)].map(plane) ?? .nan
      return sum(0..<expertCount, slice, chosen, plane).map { shared + $0 } ?? shared
    }
    let middle = ExpertTree.middle(of: slices)
    return sum(slices.lowerBound..<middle, chosen, plane)
      + sum(middle..<slices.upperBound, chosen, plane)
  }

  private func sum(
    _ experts: Range<Int>, _ slice: Int, _ chosen: [Int], _ plane: (Int) -> Float
  ) -> Float? {
    if !chosen.contains(where: experts.contains) { return nil }
    if let place = planes[.routed(experts, slice: slice)] { return plane(place) }
    let middle = ExpertTree.middle(of: experts)
    let left = sum(experts.lowerBound..<middle, slice, chosen, plane)
    let right = sum(middle..<experts.upperBound, slice, chosen, plane)
    guard let left, let right else { return left ?? right }
    return left + right
  }
}

extension FeedForwardShare {
  /// What each of its planes is, in order.
  var parts: [PartialSums.Part] {
    switch experts {
    case .all: [.all(slices: slices)]
    case .shared: slices.map { .shared(slice: $0) }
    case .routed(let range): slices.map { .routed(range, slice: $0) }
    }
  }
}
