import Foundation
import TestSupport
import Testing

/// What nobody well-meaning sends: the right status, no crash, and nobody else notices.
@Suite(.serialized) struct ServerHostilityTests {
  private static let model = Fixtures.path("tiny/moe-f32")
  private static let stream =
    #"{"messages":[{"role":"user","content":"hello"}],"max_tokens":400,"temperature":0,"stream":true,"ignore_eos":true,"logprobs":true}"#

  /// A stream's chunks without what is new in every request.
  private static func essence(_ answer: HTTPAnswer) -> [String] {
    answer.events.map { event in
      guard let start = event.range(of: "\"choices\":") else { return event }
      return String(event[start.lowerBound...])
    }
  }

  /// Runs `attack` while another client streams, and holds that stream to be what it is alone.
  private static func besideAStream(
    _ flags: [String] = [], _ attack: @escaping @Sendable (Int) async throws -> Void
  ) async throws {
    let server = try await TestServer(model: model, flags)
    let alone = try server.post("/v1/chat/completions", stream)
    #expect(alone.status == 200 && alone.events.last == "[DONE]")
    let port = server.port
    async let streamed = Parallel.map(2) { _ in
      (try? HTTPClient(port: port))?.ask("POST", "/v1/chat/completions", stream) ?? HTTPAnswer()
    }
    try await attack(port)
    for answer in await streamed { #expect(essence(answer) == essence(alone)) }
    #expect(server.process.isRunning)
    #expect(try await server.becomesIdle())
    #expect(try server.ask("GET", "/health").status == 200)
  }

  @Test("bodies that are no acceptable JSON are answered 400, in JSON")
  func hostileBodies() async throws {
    let bodies: [[UInt8]] = [
      [UInt8](repeating: 0x5B, count: 20_000),
      Array((String(repeating: "[", count: 20_000) + String(repeating: "]", count: 20_000)).utf8),
      Array(String(repeating: #"{"a":"#, count: 20_000).utf8),
      Array(#"{"messages":[{"role":"user","content":"\ud800"}]}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"\udc00\ud800"}]}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":""#.utf8) + [0xFF, 0xFE, 0xC0, 0x80]
        + Array(#""}]}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"x"}],"temperature":1e999}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"x"}],"max_tokens":1e999}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"x"}],"seed":99999999999999999999}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"x"}],"top_k":-5}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"x"}],"n":1000000000}"#.utf8),
      Array(#"{"messages":[{"role":"user","content":"x"}],"logit_bias":{"999999":1}}"#.utf8),
      Array(#"{"messages":{}}"#.utf8), Array("[]".utf8), Array("null".utf8), Array("".utf8),
      Array("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]".utf8), [0], [0xEF, 0xBB, 0xBF],
    ]
    try await Self.besideAStream { port in
      for path in ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"] {
        for body in bodies {
          let client = try HTTPClient(port: port)
          client.send(HTTPClient.bytes("POST", path, body: body))
          let answer = client.answer()
          let shown = String(decoding: body.prefix(80), as: UTF8.self)
          #expect(answer.status == 400, "\(path) \(shown): \(answer.status) \(answer.text)")
          #expect(answer.headers["content-type"]?.hasPrefix("application/json") == true)
          #expect(answer.text.contains("\"error\""))
        }
      }
    }
  }

  @Test("a schema as deep as JSON may be is refused or answered, never followed into a crash")
  func deepSchemas() async throws {
    let deep =
      String(repeating: #"{"type":"object","properties":{"a":"#, count: 160) + "true"
      + String(repeating: "}}", count: 160)
    let wide = (0..<2000).map { #""p\#($0)":{"type":"string"}"# }.joined(separator: ",")
    let schemas = [
      deep, #"{"type":"object","properties":{\#(wide)}}"#, ##"{"$ref":"#"}"##,
      ##"{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##,
      #"{"type":"string","pattern":"(((((a{1,999}){1,999}){1,999}){1,999}){1,999})"}"#,
      #"{"type":"string","pattern":"(a|aa)*(b|bb)*$^(?=x)"}"#, #"{"enum":[]}"#,
      #"{"type":"array","items":{"type":"integer"},"minItems":100000000}"#,
      #"{"type":"string","minLength":100000000000}"#, #"{"not":{}}"#, #"{"type":["null",7]}"#,
    ]
    try await Self.besideAStream { port in
      for schema in schemas {
        let body = """
          {"messages":[{"role":"user","content":"x"}],"max_tokens":12,"thinking_token_budget":1,
           "response_format":{"type":"json_schema","json_schema":{"name":"s","schema":\(schema)}}}
          """
        let answer = try HTTPClient(port: port).ask("POST", "/v1/chat/completions", body)
        #expect([200, 400].contains(answer.status), "\(schema.prefix(80)): \(answer.text)")
      }
    }
  }

  @Test("bodies past the limit, floods of headers and garbage get their status")
  func floods() async throws {
    try await Self.besideAStream { port in
      let huge = try HTTPClient(port: port)
      huge.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
      // The answer comes before the body does.
      #expect(huge.answer().status == 413)
      let pushed = try HTTPClient(port: port)
      pushed.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
      let chunk = "100000\r\n" + String(repeating: "a", count: 1 << 20) + "\r\n"
      for _ in 0..<100 where !pushed.send(chunk) { break }
      #expect([413, 0].contains(pushed.answer().status))

      let many = (0..<100_000).map { "A\($0): b\r\n" }.joined()
      let flood = try HTTPClient(port: port)
      flood.send("GET /v1/models HTTP/1.1\r\nHost: x\r\n\(many)\r\n")
      #expect(flood.answer().status == 431)
      for (text, status) in [
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n", 400), ("GET /\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        ("FROB /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (
          "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
          400
        ),
        (
          "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
          400
        ),
        ("DELETE /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GET /%00/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404),
      ] {
        let client = try HTTPClient(port: port)
        client.send(text)
        #expect(client.answer().status == status, "\(text)")
      }
    }
  }

  @Test("garbage behind good requests on one connection harms neither them nor others")
  func pipelinedGarbage() async throws {
    try await Self.besideAStream { port in
      let client = try HTTPClient(port: port)
      let body = Array(#"{"prompt":"a","max_tokens":2}"#.utf8)
      client.send(
        HTTPClient.bytes("POST", "/v1/completions", body: body)
          + HTTPClient.bytes("GET", "/v1/models") + Array("\r\nGARBAGE \u{0}\u{1}\r\n\r\n".utf8))
      #expect(client.answer().status == 200)
      #expect(client.answer().status == 200)
      #expect([400, 0].contains(client.answer().status))
    }
  }

  @Test("slow bodies are waited for, and a client that only stopped sending gets its answer")
  func slowAndHalfClosed() async throws {
    try await Self.besideAStream { port in
      let body = Array(#"{"prompt":"a","max_tokens":4}"#.utf8)
      let slow = try HTTPClient(port: port)
      let bytes = HTTPClient.bytes("POST", "/v1/completions", body: body)
      for byte in bytes {
        slow.send([byte])
        try await Task.sleep(for: .milliseconds(1))
      }
      #expect(slow.answer().status == 200)
      let half = try HTTPClient(port: port)
      half.send(bytes)
      half.finishSending()
      #expect(half.answer().status == 200)
      // Half a request and then nothing more: there is nothing to answer.
      let cut = try HTTPClient(port: port)
      cut.send(Array(bytes.dropLast(3)))
      cut.finishSending()
      #expect([0, 400].contains(cut.answer().status))
      // Many that connect and leave at every stage of a request.
      for count in stride(from: 0, through: bytes.count, by: 7) {
        let client = try HTTPClient(port: port)
        client.send(Array(bytes.prefix(count)))
        client.close()
      }
    }
  }

  @Test("a queue that is full says when to come back")
  func fullQueue() async throws {
    let server = try await TestServer(
      model: Self.model, ["--max-num-seqs", "1", "--max-queued-requests", "2"])
    let port = server.port
    let long =
      #"{"prompt":"a","max_tokens":3000,"ignore_eos":true,"stream":true}"#
    var waiting: [HTTPClient] = []
    var refused: HTTPAnswer?
    for _ in 0..<8 {
      let client = try HTTPClient(port: port)
      client.send(HTTPClient.bytes("POST", "/v1/completions", body: Array(long.utf8)))
      waiting.append(client)
      try await Task.sleep(for: .milliseconds(20))
    }
    for client in waiting.reversed() where refused == nil {
      let head = client.read(through: Array("\r\n\r\n".utf8)) ?? []
      let text = String(decoding: head, as: UTF8.self)
      guard text.hasPrefix("HTTP/1.1 503") else { continue }
      refused = HTTPAnswer(status: 503)
      #expect(text.lowercased().contains("retry-after:"))
    }
    #expect(refused != nil)
    for client in waiting { client.close() }
    #expect(try await server.becomesIdle())
  }
}
