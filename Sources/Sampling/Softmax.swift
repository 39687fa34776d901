/// Sums and exponentials over one row of logits in one fixed order.
///
/// Everything is a function of the row alone: no result depends on a neighbour in the batch. The
/// weights are unnormalised probabilities exp((x − max) · scale) in Float32, in blocks of
/// `blockCount`; a block is summed in Double, in four lanes (token mod 4) joined as (0+1)+(2+3),
/// the blocks in ascending order.
struct Softmax {
  static let blockCount = 256

  private(set) var weights: [Float]
  private var blockSums: [Double]

  init(vocabularyCount: Int) {
    weights = [Float](repeating: 0, count: vocabularyCount)
    blockSums = [Double](
      repeating: 0, count: (vocabularyCount + Self.blockCount - 1) / Self.blockCount)
  }

  /// The largest logit, or `nil` when one is NaN or positive infinity.
  static func maximum(_ logits: Span<Float>) -> Float? {
    var maximum = -Float.infinity
    var isValid = true
    for index in logits.indices {
      let logit = logits[index]
      maximum = logit > maximum ? logit : maximum
      isValid = isValid && logit < .infinity
    }
    return isValid ? maximum : nil
  }

  /// Computes every weight, 0 for logits below `floor`, and returns their sum.
  mutating func fill(
    _ logits: Span<Float>, maximum: Float, scale: Float, floor: Double = -.infinity
  ) -> Double {
    precondition(logits.count == weights.count, "the row does not fit the vocabulary")
    let lowest = Self.roundedUp(floor)
    var output = weights.mutableSpan
    for index in output.indices {
      let logit = logits[index]
      let weight = PortableMath.expOfNonPositive((logit - maximum) * scale)
      output[index] = logit >= lowest ? weight : 0
    }
    return sumBlocks()
  }

  /// The smallest Float that is not below `value`: comparing with it is comparing with `value`.
  private static func roundedUp(_ value: Double) -> Float {
    let nearest = Float(value)
    return Double(nearest) < value ? nearest.nextUp : nearest
  }

  /// Sets the weight of every token worse than `last` to 0 and returns the sum of the others.
  mutating func forbid(worseThan last: Candidate, logits: Span<Float>) -> Double {
    // Without branches on the data: which tokens are worse is as good as random.
    var output = weights.mutableSpan
    let border = last.logit
    for token in output.indices { output[token] = logits[token] >= border ? output[token] : 0 }
    for token in last.token + 1..<output.count {
      output[token] = logits[token] > border ? output[token] : 0
    }
    return sumBlocks()
  }

  /// The token at which the running sum, in ascending order of ids, first exceeds `mass`.
  func token(at mass: Double) -> Int {
    var before = 0.0
    var block = 0
    while block + 1 < blockSums.count && before + blockSums[block] <= mass {
      before += blockSums[block]
      block += 1
    }
    // Rounding may leave the block's own running sum short of the mass: then it is the last token
    // that can occur at all up to the block's end.
    let end = min((block + 1) * Self.blockCount, weights.count)
    for token in block * Self.blockCount..<end where weights[token] > 0 {
      before += Double(weights[token])
      if before > mass { return token }
    }
    var last = end - 1
    while last > 0 && weights[last] == 0 { last -= 1 }
    return last
  }

  private mutating func sumBlocks() -> Double {
    var total = 0.0
    for block in blockSums.indices {
      let start = block * Self.blockCount
      let end = min(start + Self.blockCount, weights.count)
      var lanes = (0.0, 0.0, 0.0, 0.0)
      var index = start
      while index + 3 < end {
        lanes.0 += Double(weights[index])
        lanes.1 += Double(weights[index + 1])
        lanes.2 += Double(weights[index + 2])
        lanes.3 += Double(weights[index + 3])
        index += 4
      }
      if index < end { lanes.0 += Double(weights[index]) }
      if index + 1 < end { lanes.1 += Double(weights[index + 1]) }
      if index + 2 < end { lanes.2 += Double(weights[index + 2]) }
      blockSums[block] = (lanes.0 + lanes.1) + (lanes.2 + lanes.3)
      total += blockSums[block]
    }
    return total
  }
}
