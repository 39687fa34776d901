/// A token with its logit; "better" means a higher logit, the lower id on ties.
struct Candidate: Equatable {
  var logit: Float
  var token: Int

  @inline(__always)
  func isBetter(than other: Candidate) -> Bool {
    logit > other.logit || (logit == other.logit && token < other.token)
  }
}

/// Partial ordering of a row of logits without sorting it; its memory is reused from row to row.
struct TopSelection {
  private(set) var candidates: [Candidate] = []
  private var bucketMasses = [Double](repeating: 0, count: 1024)

  /// Leaves the best `count` logits at or above `floor` in `candidates`, best first.
  ///
  /// A heap of `count` entries with the worst at its root: one comparison for nearly every logit.
  ///
  /// - Complexity: O(V + count · log²(count) · log(V / count)) on shuffled logits.
  mutating func selectBest(_ count: Int, of logits: Span<Float>, from floor: Double) {
    candidates.removeAll(keepingCapacity: true)
    guard count > 0 else { return }
    var worst = -Float.infinity
    for token in logits.indices {
      let logit = logits[token]
      // Ids ascend, so an equal logit never displaces; minus infinity is forbidden, not unlikely.
      guard logit > worst, Double(logit) >= floor else { continue }
      if candidates.count < count {
        candidates.append(Candidate(logit: logit, token: token))
        guard candidates.count == count else { continue }
        for root in (0..<count / 2).reversed() { siftDown(root, count) }
      } else {
        candidates[0] = Candidate(logit: logit, token: token)
        siftDown(0, count)
      }
      worst = candidates[0].logit
    }
    if candidates.count < count {
      for root in (0..<candidates.count / 2).reversed() {
        siftDown(root, candidates.count)
      }
    }
    for end in (0..<candidates.count).reversed() {
      candidates.swapAt(0, end)
      siftDown(0, end)
    }
  }

  /// Keeps the best candidates until their weights reach `mass`; they must be sorted.
  mutating func keepBest(reaching mass: Double, weight: (Candidate) -> Double) {
    var reached = 0.0
    for (index, candidate) in candidates.enumerated() {
      reached += weight(candidate)
      if reached >= mass {
        candidates.removeLast(candidates.count - index - 1)
        return
      }
    }
  }

  /// Orders the candidates by ascending token.
  mutating func sortByToken() {
    candidates.sort { $0.token < $1.token }
  }

  /// Finds the worst token that is still needed for the best ones to weigh at least `mass`.
  ///
  /// Sums the weights in buckets of equal width over the distance to the best logit, then sorts
  /// only the bucket in which `mass` is reached.
  ///
  /// - Parameter reach: the distance from `maximum` beyond which nothing can be needed.
  mutating func lastNeeded(
    toReach mass: Double, weights: [Float], logits: Span<Float>, maximum: Float, reach: Double
  ) -> Candidate {
    // The last bucket collects what lies beyond the reach: a minimum costs less than a branch.
    let last = bucketMasses.count - 1
    let perUnit = Float(Double(last) / max(reach, 1e-6))
    for bucket in bucketMasses.indices { bucketMasses[bucket] = 0 }
    for token in logits.indices {
      let bucket = Int(min((maximum - logits[token]) * perUnit, Float(last)))
      bucketMasses[bucket] += Double(weights[token])
    }
    var reached = 0.0
    var border = 0
    while border + 1 < bucketMasses.count && reached + bucketMasses[border] < mass {
      reached += bucketMasses[border]
      border += 1
    }
    // Rounding may leave the sum short of the mass: step back to a bucket that holds something.
    while border > 0 && bucketMasses[border] == 0 {
      border -= 1
      reached -= bucketMasses[border]
    }
    candidates.removeAll(keepingCapacity: true)
    for token in logits.indices {
      let bucket = Int(min((maximum - logits[token]) * perUnit, Float(last)))
      guard bucket == border else { continue }
      if weights[token] > 0 { candidates.append(Candidate(logit: logits[token], token: token)) }
    }
    candidates.sort { $0.isBetter(than: $1) }
    for candidate in candidates {
      reached += Double(weights[candidate.token])
      if reached >= mass { return candidate }
    }
    return candidates.last ?? Candidate(logit: -.infinity, token: 0)
  }

  /// Restores the heap, worst first, below `root` among the first `count` candidates.
  @inline(__always)
  private mutating func siftDown(_ root: Int, _ count: Int) {
    guard count > 1 else { return }
    var parent = root
    let moving = candidates[root]
    while true {
      var child = 2 * parent + 1
      guard child < count else { break }
      if child + 1 < count && candidates[child].isBetter(than: candidates[child + 1]) {
        child += 1
      }
      guard moving.isBetter(than: candidates[child]) else { break }
      candidates[parent] = candidates[child]
      parent = child
    }
    candidates[parent] = moving
  }
}
