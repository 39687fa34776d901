import Inference
import JSONScanning
import Serving
import Testing

@Suite(.serialized) struct CompletionsTests {
  @Test func scoresAPromptAsEvaluationHarnessesAsk() async throws {
    let api = try TestAPI(ScriptedEngine("z"))
    let answer = await api.post(
      "/v1/completions",
      [
        "prompt": [[97, 98, 99], [100, 101]], "max_tokens": 1, "logprobs": 1, "echo": true,
        "temperature": 0, "seed": 1234,
      ])
    #expect(answer.status == 200)
    let choices = answer.json["choices"]?.array ?? []
    #expect(choices.map { $0["text"]?.string } == ["abcz", "dez"])
    let logprobs = choices[0]["logprobs"]
    #expect(logprobs?["tokens"] == ["a", "b", "c", "z"])
    #expect(logprobs?["token_logprobs"]?[0] == .null)
    #expect(logprobs?["top_logprobs"]?[0] == .null)
    #expect(abs((logprobs?["token_logprobs"]?[1]?.number ?? 0) - -0.98) < 1e-6)
    #expect(logprobs?["top_logprobs"]?[1]?["b"] != nil)
    #expect(logprobs?["text_offset"] == [0, 1, 2, 3])
    #expect(answer.json["usage"]?["prompt_tokens"] == 5)
  }

  @Test func onlyScoresWhenNoTokenIsWanted() async throws {
    let api = try TestAPI(ScriptedEngine("z"))
    let answer = await api.post(
      "/v1/completions", ["prompt": "ab", "max_tokens": 0, "logprobs": 0, "echo": true])
    let choice = answer.json["choices"]?[0]
    #expect(choice?["text"] == "ab")
    #expect(choice?["finish_reason"] == "length")
    #expect(choice?["logprobs"]?["tokens"] == ["a", "b"])
    #expect(await api.post("/v1/completions", ["prompt": "ab", "max_tokens": 0]).status == 400)
  }

  @Test func ordersChoicesByPromptAndLimitsThemToSixteenTokens() async throws {
    let engine = ScriptedEngine { request, choice in
      request.prompt + ByteText.tokens("-\(choice)" + String(repeating: "x", count: 50))
    }
    let api = try TestAPI(engine)
    let answer = await api.post("/v1/completions", ["prompt": ["p", "q"], "n": 2]).json
    let texts = (answer["choices"]?.array ?? []).compactMap { $0["text"]?.string }
    #expect(texts.map { String($0.prefix(3)) } == ["p-0", "p-1", "q-0", "q-1"])
    #expect(texts.allSatisfy { $0.count == 16 })
    #expect(answer["usage"]?["completion_tokens"] == 64)
  }

  @Test func streamsTheSameTextAndLogprobs() async throws {
    let api = try TestAPI(ScriptedEngine("ab🙂c"))
    let request: JSONValue = ["prompt": "hé", "logprobs": 1, "echo": true]
    guard var streaming = request.object else { return }
    streaming["stream"] = true
    streaming["stream_options"] = ["include_usage": true]
    let whole = await api.post("/v1/completions", request).json
    let chunks = await api.post("/v1/completions", .object(streaming)).chunks
    let texts = chunks.compactMap { $0["choices"]?[0]?["text"]?.string }
    #expect(texts.joined() == whole["choices"]?[0]?["text"]?.string)
    for column in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
      let joined = chunks.flatMap { $0["choices"]?[0]?["logprobs"]?[column]?.array ?? [] }
      #expect(joined == whole["choices"]?[0]?["logprobs"]?[column]?.array)
    }
    #expect(chunks.last?["usage"] == whole["usage"])
  }

  @Test(arguments: [
    "{}", "{\"prompt\": \"\"}", "{\"prompt\": []}", "{\"prompt\": [[]]}",
    "{\"prompt\": [1, \"a\"]}",
    "{\"prompt\": [999]}", "{\"prompt\": \"a\", \"suffix\": \"b\"}",
    "{\"prompt\": \"a\", \"n\": 0}",
    "{\"prompt\": \"a\", \"best_of\": 3}", "{\"prompt\": \"a\", \"logprobs\": 99}",
    "{\"prompt\": \"a\", \"priority\": 2}", "{\"prompt\": \"a\", \"max_tokens\": 1.5}",
  ])
  func refusesBadRequests(_ body: String) async throws {
    let api = try TestAPI(ScriptedEngine("x"))
    #expect(await api.send("POST", "/v1/completions", body).status == 400)
  }

  @Test func turnsTextToTokensAndBack() async throws {
    let api = try TestAPI(ScriptedEngine("x"))
    let tokens = await api.post("/tokenize", ["prompt": "hé", "return_token_strs": true]).json
    #expect(tokens["tokens"] == [104, 195, 169])
    #expect(tokens["count"] == 3)
    let text = await api.post("/detokenize", ["tokens": tokens["tokens"] ?? []]).json
    #expect(text["prompt"] == "hé")
    let chat = await api.post("/tokenize", ["messages": [["role": "user", "content": "x"]]]).json
    #expect(chat["count"]?.integer ?? 0 > 1)
  }
}
