import Sampling
import Testing

/// A row of logits that differs from salt to salt, roughly bell-shaped around 0.
private func bell(_ count: Int, salt: Int, spread: Float = 3) -> [Float] {
  let random = SeededRandom(seed: UInt64(salt))
  return (0..<count).map { id in
    let sum = (0..<4).reduce(0.0) { $0 + random.uniform(position: id * 4 + $1) }
    return Float(sum - 2) * spread * 1.7
  }
}

@Suite struct SamplerTests {
  @Test("temperature 0 takes the lowest id among the most likely") func greedy() throws {
    var sampler = Sampler(vocabularyCount: 6)
    let parameters = try SamplingParameters(temperature: 0)
    let row: [Float] = [0, 3, -1, 3, 3, 2]
    for position in 0..<20 {
      let context = SamplingContext(seed: 9, position: position)
      #expect(try sampler.sample(row.span, parameters, context).id == 1)
    }
  }

  @Test("top-k 1 is greedy, ties included") func topOne() throws {
    var sampler = Sampler(vocabularyCount: 500)
    let greedy = try SamplingParameters(temperature: 0)
    let one = try SamplingParameters(temperature: 1.7, topK: 1)
    for salt in 0..<50 {
      let row = bell(500, salt: salt).map { ($0 * 2).rounded() / 2 }
      let context = SamplingContext(seed: 3, position: salt)
      let expected = try sampler.sample(row.span, greedy, context).id
      #expect(try sampler.sample(row.span, one, context).id == expected)
    }
  }

  @Test("frequencies follow the softmax: chi-square below its 99.9 % quantile")
  func distribution() throws {
    let row = bell(20, salt: 5, spread: 1)
    let weights = row.map { Double(PortableMath.expOfNonPositive($0 / 0.9 - 4)) }
    let total = weights.reduce(0, +)
    let parameters = try SamplingParameters(temperature: 0.9)
    var sampler = Sampler(vocabularyCount: 20)
    for seed in [1, 2, 3] as [UInt64] {
      var counts = [Int](repeating: 0, count: 20)
      let draws = 40_000
      for position in 0..<draws {
        let context = SamplingContext(seed: seed, position: position)
        counts[try sampler.sample(row.span, parameters, context).id] += 1
      }
      var chiSquare = 0.0
      for (count, weight) in zip(counts, weights) {
        let expected = weight / total * Double(draws)
        chiSquare += (Double(count) - expected) * (Double(count) - expected) / expected
      }
      #expect(chiSquare < 43.8, "19 degrees of freedom, seed \(seed)")  // 99.9 % quantile
    }
  }

  @Test("what one row yields does not depend on the rows sampled before it") func independence()
    throws
  {
    let parameters = try SamplingParameters(temperature: 1.2, topP: 0.9, logprobs: 3)
    var shared = Sampler(vocabularyCount: 700)
    for salt in 0..<40 {
      var alone = Sampler(vocabularyCount: 700)
      let row = bell(700, salt: salt)
      let context = SamplingContext(seed: UInt64(salt), position: salt)
      let expected = try alone.sample(row.span, parameters, context)
      #expect(try shared.sample(row.span, parameters, context) == expected)
    }
  }

  @Test("a forbidden token is never chosen, however the rules are combined") func forbidden()
    throws
  {
    var sampler = Sampler(vocabularyCount: 130)
    let variants = [
      try SamplingParameters(temperature: 2), try SamplingParameters(temperature: 2, topK: 100),
      try SamplingParameters(temperature: 2, topP: 0.999_999),
      try SamplingParameters(temperature: 2, minP: 1e-9), try SamplingParameters(temperature: 0),
    ]
    // Two tokens allowed, in different mask words, neither likely.
    var mask = [UInt64](repeating: 0, count: 3)
    mask[0] = 1 << 7
    mask[2] = 1 << 1
    var row = bell(130, salt: 1)
    row[7] = -30
    row[129] = -30
    for parameters in variants {
      for position in 0..<50 {
        let context = SamplingContext(seed: 5, position: position, allowedMask: mask)
        #expect([7, 129].contains(try sampler.sample(row.span, parameters, context).id))
      }
    }
  }

  @Test("rules that exclude each other, and broken logits, are typed errors") func errors() throws {
    var sampler = Sampler(vocabularyCount: 64)
    let row = bell(64, salt: 2)
    let only = try SamplingParameters(allowedTokens: [3])
    #expect(throws: SamplingError.noTokenAllowed(position: 8)) {
      try sampler.sample(
        row.span, only, SamplingContext(seed: 1, position: 8, allowedMask: [1 << 5]))
    }
    for bad in [Float.nan, .infinity] {
      var broken = row
      broken[11] = bad
      for temperature in [0.0, 1.0] {
        let parameters = try SamplingParameters(temperature: temperature)
        #expect(throws: SamplingError.invalidLogit(position: 2)) {
          try sampler.sample(broken.span, parameters, SamplingContext(seed: 1, position: 2))
        }
      }
    }
  }

  @Test("the top list of the whole vocabulary is sorted and its probabilities sum to 1")
  func wholeVocabulary() throws {
    var sampler = Sampler(vocabularyCount: 333)
    let row = bell(333, salt: 12)
    let report = try sampler.logprobs(row.span, of: 40, topCount: -1, position: 0)
    #expect(report.top.count == 333)
    #expect(zip(report.top, report.top.dropFirst()).allSatisfy { $0.logprob >= $1.logprob })
    #expect(report.top[report.rank - 1] == report.chosen)
    let total = report.top.reduce(0.0) {
      $0 + Double(PortableMath.expOfNonPositive($1.logprob))
    }
    #expect(abs(total - 1) < 1e-5)
  }

  @Test("logprobs ignore bias, penalties and temperature") func rawLogprobs() throws {
    var sampler = Sampler(vocabularyCount: 50)
    let row = bell(50, salt: 4)
    let forced = try SamplingParameters(
      temperature: 0.3, logitBias: [TokenBias(token: 9, bias: 100)], logprobs: 2)
    let sampled = try sampler.sample(row.span, forced, SamplingContext(seed: 0, position: 0))
    #expect(sampled.id == 9)
    let plain = try sampler.logprobs(row.span, of: 9, topCount: 2, position: 0)
    #expect(sampled.logprobs == plain)
  }

  @Test("top-p keeps the fewest of the best, also when all are equal") func topPOnFlatRows() throws
  {
    var sampler = Sampler(vocabularyCount: 1000)
    let row = [Float](repeating: 1.5, count: 1000)
    let parameters = try SamplingParameters(topP: 0.01)
    for position in 0..<200 {
      let token = try sampler.sample(
        row.span, parameters, SamplingContext(seed: 2, position: position)
      ).id
      #expect(token < 10)
    }
  }

  @Test("large selections equal sorting, at sizes round the block and lane borders")
  func largeSelections() throws {
    for count in [1, 2, 3, 255, 256, 257, 1023] {
      var sampler = Sampler(vocabularyCount: count)
      let row = bell(count, salt: count).map { ($0 * 4).rounded() / 4 }
      let sorted = (0..<count).sorted { (row[$0], $1) > (row[$1], $0) }
      for top in [1, count / 2, count] where top > 0 {
        let report = try sampler.logprobs(row.span, of: 0, topCount: top, position: 0)
        #expect(report.top.map(\.token) == Array(sorted.prefix(top)))
      }
    }
  }
}

@Suite struct PortableMathTests {
  @Test("exp is right to 2e-7 and log to 1e-14") func accuracy() {
    for step in 1..<8000 {
      let x = -Float(step) / 100
      let y = PortableMath.expOfNonPositive(x)
      #expect(abs(PortableMath.log(Double(y)) - Double(x)) <= 2e-7, "exp(\(x))")
    }
    #expect(PortableMath.expOfNonPositive(0) == 1)
    #expect(PortableMath.expOfNonPositive(-88) == 0)
    #expect(PortableMath.expOfNonPositive(-.infinity) == 0)
    #expect(abs(PortableMath.expOfNonPositive(-1) - 0.367_879_44) < 4e-8)
    #expect(PortableMath.log(1) == 0)
    #expect(abs(PortableMath.log(10) - 2.302_585_092_994_046) < 1e-15)
    #expect(abs(PortableMath.log(1e-300) + 690.775_527_898_213_7) < 1e-12)
  }
}
