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

@Suite(.serialized) struct ChatCompletionsTests {
  @Test func answersWithTheContractsShape() async throws {
    let api = try TestAPI(ScriptedEngine("Hello 🙂"))
    let answer = await api.post("/v1/chat/completions", hello, headers: ["X-Request-Id: mine"])
    #expect(answer.status == 200)
    #expect(answer.headers["x-request-id"] == "mine")
    let choice = answer.json["choices"]?[0]
    #expect(answer.json["object"] == "chat.completion")
    #expect(choice?["message"]?["content"] == "Hello 🙂")
    #expect(choice?["message"]?["tool_calls"] == nil)
    #expect(choice?["finish_reason"] == "stop")
    #expect(answer.json["usage"]?["completion_tokens"] == 11)
    #expect(answer.json["usage"]?["total_tokens"]?.integer ?? 0 > 11)
  }

  @Test func streamsTheFramesOfTheContract() async throws {
    let api = try TestAPI(ScriptedEngine("thinking\n</think>\n\nHé"), thinks: true)
    let answer = await api.post(
      "/v1/chat/completions",
      with(hello, [("stream", true), ("stream_options", ["include_usage": true])]))
    #expect(answer.headers["content-type"] == "text/event-stream; charset=utf-8")
    #expect(answer.headers["cache-control"] == "no-cache")
    #expect(answer.body.hasSuffix("data: [DONE]\n\n"))
    let chunks = answer.chunks
    #expect(chunks.first?["choices"]?[0]?["delta"] == ["role": "assistant", "content": ""])
    let deltas = chunks.compactMap { $0["choices"]?[0]?["delta"] }
    #expect(deltas.compactMap { $0["reasoning_content"]?.string }.joined() == "thinking")
    #expect(deltas.compactMap { $0["content"]?.string }.joined() == "Hé")
    let finishes = chunks.compactMap { $0["choices"]?[0]?["finish_reason"]?.string }
    #expect(finishes == ["stop"])
    #expect(chunks.last?["choices"] == [])
    #expect(
      chunks.last?["usage"]?["completion_tokens_details"]?["reasoning_tokens"]?.integer ?? 0 > 0)
    #expect(Set(chunks.compactMap { $0["id"]?.string }).count == 1)
  }

  @Test func sendsReasoningUnderTheNameThatWasChosen() async throws {
    for (field, names) in [
      (ReasoningField.reasoning, ["reasoning"]),
      (.both, ["reasoning_content", "reasoning"]),
    ] {
      let api = try TestAPI(
        ScriptedEngine("why</think>so"), thinks: true, change: { $0.reasoningField = field })
      let message = await api.post("/v1/chat/completions", hello).json["choices"]?[0]?["message"]
      #expect(message?.object?.keys.filter { $0.hasPrefix("reasoning") } == names)
      #expect(message?["content"] == "so")
    }
  }

  @Test func cutsAtStopStringsAndCancelsTheSequence() async throws {
    let engine = ScriptedEngine("one two three four", pause: .milliseconds(1))
    let api = try TestAPI(engine)
    let answer = await api.post("/v1/chat/completions", with(hello, [("stop", ["three", "zzz"])]))
    let choice = answer.json["choices"]?[0]
    #expect(choice?["message"]?["content"] == "one two ")
    #expect(choice?["finish_reason"] == "stop")
    #expect(choice?["stop_reason"] == "three")
    #expect(engine.cancelledChoices.count == 1)
  }

  @Test func streamsToolCallsWhoseArgumentsParse() async throws {
    let call =
      "Sure.<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜>"
      + "<steptml:invoke name=\"add\"><steptml:parameter name=\"a\">1</steptml:parameter>"
      + "<steptml:parameter name=\"t\">x < y</steptml:parameter></steptml:invoke>"
      + "<｜tool_call_end｜><｜tool_calls_end｜>"
    let api = try TestAPI(ScriptedEngine(call))
    let tools: JSONValue = [
      [
        "type": "function",
        "function": [
          "name": "add",
          "parameters": [
            "type": "object",
            "properties": ["a": ["type": "integer"], "t": ["type": "string"]],
          ],
        ],
      ]
    ]
    let whole = await api.post("/v1/chat/completions", with(hello, [("tools", tools)])).json
    let message = whole["choices"]?[0]?["message"]
    let function = message?["tool_calls"]?[0]?["function"]
    #expect(whole["choices"]?[0]?["finish_reason"] == "tool_calls")
    let arguments = try JSONValue(parsing: function?["arguments"]?.string ?? "")
    #expect(arguments == ["a": 1, "t": "x < y"])
    let streamed = await api.post(
      "/v1/chat/completions", with(hello, [("tools", tools), ("stream", true)]))
    let deltas = streamed.chunks.compactMap { $0["choices"]?[0]?["delta"]?["tool_calls"]?[0] }
    #expect(deltas.first?["function"]?["name"] == "add")
    #expect(deltas.compactMap { $0["id"] }.count == 1)
    let joined = deltas.compactMap { $0["function"]?["arguments"]?.string }.joined()
    #expect(joined == function?["arguments"]?.string)
    #expect(streamed.chunks.last?["choices"]?[0]?["finish_reason"] == "tool_calls")
  }

  @Test func carriesLogprobsOnTheChunkOfTheirTokens() async throws {
    let api = try TestAPI(ScriptedEngine("a🙂"))
    let request = with(hello, [("logprobs", true), ("top_logprobs", 2), ("max_tokens", 5)])
    let whole = await api.post("/v1/chat/completions", request).json
    let content = whole["choices"]?[0]?["logprobs"]?["content"]?.array ?? []
    #expect(content.count == 5)
    #expect(content.first?["bytes"] == [97])
    #expect(content.first?["top_logprobs"]?.array?.count == 2)
    #expect(content[1]["token"] == "\u{FFFD}")
    let streamed = await api.post("/v1/chat/completions", with(request, [("stream", true)]))
    let entries = streamed.chunks.flatMap {
      $0["choices"]?[0]?["logprobs"]?["content"]?.array ?? []
    }
    #expect(entries == content)
  }

  @Test func givesEveryChoiceItsIndex() async throws {
    let engine = ScriptedEngine { _, choice in ByteText.tokens("choice \(choice)") }
    let api = try TestAPI(engine)
    let answer = await api.post("/v1/chat/completions", with(hello, [("n", 3)])).json
    let texts = (answer["choices"]?.array ?? []).map { $0["message"]?["content"]?.string }
    #expect(texts == ["choice 0", "choice 1", "choice 2"])
    let chunks = await api.post("/v1/chat/completions", with(hello, [("n", 2), ("stream", true)]))
      .chunks
    let finishes = chunks.filter { $0["choices"]?[0]?["finish_reason"]?.string != nil }
    #expect(Set(finishes.compactMap { $0["choices"]?[0]?["index"]?.integer }) == [0, 1])
  }

  @Test(arguments: [
    ("{\"messages\": []}", "messages"),
    ("{}", "messages"),
    ("{\"messages\": [{\"role\": \"wizard\", \"content\": \"x\"}]}", "messages[0].role"),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"user\"}]}",
      "messages[1].content"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]}",
      "messages[0].content[0].image_url"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"temperature\": 3}",
      "temperature"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"top_logprobs\": 3}",
      "top_logprobs"
    ),
    ("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tools\": []}", "tools"),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tool_choice\": \"required\"}",
      "tool_choice"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"tool_choice\": \"auto\"}",
      "tool_choice"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"stream_options\": {}}",
      "stream_options"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"logit_bias\": {\"999\": 1}}",
      "logit_bias"
    ),
    (
      "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"guided_json\": {}}",
      "guided_json"
    ),
    (
      "{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
        + "\"arguments\": \"{\"}}]}]}", "messages[0].tool_calls[0].function.arguments"
    ),
  ])
  func refusesBadFieldsByTheirPath(_ body: String, path: String) async throws {
    let api = try TestAPI(ScriptedEngine("x"))
    let answer = await api.send("POST", "/v1/chat/completions", body)
    #expect(answer.status == 400)
    #expect(answer.json["error"]?["param"]?.string == path)
    #expect(answer.json["error"]?["type"] == "BadRequestError")
  }

  @Test(arguments: [
    String(repeating: "[", count: 20_000), "{\"a\": \"\\ud800\"}", "{\"a\": 1e999}", "", "nonsense",
    "{\"messages\": 1,}", "[1]",
  ])
  func refusesBodiesThatAreNoPlainJSON(_ body: String) async throws {
    let api = try TestAPI(ScriptedEngine("x"))
    let answer = await api.send("POST", "/v1/chat/completions", body)
    #expect(answer.status == 400)
    #expect(answer.json["error"]?["message"]?.string != nil)
  }

  @Test func saysWhenTheContextIsTooShort() async throws {
    let api = try TestAPI(ScriptedEngine("x", contextLength: 100))
    let long = String(repeating: "a", count: 200)
    let answer = await api.post(
      "/v1/chat/completions", ["messages": [["role": "user", "content": .string(long)]]])
    #expect(answer.status == 400)
    #expect(
      answer.json["error"]?["message"]?.string?.contains(
        "This model's maximum context length is 100 tokens") == true)
    let greedy = await api.post("/v1/chat/completions", with(hello, [("max_tokens", 90)]))
    #expect(greedy.status == 400)
  }

  @Test(arguments: [
    ("/v1/chat/completions", "messages"), ("/v1/messages", "messages"),
    ("/v1/completions", "prompt"), ("/v1/responses", "input"),
  ])
  func namesTheFieldOfAPromptThatIsTooLong(_ route: String, _ field: String) async throws {
    let api = try TestAPI(ScriptedEngine("x", contextLength: 100))
    let long = JSONValue.string(String(repeating: "a", count: 200))
    let prompt: JSONValue = field == "messages" ? [["role": "user", "content": long]] : long
    let answer = await api.post(route, with(["max_tokens": 4], [(field, prompt)]))
    #expect(answer.status == 400)
    if route != "/v1/messages" {
      #expect(answer.json["error"]?["param"]?.string == field, "\(answer.json)")
    }
  }

  @Test func cancelsWhenTheClientLeaves() async throws {
    let text = String(repeating: "a", count: 2000)
    for stream in [true, false] {
      let engine = ScriptedEngine(text, pause: .milliseconds(2))
      let api = try TestAPI(engine)
      let body = with(hello, [("stream", .boolean(stream))]).text(.compact)
      let client = RawClient(port: api.server.port)
      client.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
          + body)
      #expect(await eventually { engine.requests.count == 1 })
      client.close()
      #expect(await eventually { engine.cancelled.count == 1 })
      #expect(await eventually { engine.load.runningRequestCount == 0 })
    }
  }

  @Test func refusesWithRetryAfterWhileLoadingAndWhenFull() async throws {
    let engine = ScriptedEngine("x")
    let api = try TestAPI(engine)
    engine.state = .loading(LoadProgress(loadedByteCount: 42, totalByteCount: 100, seconds: 4.2))
    let loading = await api.post("/v1/chat/completions", hello)
    #expect(loading.status == 503)
    #expect(loading.headers["retry-after"] == "6")
    #expect(await api.send("GET", "/health").status == 200)
    let ready = await api.send("GET", "/ready")
    #expect(ready.status == 503)
    #expect(ready.json["progress"]?.number == 0.42)
    engine.state = .ready
    #expect(await api.send("GET", "/ready").status == 200)
    engine.refuse(with: .queueFull(limit: 1, retryAfterSeconds: 3))
    let full = await api.post("/v1/chat/completions", with(hello, [("stream", true)]))
    #expect(full.status == 503)
    #expect(full.headers["retry-after"] == "3")
  }

  @Test func asksForAKeyWhereOneIsSet() async throws {
    let api = try TestAPI(ScriptedEngine("x"), change: { $0.keys = ["k1", "k2"] })
    #expect(await api.post("/v1/chat/completions", hello).status == 401)
    #expect(
      await api.post("/v1/chat/completions", hello, headers: ["Authorization: Bearer no"]).status
        == 401)
    #expect(
      await api.post("/v1/chat/completions", hello, headers: ["Authorization: Bearer k2"]).status
        == 200)
    #expect(await api.post("/v1/chat/completions", hello, headers: ["x-api-key: k1"]).status == 200)
    #expect(await api.send("GET", "/health").status == 200)
    #expect(await api.send("GET", "/v1/models").status == 401)
  }

  @Test func routesByPathAndMethod() async throws {
    let api = try TestAPI(ScriptedEngine("x"), change: { $0.modelNames = ["org/m", "m"] })
    #expect(await api.send("GET", "/v1/models").json["data"]?.array?.count == 2)
    #expect(await api.send("GET", "/v1/models/org/m").json["id"] == "org/m")
    #expect(await api.send("GET", "/v1/models/nope").status == 404)
    #expect(await api.send("GET", "/nowhere").json["error"]?["type"] == "NotFoundError")
    let doubled = await api.post("/v1/v1/chat/completions", hello)
    #expect(
      doubled.json["error"]?["message"]?.string?.contains("base_url should end in /v1") == true)
    let wrong = await api.send("GET", "/v1/chat/completions")
    #expect(wrong.status == 405)
    #expect(wrong.headers["allow"] == "POST")
    #expect(await api.post("/chat/completions", hello).status == 200)
    let unknown = await api.post("/v1/chat/completions", with(hello, [("model", "x")]))
    #expect(unknown.status == 404)
    #expect(unknown.json["error"]?["message"] == "The model `x` does not exist.")
  }
}
