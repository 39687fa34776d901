import Foundation
import TestSupport
import Testing

@Suite("Attention and feed-forward in different processes", .serialized)
struct ClusterTests {
  private static let replicas = [["experts": "all"], ["experts": "all"]]

  @Test(
    "tokens and log-probabilities are those of one process",
    arguments: [
      ("1A1F", 1, [[:]], false),
      ("1A2F by experts", 1, [["experts": "0-2"], ["experts": "3-5"]], false),
      ("1A2F by slices", 1, [["slice": "0/2"], ["slice": "1/2"]], false),
      ("2A1F", 2, [[:]], false),
      ("2A2F behind the gateway", 2, [["experts": "0-2"], ["experts": "3-5"]], true),
      ("3A2F by experts", 3, [["experts": "0-1"], ["experts": "2-5"]], false),
      ("3A2F by slices", 3, [["slice": "0/2"], ["slice": "1/2"]], false),
      ("2A4F by slices", 2, (0..<4).map { ["slice": "\($0)/4"] }, false),
      ("2A4F by experts", 2, ["0", "1-2", "3", "4-5"].map { ["experts": $0] }, false),
      (
        "2A4F by experts and slices", 2,
        [
          ["experts": "0-3", "slice": "0/2"], ["experts": "0-3", "slice": "1/2"],
          ["experts": "4-5", "slice": "0/2"], ["experts": "4-5", "slice": "1/2"],
        ], false
      ),
    ] as [(String, Int, [[String: String]], Bool)])
  func equal(name: String, attention: Int, parts: [[String: String]], gateway: Bool) async throws {
    let cluster = try ClusterHarness(
      "moe-f32", ClusterHarness.nodes(attention: attention, parts: parts, gateway: gateway))
    try await cluster.startAll()
    let fronts = gateway ? ["gw"] : (0..<attention).map { "a\($0)" }
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 12)
    let found = try await cluster.askAll(fronts, length: 12)
    #expect(found.map(\.status) == expected.map { _ in 200 }, "\(cluster.errors)")
    #expect(found.map(\.answer) == expected)
    #expect(found.allSatisfy { $0.answer.logprobs[0].count == 12 })
  }

  @Test("BF16 weights and activations give the same bits too")
  func equalBF16() async throws {
    let cluster = try ClusterHarness(
      "moe-bf16",
      ClusterHarness.nodes(attention: 1, parts: [["experts": "0-3"], ["experts": "4-7"]]))
    try await cluster.startAll()
    let expected = try await ColocatedAnswers.shared.answers("moe-bf16", length: 12)
    #expect(try await cluster.askAll(["a0"], length: 12).map(\.answer) == expected)
  }

  @Test(
    "an ffn process with a replica may be killed or stopped: no request fails, no token differs",
    arguments: [SIGKILL, SIGSTOP])
  func replica(signal: Int32) async throws {
    let cluster = try ClusterHarness(
      "moe-f32", ClusterHarness.nodes(attention: 1, parts: Self.replicas))
    try await cluster.startAll()
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 100)
    let found = try await cluster.askAll(["a0"], length: 100) {
      try await Task.sleep(for: .milliseconds(150))
      cluster.processes["f0"]?.send(signal: signal)
    }
    #expect(found.map(\.status) == expected.map { _ in 200 }, "\(cluster.errors)")
    #expect(found.map(\.answer) == expected)
  }

  @Test("without a replica requests fail cleanly, and service resumes when it returns")
  func noReplica() async throws {
    let cluster = try ClusterHarness("moe-f32", ClusterHarness.nodes(attention: 1, parts: [[:]]))
    try await cluster.startAll()
    let found = try await cluster.askAll(["a0"], length: 400) {
      try await Task.sleep(for: .milliseconds(200))
      cluster.processes["f0"]?.send(signal: SIGKILL)
    }
    #expect(found.allSatisfy { $0.status == 503 }, "\(found.map(\.status))")
    let (status, health) = try await cluster.get("a0", "/health")
    #expect(status == 200 && health["missing"] as? [String] == ["f0"])
    #expect(try await cluster.get("a0", "/ready").0 == 503)
    try cluster.start("f0")
    try await cluster.ready("a0")
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 12)
    #expect(try await cluster.askAll(["a0"], length: 12).map(\.answer) == expected)
  }

  @Test("an attention process is killed behind the gateway: streams go on with the same tokens")
  func attentionKilled() async throws {
    let cluster = try ClusterHarness(
      "moe-f32", ClusterHarness.nodes(attention: 2, parts: [[:]], gateway: true))
    try await cluster.startAll()
    try await cluster.ready("a1")
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 400)
    let found = try await cluster.askAll(["gw"], length: 400) {
      try await Task.sleep(for: .milliseconds(200))
      cluster.processes["a0"]?.send(signal: SIGKILL)
    }
    #expect(found.map(\.status) == expected.map { _ in 200 }, "\(cluster.errors)")
    #expect(found.map(\.answer.ids) == expected.map(\.ids))
    // A stream that broke tells the gateway at once; idle connections only its next look does.
    var missing: [String]?
    for _ in 0..<100 where missing != ["a0"] {
      missing = try await cluster.get("gw", "/health").1["missing"] as? [String]
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(missing == ["a0"])
  }

  @Test("a peer with another key, model or cluster file is refused with exit code 6")
  func refused() async throws {
    let nodes = ClusterHarness.nodes(attention: 1, parts: [[:]])
    let cluster = try ClusterHarness("moe-f32", nodes)
    try cluster.start("f0")
    let other = cluster.folder.file("other.json")
    try ClusterHarness.write(
      nodes, key: "another-key-of-16", exchange: "exact", timeouts: [:], to: other)
    let rounded = cluster.folder.file("rounded.json")
    try ClusterHarness.write(
      nodes, key: "a-key-of-16-bytes", exchange: "bf16", timeouts: [:], to: rounded)
    for (file, model, words) in [
      (other.path, cluster.model, "the cluster keys differ"),
      (cluster.file, Fixtures.path("tiny/moe-bf16"), "the models differ"),
      (rounded.path, cluster.model, "the cluster files differ"),
    ] {
      try cluster.start("a0", model: model, file: file)
      let result = try await cluster.processes["a0"]?.result()
      #expect(result?.exitCode == 6 && result?.errors.contains(words) == true, "\(cluster.errors)")
    }
    // The ffn process has logged who came, and serves those who belong.
    #expect(cluster.processes["f0"]?.errors.contains("refused") == true)
    try cluster.start("a0")
    try await cluster.ready("a0")
  }

  @Test("noise on the exchange's port disturbs nobody")
  func noise() async throws {
    let cluster = try ClusterHarness("moe-f32", ClusterHarness.nodes(attention: 1, parts: [[:]]))
    try await cluster.startAll()
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 12)
    let port = cluster.port("f0")
    let found = try await cluster.askAll(["a0"], length: 12) {
      for seed in 0..<50 {
        try RawSocket(port: port).send(
          (0..<(1 << (seed % 12))).map { UInt8(($0 * 31 + seed * 7) & 255) })
      }
    }
    #expect(found.map(\.answer) == expected)
    #expect(cluster.processes["f0"]?.isRunning == true)
  }

  @Test("cluster up runs all roles, restarts what dies and drains on SIGTERM")
  func up() async throws {
    let cluster = try ClusterHarness(
      "moe-f32", ClusterHarness.nodes(attention: 1, parts: [[:]], gateway: true))
    let up = try Step3Process([
      "cluster", "up", "--model", cluster.model, "--cluster", cluster.file, "--threads", "1",
    ])
    defer { up.send(signal: SIGTERM) }
    func ask() async -> Int? {
      try? await cluster.complete("gw", ["prompt": [5, 6], "max_tokens": 2]).0
    }
    try await up.wait { _ in false || up.errors.contains("[gw] step3: ready") }
    for _ in 0..<500 {
      if await ask() == 200 { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    #expect(await ask() == 200, "\(up.errors)")
    up.send(signal: SIGTERM)
    let result = try await up.result()
    #expect(result.exitCode == 143)
    #expect(result.errors.contains("[f0] step3: draining"))
  }
}
