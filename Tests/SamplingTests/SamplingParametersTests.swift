import Sampling
import Testing

@Suite struct SamplingParametersTests {
  @Test("defaults change nothing") func defaults() throws {
    let parameters = try SamplingParameters()
    #expect(parameters.temperature == 1)
    #expect(parameters.topK == nil)
    #expect(!parameters.isGreedy)
    #expect(!parameters.needsHistory)
  }

  @Test(
    "an error names the parameter as requests write it",
    arguments: [
      ("temperature", Result { try SamplingParameters(temperature: -0.1) }),
      ("temperature", Result { try SamplingParameters(temperature: .nan) }),
      ("top_p", Result { try SamplingParameters(topP: 0) }),
      ("top_p", Result { try SamplingParameters(topP: 1.5) }),
      ("top_k", Result { try SamplingParameters(topK: -2) }),
      ("min_p", Result { try SamplingParameters(minP: 1.1) }),
      ("repetition_penalty", Result { try SamplingParameters(repetitionPenalty: 0) }),
      ("repetition_penalty", Result { try SamplingParameters(repetitionPenalty: .infinity) }),
      ("presence_penalty", Result { try SamplingParameters(presencePenalty: 2.5) }),
      ("frequency_penalty", Result { try SamplingParameters(frequencyPenalty: -3) }),
      (
        "logit_bias", Result { try SamplingParameters(logitBias: [TokenBias(token: 1, bias: 101)]) }
      ),
      ("allowed_token_ids", Result { try SamplingParameters(allowedTokens: []) }),
      ("bad_words", Result { try SamplingParameters(badWords: [[]]) }),
      ("min_tokens", Result { try SamplingParameters(minTokens: -1) }),
      ("logprobs", Result { try SamplingParameters(logprobs: -2) }),
    ]) func naming(name: String, result: Result<SamplingParameters, any Error>) throws
  {
    let error = #expect(throws: SamplingError.self) { try result.get() }
    #expect(error?.parameter?.rawValue == name)
    #expect(error?.description.hasPrefix(name) == true)
  }

  @Test("0 and -1 switch top-k off") func topKOff() throws {
    #expect(try SamplingParameters(topK: 0).topK == nil)
    #expect(try SamplingParameters(topK: -1).topK == nil)
    #expect(try SamplingParameters(topK: 3).topK == 3)
  }

  @Test("token ids are checked against the vocabulary") func vocabulary() throws {
    let bias = try SamplingParameters(logitBias: [TokenBias(token: 10, bias: 1)])
    #expect(
      throws: SamplingError.tokenOutOfRange(
        parameter: .logitBias, token: 10, vocabularyCount: 10)
    ) { try bias.validate(vocabularyCount: 10) }
    try bias.validate(vocabularyCount: 11)
    let words = try SamplingParameters(badWords: [[1], [2, -1]])
    #expect(throws: SamplingError.self) { try words.validate(vocabularyCount: 10) }
  }

  @Test("a token with two biases is refused, a repeated allowed token is one") func lists() throws {
    #expect(throws: SamplingError.duplicateToken(parameter: .logitBias, token: 4)) {
      try SamplingParameters(
        logitBias: [TokenBias(token: 4, bias: 1), TokenBias(token: 4, bias: 2)])
    }
    #expect(try SamplingParameters(allowedTokens: [3, 1, 3]).allowedTokens == [1, 3])
  }
}
