import Foundation
import Synchronization
import TestSupport
import Testing

/// Many requests of every kind: nothing is left behind when they are over.
@Suite(.serialized) struct ServerSoakTests {
  private static let model = Fixtures.path("tiny/moe-f32")
  /// `STEP3_SOAK_REQUESTS=10000 swift test --filter ServerSoakTests` for the long run.
  private static let requestCount =
    ProcessInfo.processInfo.environment["STEP3_SOAK_REQUESTS"].flatMap { Int($0) } ?? 800

  /// A good request of the `index`th kind.
  private static func good(_ index: Int) -> (path: String, body: String) {
    let words = (0..<(index * 7 % 40)).map { "word\($0 * index % 97)" }.joined(separator: " ")
    let messages = #""messages":[{"role":"user","content":"\#(words) \#(index % 5)"}]"#
    let count = 1 + index * 13 % 40
    let tool = """
      {"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"enum":["x","y"]}},
       "required":["a"],"additionalProperties":false}}
      """
    return switch index % 12 {
    case 0: ("/v1/chat/completions", "{\(messages),\"max_tokens\":\(count),\"stream\":true}")
    case 1: ("/v1/chat/completions", "{\(messages),\"max_tokens\":\(count),\"n\":3,\"seed\":1}")
    case 2:
      (
        "/v1/completions",
        #"{"prompt":["\#(words) a","b"],"max_tokens":\#(count),"echo":true,"logprobs":1}"#
      )
    case 3: ("/v1/messages", "{\(messages),\"max_tokens\":\(count),\"stream\":true}")
    case 4:
      (
        "/v1/responses",
        #"{"input":"\#(words) x","max_output_tokens":\#(count + 15),"stream":true}"#
      )
    case 5: ("/tokenize", "{\(messages)}")
    case 6:
      (
        "/v1/chat/completions",
        """
        {\(messages),"max_tokens":60,"thinking_token_budget":2,"tool_choice":"required",
         "tools":[{"type":"function","function":\(tool)}],"stream":true}
        """
      )
    case 7:
      (
        "/v1/chat/completions",
        """
        {\(messages),"max_tokens":60,"thinking_token_budget":2,
         "response_format":{"type":"json_object"},"logprobs":true,"top_logprobs":5}
        """
      )
    case 8: ("/v1/messages", "{\(messages),\"max_tokens\":\(count)}")
    case 9: ("/v1/responses", #"{"input":"\#(words) y","max_output_tokens":\#(count + 15)}"#)
    case 10: ("/v1/messages/count_tokens", "{\(messages)}")
    default:
      (
        "/v1/chat/completions",
        "{\(messages),\"max_tokens\":\(count),\"stop\":[\"e\",\"the\"],\"min_p\":0.1,"
          + "\"presence_penalty\":1,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"
      )
    }
  }

  /// A request that must be refused.
  private static func malformed(_ index: Int) -> (path: String, body: String) {
    let bodies = [
      #"{"messages":[{"role":"user","content":"x"}],"temperature":9}"#, #"{"messages":[]}"#,
      #"{"messages":[{"role":"wizard","content":"x"}]}"#, "{", "\u{1}", #"{"messages":7}"#,
      #"{"messages":[{"role":"user","content":"x"}],"max_tokens":100000000}"#,
    ]
    let path = index % 2 == 0 ? "/v1/chat/completions" : "/v1/messages"
    return (path, bodies[index / 2 % bodies.count])
  }

  /// One worker's requests: every tenth is left half-way, every twentieth is malformed.
  private static func work(
    _ indexes: StrideTo<Int>, port: Int, faults: Faults
  ) {
    var client: HTTPClient?
    for index in indexes {
      guard let open = client ?? (try? HTTPClient(port: port)) else {
        faults.list.withLock { $0.append("\(index): cannot connect") }
        continue
      }
      client = open
      if index % 10 == 3 {
        let (path, body) = good(index &* 31)
        let cancelled =
          body.hasSuffix("}") && path == "/v1/chat/completions"
          ? body.replacing(/"max_tokens":\d+/, with: "\"max_tokens\":500") : body
        open.send(HTTPClient.bytes("POST", path, body: Array(cancelled.utf8)))
        // A third leaves at once, a third with the first bytes, a third a little later.
        if index % 3 > 0 { _ = open.read(through: Array("\r\n".utf8)) }
        if index % 3 > 1 && body.contains("\"stream\":true") {
          _ = open.read(through: Array("\n\n".utf8))
        }
        open.close()
        client = nil
      } else if index % 20 == 7 {
        let (path, body) = malformed(index)
        let answer = open.ask("POST", path, body)
        if answer.status != 400 {
          faults.list.withLock { $0.append("\(index): malformed gave \(answer.status)") }
        }
        client = nil
      } else {
        let (path, body) = good(index)
        let answer = open.ask("POST", path, body)
        if answer.status != 200 || answer.body.isEmpty {
          faults.list.withLock { $0.append("\(index) \(path): \(answer.status) \(answer.text)") }
          client = nil
        }
        if index % 17 == 0 { client = nil }
      }
    }
  }

  /// What went wrong, from any thread.
  private final class Faults: Sendable {
    let list = Mutex<[String]>([])
  }

  private static func round(_ indexes: Range<Int>, _ server: TestServer) async -> [String] {
    let faults = Faults()
    let port = server.port
    _ = await Parallel.map(24) { worker in
      let own = stride(from: indexes.lowerBound + worker, to: indexes.upperBound, by: 24)
      work(own, port: port, faults: faults)
    }
    return faults.list.withLock { $0 }
  }

  @Test("a mix with cancelled and malformed requests leaves no block, descriptor or memory behind")
  func soak() async throws {
    let server = try await TestServer(
      model: Self.model,
      ["--max-num-seqs", "12", "--block-size", "16", "--kv-cache-memory", "4MiB"])
    // The first part grows what is kept on purpose: prefix blocks, grammars, stored responses.
    let warm = min(2000, Self.requestCount / 2)
    #expect(await Self.round(0..<warm, server) == [])
    #expect(try await server.becomesIdle())
    let descriptors = server.descriptorCount
    let memory = server.privateByteCount
    #expect(await Self.round(warm..<Self.requestCount, server) == [])
    #expect(try await server.becomesIdle())
    #expect(try server.load().kv_cache_usage == 0)
    // Connections that were left are noticed within the second.
    for _ in 0..<200 where server.descriptorCount > descriptors {
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(server.descriptorCount <= descriptors)
    let growth = server.privateByteCount - memory
    #expect(growth < 24 << 20, "\(growth) bytes more after \(Self.requestCount) requests")
    #expect(server.process.isRunning)
    print("soak: \(Self.requestCount) requests, \(memory) bytes after \(warm), then \(growth) more")
  }

  @Test("a thousand streams that wait cost less than 100 MB, and all are answered")
  func idleStreams() async throws {
    let server = try await TestServer(
      model: Self.model, ["--max-num-seqs", "1", "--max-queued-requests", "2000"])
    let long = #"{"prompt":"a","max_tokens":60000,"ignore_eos":true,"stream":true}"#
    let first = try HTTPClient(port: server.port)
    first.send(HTTPClient.bytes("POST", "/v1/completions", body: Array(long.utf8)))
    _ = first.read(through: Array("\n\n".utf8))
    let before = server.privateByteCount
    let short =
      #"{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":true}"#
    var streams: [HTTPClient] = []
    for _ in 0..<1000 {
      let client = try HTTPClient(port: server.port)
      client.send(HTTPClient.bytes("POST", "/v1/chat/completions", body: Array(short.utf8)))
      streams.append(client)
    }
    for stream in streams {
      let head = stream.read(through: Array("\r\n\r\n".utf8)) ?? []
      #expect(String(decoding: head, as: UTF8.self).hasPrefix("HTTP/1.1 200"))
    }
    let cost = server.privateByteCount - before
    #expect(cost < 100_000_000, "\(cost) bytes")
    print("idle streams: 1000 cost \(cost) bytes")
    first.close()
    for stream in streams { #expect(stream.read(through: Array("[DONE]".utf8)) != nil) }
    for stream in streams { stream.close() }
    #expect(try await server.becomesIdle())
  }
}
