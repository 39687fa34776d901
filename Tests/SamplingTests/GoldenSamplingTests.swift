import Sampling
import TestSupport
import Testing

/// The file that Tools/reference/sampling_golden.py writes.
private struct Golden: Decodable {
  struct Draw: Decodable {
    let seed: UInt64
    let position: Int
    let uniform: Double
  }

  struct Case: Decodable {
    let vocabulary: Int
    let steps: Float
    let salt: UInt64
    let seed: UInt64
    let position: Int
    let temperature: Double
    let top_k: Int?
    let top_p: Double?
    let min_p: Double?
    let repetition_penalty: Double?
    let presence_penalty: Double?
    let frequency_penalty: Double?
    let logit_bias: [[Double]]?
    let allowed: [Int]?
    let bad_words: [[Int]]?
    let min_tokens: Int?
    let stop_tokens: [Int]?
    let prompt: [Int]?
    let generated: [Int]?
    let logprobs: Int
    let token: Int
    let logprob: Float
    let rank: Int
    let top: [Int]
    let top_logprobs: [Float]
  }

  let philox: [Draw]
  let cases: [Case]
}

@Suite struct GoldenSamplingTests {
  @Test("uniform numbers are those of NumPy's Philox") func philox() throws {
    for draw in try Fixtures.json(Golden.self, "sampling/golden.json").philox {
      let uniform = SeededRandom(seed: draw.seed).uniform(position: draw.position)
      #expect(uniform == draw.uniform, "seed \(draw.seed), position \(draw.position)")
    }
  }

  @Test("tokens and logprobs are those of an implementation by full sorts") func tokens() throws {
    for golden in try Fixtures.json(Golden.self, "sampling/golden.json").cases {
      var sampler = Sampler(vocabularyCount: golden.vocabulary)
      let logits = row(golden.vocabulary, golden.steps, golden.salt)
      let sampled = try sampler.sample(logits.span, parameters(golden), context(golden))
      #expect(sampled.id == golden.token, "\(golden)")
      let report = try #require(sampled.logprobs)
      #expect(report.rank == golden.rank)
      #expect(abs(report.chosen.logprob - golden.logprob) < 2e-6)
      #expect(report.top.map(\.token) == golden.top)
      for (found, expected) in zip(report.top, golden.top_logprobs) {
        #expect(abs(found.logprob - expected) < 2e-6)
      }
    }
  }

  private func row(_ count: Int, _ steps: Float, _ salt: UInt64) -> [Float] {
    (0..<count).map { id in
      let hashed = (UInt64(id) &* 2_654_435_761 &+ salt) & 0xFFFF_FFFF
      let value = Double(hashed >> 8) / 16_777_216 * 20 - 10
      guard steps > 0 else { return Float(value) }
      return Float((value * Double(steps)).rounded(.down) / Double(steps))
    }
  }

  private func parameters(_ golden: Golden.Case) throws -> SamplingParameters {
    try SamplingParameters(
      temperature: golden.temperature, topK: golden.top_k, topP: golden.top_p ?? 1,
      minP: golden.min_p ?? 0, repetitionPenalty: golden.repetition_penalty ?? 1,
      presencePenalty: golden.presence_penalty ?? 0,
      frequencyPenalty: golden.frequency_penalty ?? 0,
      logitBias: (golden.logit_bias ?? []).map { TokenBias(token: Int($0[0]), bias: $0[1]) },
      allowedTokens: golden.allowed, badWords: golden.bad_words ?? [],
      minTokens: golden.min_tokens ?? 0, logprobs: golden.logprobs)
  }

  private func context(_ golden: Golden.Case) -> SamplingContext {
    var history = TokenHistory(prompt: golden.prompt ?? [])
    for token in golden.generated ?? [] { history.append(token) }
    return SamplingContext(
      seed: golden.seed, position: golden.position,
      generatedCount: golden.generated?.count ?? 0, history: history,
      stopTokens: golden.stop_tokens ?? [])
  }
}
