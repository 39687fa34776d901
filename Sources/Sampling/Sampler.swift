/// Chooses tokens from rows of logits; owns the scratch memory, so one per thread.
///
/// The order is vLLM's: processors, temperature, min-p, top-k, top-p, draw. A row is never sorted:
/// top-k keeps a heap of k, top-p looks only at tokens that could matter. The draw is the inverse
/// of the cumulative distribution over ascending token ids at `SeededRandom.uniform(position)`, so
/// the result is a function of (logits, parameters, context) and of nothing else. (Gumbel noise
/// needs a logarithm per token and a random number per token; it lost.)
package struct Sampler {
  /// V, the number of logits in a row.
  package let vocabularyCount: Int
  private var processed: [Float]
  private var softmax: Softmax
  private var selection = TopSelection()

  /// Allocates scratch for rows of `vocabularyCount` logits.
  package init(vocabularyCount: Int) {
    precondition(vocabularyCount > 0, "a vocabulary has tokens")
    self.vocabularyCount = vocabularyCount
    processed = [Float](repeating: 0, count: vocabularyCount)
    softmax = Softmax(vocabularyCount: vocabularyCount)
  }

  /// Chooses the token that follows, and reports on it as the parameters ask.
  ///
  /// - Shape: `logits` [V], as the model computed them.
  /// - Precision: processors and exponentials Float32; sums and the comparison with the random
  ///   number Double.
  package mutating func sample(
    _ logits: Span<Float>, _ parameters: borrowing SamplingParameters,
    _ context: borrowing SamplingContext
  ) throws(SamplingError) -> SampledToken {
    precondition(logits.count == vocabularyCount, "the row does not fit the vocabulary")
    let token: Int
    if LogitsProcessors.areActive(parameters, context) {
      var copy = processed.mutableSpan
      for index in copy.indices { copy[index] = logits[index] }
      LogitsProcessors.apply(parameters, context, to: &copy)
      token = try choose(processed, parameters, context)
    } else {
      token = try Self.choose(logits, &softmax, &selection, parameters, context)
    }
    guard let count = parameters.logprobs else { return SampledToken(id: token, logprobs: nil) }
    let report = try logprobs(
      logits, of: token, topCount: count, listed: parameters.logprobTokens,
      position: context.position)
    return SampledToken(id: token, logprobs: report)
  }

  /// Reports on a given token: a chosen one, a forced one, or the next one of a prompt.
  ///
  /// - Parameters:
  ///   - topCount: how many of the most likely tokens to list; -1 lists all.
  ///   - listed: tokens to list in place of the most likely ones, unless empty.
  /// - Precision: natural log-softmax; Double sums over Float32 logits, rounded once at the end.
  package mutating func logprobs(
    _ logits: Span<Float>, of token: Int, topCount: Int, listed: [Int] = [], position: Int
  ) throws(SamplingError) -> TokenLogprobs {
    precondition(logits.count == vocabularyCount, "the row does not fit the vocabulary")
    guard let maximum = Softmax.maximum(logits), maximum.isFinite else {
      throw .invalidLogit(position: position)
    }
    let sum = softmax.fill(logits, maximum: maximum, scale: 1)
    let normalizer = Double(maximum) + PortableMath.log(sum)
    let chosen = logits[token]
    var rank = 1
    for index in logits.indices where logits[index] >= chosen {
      if logits[index] > chosen || index < token { rank += 1 }
    }
    var top = listed.map {
      TokenLogprob(token: $0, logprob: Float(Double(logits[$0]) - normalizer))
    }
    if topCount != 0 && listed.isEmpty {
      let count = topCount < 0 ? vocabularyCount : min(topCount, vocabularyCount)
      selection.selectBest(count, of: logits, from: -.infinity)
      top.reserveCapacity(count)
      for candidate in selection.candidates {
        let logprob = Float(Double(candidate.logit) - normalizer)
        top.append(TokenLogprob(token: candidate.token, logprob: logprob))
      }
    }
    return TokenLogprobs(
      chosen: TokenLogprob(token: token, logprob: Float(Double(chosen) - normalizer)),
      rank: rank, top: top)
  }

  private mutating func choose(
    _ row: [Float], _ parameters: borrowing SamplingParameters,
    _ context: borrowing SamplingContext
  ) throws(SamplingError) -> Int {
    try Self.choose(row.span, &softmax, &selection, parameters, context)
  }

  private static func choose(
    _ logits: Span<Float>, _ softmax: inout Softmax, _ selection: inout TopSelection,
    _ parameters: borrowing SamplingParameters, _ context: borrowing SamplingContext
  ) throws(SamplingError) -> Int {
    guard let maximum = Softmax.maximum(logits) else {
      throw .invalidLogit(position: context.position)
    }
    guard maximum.isFinite else { throw .noTokenAllowed(position: context.position) }
    if parameters.isGreedy { return firstToken(of: maximum, in: logits) }
    let scale = Float(1 / parameters.temperature)
    let uniform = SeededRandom(seed: context.seed).uniform(position: context.position)
    var floor = -Double.infinity
    if parameters.minP > 0 {
      floor = Double(maximum) + parameters.temperature * logOfProbability(parameters.minP)
    }
    if let topK = parameters.topK, topK < logits.count {
      selection.selectBest(topK, of: logits, from: floor)
      return drawSelected(maximum, scale, parameters.topP, uniform, &selection)
    }
    var total = softmax.fill(logits, maximum: maximum, scale: scale, floor: floor)
    if parameters.topP < 1 {
      // Tokens that weigh less than (1 − topP) · total / V weigh less than (1 − topP) · total
      // together, so top-p keeps none of them.
      let cut = (1 - parameters.topP) * total / Double(logits.count)
      let reach = -logOfProbability(cut) * parameters.temperature
      let last = selection.lastNeeded(
        toReach: parameters.topP * total, weights: softmax.weights, logits: logits,
        maximum: maximum, reach: reach)
      total = softmax.forbid(worseThan: last, logits: logits)
    }
    return softmax.token(at: uniform * total)
  }

  /// Draws among the selected tokens, cut by top-p, in ascending order of ids.
  private static func drawSelected(
    _ maximum: Float, _ scale: Float, _ topP: Double, _ uniform: Double,
    _ selection: inout TopSelection
  ) -> Int {
    func weight(_ candidate: Candidate) -> Double {
      Double(PortableMath.expOfNonPositive((candidate.logit - maximum) * scale))
    }
    if topP < 1 {
      let total = selection.candidates.reduce(0) { $0 + weight($1) }
      selection.keepBest(reaching: topP * total, weight: weight)
    }
    selection.sortByToken()
    let total = selection.candidates.reduce(0) { $0 + weight($1) }
    var reached = 0.0
    var last = 0
    for candidate in selection.candidates {
      let candidateWeight = weight(candidate)
      reached += candidateWeight
      if candidateWeight > 0 { last = candidate.token }
      if reached > uniform * total { return candidate.token }
    }
    return last
  }

  private static func firstToken(of maximum: Float, in logits: Span<Float>) -> Int {
    for token in logits.indices where logits[token] == maximum { return token }
    preconditionFailure("the maximum is one of the logits")
  }

  /// ln p, also for the probabilities too small to be normal numbers.
  private static func logOfProbability(_ p: Double) -> Double {
    p.isNormal ? PortableMath.log(p) : -1000
  }
}
