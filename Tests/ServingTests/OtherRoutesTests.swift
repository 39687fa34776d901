import Inference
import JSONScanning
import Serving
import Testing

private let toolOutput =
  "hm</think>Sure.<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜>"
  + "<steptml:invoke name=\"add\"><steptml:parameter name=\"a\">1</steptml:parameter>"
  + "</steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>"

@Suite(.serialized) struct MessagesTests {
  private let request: JSONValue = [
    "max_tokens": 400, "messages": [["role": "user", "content": "hi"]],
    "tools": [
      [
        "name": "add",
        "input_schema": ["type": "object", "properties": ["a": ["type": "integer"]]],
      ]
    ],
  ]

  @Test func answersWithBlocks() async throws {
    let api = try TestAPI(ScriptedEngine(toolOutput), thinks: true)
    let answer = await api.post("/v1/messages?beta=true", request).json
    let types = (answer["content"]?.array ?? []).compactMap { $0["type"]?.string }
    #expect(types == ["thinking", "text", "tool_use"])
    #expect(answer["content"]?[2]?["input"] == ["a": 1])
    #expect(answer["stop_reason"] == "tool_use")
    #expect(answer["stop_sequence"] == .null)
    let counted = await api.post("/v1/messages/count_tokens", request).json
    #expect(counted["input_tokens"] == answer["usage"]?["input_tokens"])
  }

  @Test func streamsNamedEventsWhoseBlocksDoNotOverlap() async throws {
    let api = try TestAPI(ScriptedEngine(toolOutput), thinks: true)
    guard var streaming = request.object else { return }
    streaming["stream"] = true
    let answer = await api.post("/v1/messages", .object(streaming))
    let names = answer.body.split(separator: "\n").filter { $0.hasPrefix("event: ") }
    #expect(names.prefix(2) == ["event: message_start", "event: ping"])
    #expect(names.suffix(2) == ["event: message_delta", "event: message_stop"])
    var open: Int?
    var next = 0
    for chunk in answer.chunks {
      switch chunk["type"] {
      case "content_block_start":
        #expect(open == nil && chunk["index"]?.integer == next)
        open = next
        next += 1
      case "content_block_delta": #expect(chunk["index"]?.integer == open)
      case "content_block_stop":
        #expect(chunk["index"]?.integer == open)
        open = nil
      default: #expect(open == nil)
      }
    }
    #expect(next == 3)
    let input = answer.chunks.compactMap { $0["delta"]?["partial_json"]?.string }.joined()
    #expect(try JSONValue(parsing: input) == ["a": 1])
    #expect(!answer.body.contains("[DONE]"))
  }

  @Test func hasErrorsOfAnthropicsShape() async throws {
    let api = try TestAPI(ScriptedEngine("x"), change: { $0.keys = ["k"] })
    let answer = await api.post("/v1/messages", request)
    #expect(answer.status == 401)
    #expect(answer.json["type"] == "error")
    #expect(answer.json["error"]?["type"] == "authentication_error")
    let keyed = await api.send("POST", "/v1/messages", "{}", headers: ["x-api-key: k"])
    #expect(keyed.status == 400)
    #expect(keyed.json["error"]?["type"] == "invalid_request_error")
  }

  @Test func stopsAtStopSequences() async throws {
    let api = try TestAPI(ScriptedEngine("one two"))
    let answer = await api.post(
      "/v1/messages",
      [
        "max_tokens": 50, "stop_sequences": ["two"],
        "messages": [["role": "user", "content": [["type": "text", "text": "x"]]]],
      ]
    ).json
    #expect(answer["content"] == [["type": "text", "text": "one "]])
    #expect(answer["stop_reason"] == "stop_sequence")
    #expect(answer["stop_sequence"] == "two")
  }
}

@Suite(.serialized) struct ResponsesTests {
  @Test func makesStoresAndContinuesResponses() async throws {
    let api = try TestAPI(ScriptedEngine("hm</think>Hello"), thinks: true)
    let first = await api.post("/v1/responses", ["input": "hi", "metadata": ["a": "b"]]).json
    #expect(first["status"] == "completed")
    #expect(
      (first["output"]?.array ?? []).compactMap { $0["type"]?.string } == ["reasoning", "message"])
    #expect(first["output"]?[1]?["content"]?[0]?["text"] == "Hello")
    #expect(first["tools"] == [] && first["tool_choice"] == "auto")
    let id = first["id"]?.string ?? ""
    #expect(await api.send("GET", "/v1/responses/\(id)").json == first)
    let second = await api.post(
      "/v1/responses", ["input": "more", "previous_response_id": .string(id)])
    #expect(second.status == 200)
    let prompt = ByteText().text(of: api.engine.requests[1].prompt)
    #expect(prompt.contains("hi") && prompt.contains("Hello") && prompt.contains("more"))
    #expect(await api.send("POST", "/v1/responses/\(id)/cancel").status == 400)
    #expect(await api.send("DELETE", "/v1/responses/\(id)").status == 200)
    #expect(await api.send("GET", "/v1/responses/\(id)").status == 404)
  }

  @Test func numbersItsEvents() async throws {
    let api = try TestAPI(ScriptedEngine(toolOutput), thinks: true)
    let answer = await api.post(
      "/v1/responses",
      [
        "input": [["role": "user", "content": [["type": "input_text", "text": "hi"]]]],
        "stream": true,
        "tools": [
          [
            "type": "function", "name": "add",
            "parameters": ["type": "object", "properties": ["a": ["type": "integer"]]],
          ]
        ],
      ])
    let chunks = answer.chunks
    #expect(chunks.compactMap { $0["sequence_number"]?.integer } == Array(chunks.indices))
    let types = chunks.compactMap { $0["type"]?.string }
    #expect(types.prefix(2) == ["response.created", "response.in_progress"])
    #expect(types.last == "response.completed")
    let output = chunks.last?["response"]?["output"]?.array ?? []
    #expect(output.compactMap { $0["type"]?.string } == ["reasoning", "message", "function_call"])
    #expect(output.last?["arguments"]?.string.flatMap { try? JSONValue(parsing: $0) } == ["a": 1])
    #expect(types.filter { $0 == "response.output_item.added" }.count == 3)
    #expect(types.filter { $0 == "response.output_item.done" }.count == 3)
  }
}

@Suite(.serialized) struct OperationsTests {
  @Test func countsWhatItServes() async throws {
    let api = try TestAPI(ScriptedEngine("abc"), change: { $0.printsVLLMMetrics = true })
    _ = await api.post("/v1/completions", ["prompt": "xy"])
    let text = await api.send("GET", "/metrics").body
    for line in [
      "step3:prompt_tokens_total{model_name=\"step3\",engine=\"0\"} 2",
      "vllm:generation_tokens_total{model_name=\"step3\",engine=\"0\"} 4",
      "step3:request_success_total{model_name=\"step3\",engine=\"0\",finished_reason=\"stop\"} 1",
      "step3:time_to_first_token_seconds_count{model_name=\"step3\",engine=\"0\"} 1",
    ] { #expect(text.contains(line + "\n")) }
  }

  @Test func describesEveryRoute() async throws {
    let api = try TestAPI(ScriptedEngine("abc"))
    let document = await api.send("GET", "/openapi.json").json
    let paths = document["paths"]?.object?.keys ?? []
    for path in [
      "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses", "/v1/models",
      "/v1/models/{model}", "/tokenize", "/detokenize", "/health", "/ready", "/metrics",
    ] { #expect(paths.contains(path)) }
    #expect(document["paths"]?["/tokenize"]?["post"]?["responses"]?["413"] != nil)
    let page = await api.send("GET", "/")
    #expect(page.status == 200)
    #expect(page.headers["content-type"] == "text/html; charset=utf-8")
    #expect(page.headers["content-security-policy"]?.contains("default-src 'self'") == true)
  }

  @Test func answersBrowsersFromAllowedOriginsOnly() async throws {
    let api = try TestAPI(ScriptedEngine("x"), change: { $0.allowedOrigins = ["http://a"] })
    let allowed = await api.send("OPTIONS", "/v1/models", headers: ["Origin: http://a"])
    #expect(allowed.status == 204)
    #expect(allowed.headers["access-control-allow-origin"] == "http://a")
    let other = await api.send("GET", "/v1/models", headers: ["Origin: http://b"])
    #expect(other.headers["access-control-allow-origin"] == nil)
  }
}

extension ByteText {
  /// The text of byte tokens.
  func text(of tokens: [Int]) -> String {
    String(decoding: tokens.flatMap { bytes(of: $0) }, as: UTF8.self)
  }
}
