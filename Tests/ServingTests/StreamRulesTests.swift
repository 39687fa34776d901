import Inference
import JSONScanning
import Serving
import Testing

private let hello: JSONValue = ["messages": [["role": "user", "content": "hi"]]]

private func with(_ base: JSONValue, _ more: [(String, JSONValue)]) -> JSONValue {
  guard var object = base.object else { return base }
  for (key, value) in more { object[key] = value }
  return .object(object)
}

@Suite(.serialized) struct StreamRulesTests {
  @Test func aTemplateThatAlwaysThinksIsBoundWhereNoThinkingIsWanted() async throws {
    let engine = ScriptedEngine("so")
    let api = try TestAPI(engine, thinks: true, heedsWishes: false)
    let wishes: [(String, JSONValue)] = [
      ("/v1/chat/completions", with(hello, [("reasoning_effort", "none")])),
      (
        "/v1/chat/completions",
        with(hello, [("chat_template_kwargs", ["enable_thinking": false])])
      ),
      ("/v1/responses", ["input": "hi", "reasoning": ["effort": "none"]]),
      (
        "/v1/messages",
        with(hello, [("max_tokens", 9), ("thinking", ["type": "disabled"])])
      ),
    ]
    for (path, body) in wishes { #expect(await api.post(path, body).status == 200) }
    _ = await api.post(
      "/v1/chat/completions",
      with(hello, [("reasoning_effort", "none"), ("thinking_token_budget", 7)]))
    _ = await api.post("/v1/chat/completions", with(hello, [("reasoning_effort", "low")]))
    #expect(engine.requests.map(\.thinkingTokenBudget) == [0, 0, 0, 0, 7, nil])
  }

  @Test(arguments: ["/v1/chat/completions", "/v1/completions"])
  func aStreamThatFailsEndsWithItsErrorAlone(_ path: String) async throws {
    let engine = ScriptedEngine { _, _ in ByteText.tokens("ab") + [ScriptedEngine.failure] }
    let api = try TestAPI(engine)
    let answer = await api.post(
      path,
      with(
        hello, [("prompt", "hi"), ("stream", true), ("stream_options", ["include_usage": true])]))
    #expect(answer.events.last == "[DONE]")
    let error = answer.chunks.last?["error"]
    #expect(error?["type"] == "ServiceUnavailableError")
    #expect(error?["code"] == 503)
    #expect(!answer.chunks.contains { $0["usage"] != nil })
  }

  @Test(arguments: ["/v1/chat/completions", "/v1/completions"])
  func everyChunkTellsTheUsageUpToItself(_ path: String) async throws {
    let api = try TestAPI(ScriptedEngine("abcd"))
    let answer = await api.post(
      path,
      with(
        hello,
        [
          ("prompt", "hi"), ("stream", true),
          ("stream_options", ["include_usage": true, "continuous_usage_stats": true]),
        ]))
    let told = answer.chunks.compactMap { chunk -> (String, Int)? in
      guard let choice = chunk["choices"]?[0],
        let count = chunk["usage"]?["completion_tokens"]?.integer
      else { return nil }
      return (choice["delta"]?["content"]?.string ?? choice["text"]?.string ?? "", count)
    }
    for (text, count) in told where !text.isEmpty {
      #expect(count == "abcd".firstIndex(of: text.first ?? "a")!.utf16Offset(in: "abcd") + 1)
    }
    #expect(told.map(\.0).joined() == "abcd")
    #expect(answer.chunks.last?["usage"]?["completion_tokens"] == 5)
  }

  @Test func namesTheFieldOfAResponseThatIsNotThere() async throws {
    let api = try TestAPI(ScriptedEngine("a"))
    let answer = await api.post(
      "/v1/responses", ["input": "hi", "previous_response_id": "resp_none"])
    #expect(answer.status == 404)
    #expect(answer.json["error"]?["param"] == "previous_response_id")
    let salt = await api.post("/v1/chat/completions", with(hello, [("cache_salt", "")]))
    #expect(salt.json["error"]?["param"] == "cache_salt")
  }

  @Test func toolsStayCallableBesideAFormat() async throws {
    let engine = ScriptedEngine("{}")
    let api = try TestAPI(engine)
    let tools: JSONValue = [["type": "function", "function": ["name": "now"]]]
    let format: JSONValue = ["type": "json_object"]
    _ = await api.post(
      "/v1/chat/completions", with(hello, [("tools", tools), ("response_format", format)]))
    _ = await api.post(
      "/v1/chat/completions",
      with(hello, [("tools", tools), ("response_format", format), ("tool_choice", "none")]))
    let requests = engine.requests
    try #require(requests.count == 2)
    for (request, takesCalls) in zip(requests, [true, false]) {
      var value = try #require(request.constraint)
      var call = value
      let isValue = ByteText.tokens("{}").allSatisfy { value.accept($0) }
      let isCall = ByteText.tokens("<｜tool_calls_begin｜>").allSatisfy { call.accept($0) }
      #expect(isValue && isCall == takesCalls)
    }
  }

  @Test(arguments: [true, false])
  func anItemThatTheLimitCutsIsIncomplete(_ streams: Bool) async throws {
    let api = try TestAPI(ScriptedEngine("why</think>and so on"), thinks: true)
    let answer = await api.post(
      "/v1/responses", ["input": "hi", "max_output_tokens": 8, "stream": .boolean(streams)])
    let response = streams ? answer.chunks.last?["response"] ?? .null : answer.json
    #expect(response["status"] == "incomplete")
    #expect(response["output"]?[0]?["status"] == "completed")
    #expect(response["output"]?[1]?["status"] == "incomplete")
    let done = answer.chunks.last { $0["type"] == "response.output_item.done" }
    if streams { #expect(done?["item"]?["status"] == "incomplete") }
  }
}
