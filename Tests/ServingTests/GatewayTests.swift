import ClusterControl
import ConstrainedDecoding
import Inference
import JSONScanning
import Sampling
import Serving
import Synchronization
import TestSupport
import Testing

/// Attention nodes with scripted engines, and a gateway in front of them.
private final class TestCluster: Sendable {
  let nodes: [TestAPI]
  let gateway: GatewayEngine
  let front: TestAPI
  let log = LogLines()

  /// Says its prompt, then letters that depend on the seed, and goes on where it left off.
  static func script(_ request: GenerationRequest, _ choice: Int) -> [Int] {
    let seed = Int(request.seed % 1000) + choice
    let all = (0..<60).map { 97 + ($0 * 7 + seed) % 26 }
    return Array(all.dropFirst(request.resumedTokenCount))
  }

  init(count: Int = 2, pause: Duration = .zero, nodeKey: String? = nil) async throws {
    let key = Array("0123456789abcdef".utf8)
    nodes = try (0..<count).map { _ in
      try TestAPI(ScriptedEngine(pause: pause, script: Self.script)) {
        $0.clusterKey = nodeKey.map { Array($0.utf8) } ?? key
      }
    }
    var list = nodes.enumerated().map {
      ClusterNode(id: "a\($0)", role: .attention, host: "127.0.0.1", port: $1.server.port)
    }
    list.append(ClusterNode(id: "gone", role: .attention, host: "127.0.0.1", port: FreePort.next()))
    var file = ClusterFile(path: "cluster.json", nodes: list, key: key)
    file.timeouts.heartbeat = .milliseconds(20)
    let log = log
    gateway = try GatewayEngine(file) { log.add($0) }
    front = try TestAPI(over: gateway, scripted: nodes[0].engine)
    for _ in 0..<500 where gateway.peers.count(where: \.isUp) < count && nodeKey == nil {
      try await Task.sleep(for: .milliseconds(10))
    }
  }

  // The thread of a gateway that nobody stops would go on to the end of the process.
  deinit { gateway.stop() }
}

private final class LogLines: Sendable {
  private let lines = Mutex<[String]>([])
  func add(_ line: String) { lines.withLock { $0.append(line) } }
  var all: [String] { lines.withLock { $0 } }
}

@Suite("One address for many attention nodes", .serialized)
struct GatewayTests {
  private let request: JSONValue = [
    "prompt": "hello", "max_tokens": 40, "seed": 3, "n": 2, "logprobs": 2, "stream": true,
  ]

  private func texts(_ answer: TestAPI.Answer) -> [String] {
    var texts = ["", ""]
    for chunk in answer.chunks {
      for choice in chunk["choices"]?.array ?? [] {
        if let index = choice["index"]?.integer { texts[index] += choice["text"]?.string ?? "" }
      }
    }
    return texts
  }

  @Test("answers are those of the node itself, logprobs included")
  func passesThrough() async throws {
    let cluster = try await TestCluster()
    let direct = await cluster.nodes[0].post("/v1/completions", request)
    let through = await cluster.front.post("/v1/completions", request)
    #expect(texts(through) == texts(direct))
    #expect(texts(through).map(\.count) == [40, 40])
    let logprobs = { (answer: TestAPI.Answer) in
      answer.chunks.compactMap { $0["choices"]?[0]?["logprobs"]?["token_logprobs"] }
    }
    #expect(Set(logprobs(through).map { $0.text() }) == Set(logprobs(direct).map { $0.text() }))
  }

  @Test("a node that dies under a stream is replaced and no token differs")
  func failsOver() async throws {
    let cluster = try await TestCluster(pause: .milliseconds(10))
    let expected = texts(await cluster.nodes[0].post("/v1/completions", request))
    async let answer = cluster.front.post("/v1/completions", request)
    var victim: Int?
    for _ in 0..<500 where victim == nil {
      try await Task.sleep(for: .milliseconds(5))
      // Which node has the request, once it is well under way.
      victim = cluster.nodes.firstIndex { node in
        node.engine.requests.contains { $0.id.contains("#") }
          && node.engine.load.runningRequestCount > 0
      }
    }
    try await Task.sleep(for: .milliseconds(60))
    await cluster.nodes[try #require(victim)].server.stop()
    #expect(texts(await answer) == expected)
    #expect(cluster.gateway.failoverCount == 1, "\(cluster.log.all)")
    let other = cluster.nodes[1 - (victim ?? 0)].engine.requests
    #expect(other.contains { $0.resumedTokenCount > 0 })
  }

  @Test("without nodes there is 503 with Retry-After, and health names who is missing")
  func nobody() async throws {
    let cluster = try await TestCluster(count: 1)
    let health = await cluster.front.send("GET", "/health")
    #expect(health.json["status"] == "degraded")
    #expect(health.json["missing"] == ["gone"])
    #expect(await cluster.front.send("GET", "/ready").status == 200)
    #expect(
      await cluster.front.send("GET", "/metrics").body.contains(
        "peer=\"gone\",role=\"attention\"} 0"))
    await cluster.nodes[0].server.stop()
    for _ in 0..<300 where cluster.gateway.peers.contains(where: \.isUp) {
      try await Task.sleep(for: .milliseconds(10))
    }
    let answer = await cluster.front.post("/v1/completions", request)
    #expect(answer.status == 503)
    #expect(answer.headers["retry-after"] != nil)
    #expect(await cluster.front.send("GET", "/ready").status == 503)
  }

  @Test("requests spread over the nodes by their context, and return to a known prefix")
  func spreads() async throws {
    let cluster = try await TestCluster(pause: .milliseconds(5))
    await withTaskGroup(of: Void.self) { group in
      for index in 0..<4 {
        group.addTask {
          let prompt = String(repeating: "\(index)", count: 100)
          _ = await cluster.front.post(
            "/v1/completions", ["prompt": .string(prompt), "max_tokens": 30])
        }
      }
    }
    #expect(cluster.nodes.map { $0.engine.requests.count } == [2, 2])
    for index in 0..<4 {
      let prompt = String(repeating: "\(index)", count: 100)
      _ = await cluster.front.post("/v1/completions", ["prompt": .string(prompt), "max_tokens": 1])
    }
    for node in cluster.nodes {
      let firsts = node.engine.requests.map { $0.prompt[0] }
      #expect(Set(firsts).count == 2 && firsts.count == 4)
    }
  }

  @Test("a node with another key takes no requests, and strangers are refused")
  func keys() async throws {
    let cluster = try await TestCluster(nodeKey: "another-key-of-16")
    for _ in 0..<300 where !cluster.log.all.contains(where: { $0.contains("cluster key") }) {
      try await Task.sleep(for: .milliseconds(10))
    }
    #expect(cluster.log.all.contains { $0.contains("refuses the cluster key") })
    #expect(await cluster.front.post("/v1/completions", request).status == 503)
    #expect(await cluster.nodes[0].send("GET", "/cluster/status").status == 401)
    let plain = try TestAPI(ScriptedEngine("x"))
    #expect(await plain.send("GET", "/cluster/status").status == 404)
  }

  @Test("a request reads back as it was written")
  func codec() throws {
    var request = GenerationRequest(
      id: "x", prompt: [1, 2, 3],
      sampling: try SamplingParameters(
        temperature: 0.1, topK: 5, topP: 0.3, minP: 0.01, repetitionPenalty: 1.1,
        presencePenalty: 0.2, frequencyPenalty: -0.7, logitBias: [TokenBias(token: 4, bias: 1.5)],
        allowedTokens: [1, 4], badWords: [[1], [2, 3]], minTokens: 2, logprobs: 3),
      seed: .max, maximumTokens: 9, stopTokenIDs: [7], ignoreEndOfSequence: true,
      promptLogprobCount: 0, priority: -1, cacheSalt: "s", thinkingTokenBudget: 6, thinkEnd: [8])
    request.resumedTokenCount = 1
    let grammar = try Grammar.compile(.regex("[ab]+"), vocabulary: ByteText().vocabulary)
    request.constraint = GrammarConstraint(grammar, source: .regex("[ab]+"))
    let text = ClusterRequestCodec.json(request).text(.compact)
    var sources: [String] = []
    let read = try #require(
      try ClusterRequestCodec.request(JSONValue(parsing: text)) { source in
        sources.append("\(source)")
        return GrammarConstraint(grammar, source: source)
      })
    #expect(ClusterRequestCodec.json(read).text(.compact) == text)
    #expect(read.sampling == request.sampling && read.seed == .max)
    #expect(sources == ["regex(\"[ab]+\")"])
  }

  @Test(
    "events read back as they were written",
    arguments: [
      GenerationEvent.promptProcessed(
        PromptReport(cachedTokenCount: 3, logprobs: [nil], queueSeconds: 0.1, prefillSeconds: 0.2)),
      .token(
        GeneratedToken(
          choice: 1, id: 5,
          logprobs: TokenLogprobs(
            chosen: TokenLogprob(token: 5, logprob: -0.1), rank: 2,
            top: [TokenLogprob(token: 6, logprob: -.infinity)]))),
      .finished(FinishedChoice(choice: 0, reason: .stopToken(4), generatedTokenCount: 2)),
      .finished(
        FinishedChoice(
          choice: 0, reason: .failed(.queueFull(limit: 3, retryAfterSeconds: 4)),
          generatedTokenCount: 0)),
    ])
  func events(_ event: GenerationEvent) {
    #expect(ClusterEventCodec.event(ClusterEventCodec.line(event).dropLast()) == event)
  }
}
