import Serving
import Synchronization
import Testing

/// Answers by path: what each test needs of a handler and nothing more.
final class PathHandler: HTTPHandler {
  let gone = Mutex(0)
  let written = Mutex(0)
  let isReleased = Mutex(false)

  func immediate(_ request: HTTPRequest) -> HTTPResponse? {
    request.path == "/now" ? HTTPResponse(contentType: "text/plain", body: Array("now".utf8)) : nil
  }

  func handle(_ exchange: HTTPExchange) async {
    switch exchange.request.path {
    case "/echo":
      exchange.respond(
        HTTPResponse(
          contentType: "text/plain", body: Array("\(exchange.request.body.count) bytes".utf8)))
    case "/stream":
      exchange.begin(
        status: 200, headers: [HTTPField("Content-Type", "text/event-stream")], keepAlive: true)
      for index in 0..<5 { await exchange.write(Array("data: \(index)\n\n".utf8)) }
    case "/flood":
      exchange.begin(status: 200, headers: [], keepAlive: false)
      let block = [UInt8](repeating: 0x61, count: 64 * 1024)
      while await exchange.write(block) { written.withLock { $0 += block.count } }
      gone.withLock { $0 += 1 }
    case "/idle", "/idle-stream":
      if exchange.request.path == "/idle-stream" {
        exchange.begin(status: 200, headers: [], keepAlive: true)
      }
      // Sleeps until the client leaves, for that cancels the task.
      try? await Task.sleep(for: .seconds(60))
      if exchange.isGone { gone.withLock { $0 += 1 } }
    case "/held":
      written.withLock { $0 += 1 }
      while !isReleased.withLock({ $0 }) { await Task.yield() }
      exchange.respond(HTTPResponse(contentType: "text/plain", body: Array("late".utf8)))
      gone.withLock { $0 += 1 }
    case "/slow":
      try? await Task.sleep(for: .milliseconds(200))
      exchange.respond(HTTPResponse(contentType: "text/plain", body: Array("late".utf8)))
    default: break
    }
  }

  func commonHeaders(_ request: HTTPRequest) -> [HTTPField] { [] }

  func refusal(status: Int, reason: String, method: String, target: String) -> HTTPResponse {
    HTTPResponse(status: status, contentType: "application/json", body: Array(reason.utf8))
  }
}

/// Runs `body` with a server of its own.
func withServer(
  _ handler: PathHandler = PathHandler(), change: (inout HTTPServerOptions) -> Void = { _ in },
  _ body: (HTTPServer, PathHandler) async throws -> Void
) async throws {
  var options = HTTPServerOptions()
  options.port = 0
  change(&options)
  let server = try HTTPServer(options: options, handler: handler)
  try await body(server, handler)
  await server.stop()
}

/// Waits until `condition` holds; false when it never does.
func eventually(_ condition: () -> Bool) async -> Bool {
  for _ in 0..<2000 {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))
  }
  return condition()
}

private func get(_ path: String, _ more: String = "") -> String {
  "GET \(path) HTTP/1.1\r\nHost: x\r\n\(more)\r\n"
}

@Suite(.serialized) struct HTTPServerTests {
  @Test func keepsConnectionsAndAnswersPipelinedRequests() async throws {
    try await withServer { server, _ in
      let client = RawClient(port: server.port)
      client.send(get("/now") + get("/echo") + get("/now", "Connection: close\r\n"))
      let answers = await client.receiveAll()
      #expect(answers.split(separator: "HTTP/1.1 200 OK").count == 3)
      #expect(answers.hasSuffix("now"))
    }
  }

  @Test func answersHEADWithoutABodyAndGoesOn() async throws {
    try await withServer { server, _ in
      let client = RawClient(port: server.port)
      let head = get("/now").replacing("GET", with: "HEAD")
      client.send(head + get("/now", "Connection: close\r\n"))
      let answers = await client.receiveAll()
      #expect(answers.split(separator: "Content-Length: 3").count == 3, "\(answers)")
      #expect(answers.split(separator: "\r\n\r\nHTTP/1.1 200 OK").count == 2, "\(answers)")
    }
  }

  @Test func streamsWithChunkedFramingAndReusesTheConnection() async throws {
    try await withServer { server, _ in
      let client = RawClient(port: server.port)
      client.send(get("/stream"))
      let first = await client.receive { $0.hasSuffix("0\r\n\r\n") }
      #expect(first.contains("Transfer-Encoding: chunked"))
      #expect(first.contains("data: 4\n\n"))
      client.send(get("/now"))
      #expect(await client.receive { $0.hasSuffix("now") }.hasPrefix("HTTP/1.1 200 OK"))
    }
  }

  @Test func answersMalformedBytesInItsOwnWords() async throws {
    try await withServer { server, _ in
      for (text, status) in [
        ("GARBAGE\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
        (get("/now", "A: \(String(repeating: "a", count: 70_000))\r\n"), 431),
      ] {
        let answer = await RawClient(port: server.port).send(text).receiveAll()
        #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
        #expect(answer.contains("Content-Type: application/json"))
      }
      // Garbage behind a good request: that one is answered, then the connection closes.
      let answer = await RawClient(port: server.port).send(get("/slow") + "GARBAGE\r\n\r\n")
        .receiveAll()
      #expect(answer.hasPrefix("HTTP/1.1 200 OK"))
      #expect(answer.hasSuffix("late"))
    }
  }

  @Test func refusesChunkedBodiesPastTheLimitWhileTheyArrive() async throws {
    try await withServer(change: { $0.maximumBodyByteCount = 100_000 }) { server, _ in
      let client = RawClient(port: server.port)
      client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
      let chunk = "8000\r\n" + String(repeating: "a", count: 0x8000) + "\r\n"
      for _ in 0..<10 { client.send(chunk) }
      #expect(await client.receiveAll().hasPrefix("HTTP/1.1 413 "))
      let fitting = RawClient(port: server.port)
      fitting.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)")
      fitting.send("0\r\n\r\n")
      #expect(await fitting.receive { $0.hasSuffix("bytes") }.hasSuffix("32768 bytes"))
    }
  }

  @Test(arguments: ["/idle", "/idle-stream"])
  func noticesClientsThatLeaveWhileNothingIsSent(_ path: String) async throws {
    try await withServer { server, handler in
      let client = RawClient(port: server.port)
      client.send(get(path))
      try await Task.sleep(for: .milliseconds(50))
      client.close()
      #expect(await eventually { handler.gone.withLock { $0 } == 1 })
    }
  }

  @Test func answersClientsThatOnlyStoppedSending() async throws {
    try await withServer { server, _ in
      let client = RawClient(port: server.port)
      client.send(get("/slow"))
      client.finishSending()
      #expect(await client.receiveAll().hasSuffix("late"))
      let streaming = RawClient(port: server.port)
      streaming.send(get("/stream"))
      streaming.finishSending()
      #expect(await streaming.receiveAll().contains("data: 4\n\n"))
    }
  }

  @Test func holdsBackAHandlerWhoseReaderIsSlow() async throws {
    try await withServer { server, handler in
      let client = RawClient(port: server.port)
      client.send(get("/flood"))
      var last = -1
      // Once the sockets' buffers are full the handler stands still.
      _ = await eventually {
        let now = handler.written.withLock { $0 }
        defer { last = now }
        return now > 0 && now == last
      }
      try await Task.sleep(for: .milliseconds(100))
      #expect(handler.written.withLock { $0 } < 32 << 20)
      #expect(
        await RawClient(port: server.port).send(get("/now", "Connection: close\r\n")).receiveAll()
          .hasSuffix("now"))
      client.close()
      #expect(await eventually { handler.gone.withLock { $0 } == 1 })
    }
  }

  @Test func cutsOffRequestsThatTakeTooLong() async throws {
    try await withServer(change: { $0.headSeconds = 0.5 }) { server, _ in
      let answer = await RawClient(port: server.port).send("GET / HTTP/1.1\r\nHo").receiveAll()
      #expect(answer.hasPrefix("HTTP/1.1 408 "))
    }
  }

  @Test func sendsCommentsOnQuietStreams() async throws {
    try await withServer(change: { $0.keepAliveSeconds = 0.5 }) { server, _ in
      let client = RawClient(port: server.port)
      client.send(get("/idle-stream"))
      #expect(await client.receive { $0.contains(": keep-alive\n\n") }.contains(": keep-alive\n\n"))
    }
  }

  @Test func refusesAPortThatIsTaken() async throws {
    try await withServer { server, handler in
      var options = HTTPServerOptions()
      options.port = server.port
      #expect(throws: HTTPServerError.self) { try HTTPServer(options: options, handler: handler) }
    }
  }

  @Test("an answer after the server's end reaches nobody else's descriptor")
  func answersAfterItsEnd() async throws {
    let handler = PathHandler()
    var options = HTTPServerOptions()
    options.port = 0
    let server = try HTTPServer(options: options, handler: handler)
    let client = RawClient(port: server.port)
    client.send(get("/held"))
    #expect(await eventually { handler.written.withLock { $0 } == 1 })
    await server.stop()
    // Numbers that the server had are these now.
    let pairs = SocketPairs(count: 64)
    handler.isReleased.withLock { $0 = true }
    #expect(await eventually { handler.gone.withLock { $0 } == 1 })
    #expect(pairs.receivedByteCount == 0)
  }
}
