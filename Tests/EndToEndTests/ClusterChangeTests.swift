import Foundation
import TestSupport
import Testing

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

@Suite("Clusters that change while they serve", .serialized)
struct ClusterChangeTests {
  private static let replicas = [["experts": "all"], ["experts": "all"]]

  /// Asks over and over until `event` is over; every answer must be right.
  private func ask(
    _ cluster: ClusterHarness, _ ids: [String], length: Int,
    until event: @escaping @Sendable () async throws -> Void
  ) async throws {
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: length)
    let isOver = Flag()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        try await event()
        isOver.set()
      }
      group.addTask {
        repeat {
          let found = try await cluster.askAll(ids, length: length)
          #expect(found.map(\.status) == expected.map { _ in 200 }, "\(cluster.errors)")
          #expect(found.map(\.answer.ids) == expected.map(\.ids), "\(cluster.errors)")
        } while !isOver.isSet
      }
      do { while try await group.next() != nil {} } catch {
        isOver.set()
        throw error
      }
    }
  }

  @Test("experts move by measured load while requests run: no bit changes, restarts keep up")
  func rebalance() async throws {
    let cluster = try ClusterHarness(
      "moe-f32",
      ClusterHarness.nodes(attention: 2, parts: [["experts": "0-2"], ["experts": "3-5"]]))
    try await cluster.startAll()
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 40)
    // Two of the prompts alone, so that the load is uneven.
    for index in 0..<2 {
      _ = try await cluster.complete("a0", Completion.requests(length: 40)[index])
    }
    try await ask(cluster, ["a0", "a1"], length: 40) {
      let change = try Step3Process(["cluster", "rebalance", "--cluster", cluster.file])
      let result = try await change.result()
      #expect(result.exitCode == 0, "\(result.errors) \(cluster.errors)")
      #expect(result.errors.contains("a1 uses map 2"), "\(result.errors)")
    }
    for id in ["a0", "a1"] { #expect(try await cluster.metric(id, "afd_expert_map_epoch") == 2) }
    // An ffn process that comes back holds the new map before it is used, and an attention process
    // that comes back is told of it.
    cluster.processes["f1"]?.send(signal: SIGKILL)
    _ = try await cluster.processes["f1"]?.result()
    try cluster.start("f1")
    cluster.processes["a0"]?.send(signal: SIGKILL)
    _ = try await cluster.processes["a0"]?.result()
    try cluster.start("a0")
    for id in ["a0", "a1"] { try await cluster.ready(id) }
    let found = try await cluster.askAll(["a0", "a1"], length: 40)
    #expect(found.map(\.answer) == expected, "\(cluster.errors)")
    #expect(try await cluster.askAll(["a0"], length: 40).map(\.answer) == expected)
    #expect(try await cluster.metric("a0", "afd_expert_map_epoch") == 2, "\(cluster.errors)")
  }

  @Test("metrics: the parts of the steps' time add up, and ffn nodes report")
  func metrics() async throws {
    let cluster = try ClusterHarness("moe-f32", ClusterHarness.nodes(attention: 1, parts: [[:]]))
    try await cluster.startAll()
    _ = try await cluster.askAll(["a0"], length: 40)
    var jobs = 0.0
    for _ in 0..<200 where jobs == 0 {
      try await Task.sleep(for: .milliseconds(50))
      jobs = try await cluster.metric("a0", "ffn_jobs_total") ?? 0
    }
    #expect(jobs > 0)
    let wall = try #require(try await cluster.metric("a0", "afd_wall_seconds_total"))
    let parts = try await cluster.metrics("a0", "afd_seconds_total")
    #expect(parts.count == 4)
    #expect(wall > 0 && abs(parts.reduce(0, +) - wall) < 1e-6 * wall)
    #expect(try await cluster.metrics("a0", "expert_tokens_total").count > 6)
    let top = try Step3Process(["cluster", "top", "--cluster", cluster.file, "--count", "1"])
    let text = try await top.result().output
    for word in ["imbalance", "on the way", "rows/job"] { #expect(text.contains(word), "\(text)") }
  }

  @Test("a rolling restart of every process behind the gateway: nothing fails, nothing differs")
  func rollingRestart() async throws {
    let cluster = try ClusterHarness(
      "moe-f32", ClusterHarness.nodes(attention: 2, parts: Self.replicas, gateway: true))
    try await cluster.startAll()
    try await cluster.whole(["a0", "a1", "gw"])
    try await ask(cluster, ["gw"], length: 40) {
      for id in ["f0", "f1", "a0", "a1"] {
        cluster.processes[id]?.send(signal: SIGTERM)
        let result = try await cluster.processes[id]?.result()
        #expect(result?.exitCode == 143, "\(id): \(result?.errors ?? "")")
        try cluster.start(id)
        try await cluster.whole(["a0", "a1", "gw"])
      }
    }
  }

  @Test("a node that joins while requests run can take over")
  func join() async throws {
    let cluster = try ClusterHarness(
      "moe-f32", ClusterHarness.nodes(attention: 1, parts: Self.replicas))
    try cluster.start("a0")
    try cluster.start("f0")
    try await cluster.ready("a0")
    try await ask(cluster, ["a0"], length: 100) {
      try cluster.start("f1")
      try await cluster.whole(["a0"])
      cluster.processes["f0"]?.send(signal: SIGKILL)
    }
  }
}

/// Set from one task, read from another.
private final class Flag: @unchecked Sendable {
  // Unchecked: the lock guards it.
  private let lock = NSLock()
  private var value = false
  var isSet: Bool { lock.withLock { value } }
  func set() { lock.withLock { value = true } }
}

extension ClusterHarness {
  /// The values of a metric, one per line of it.
  func metrics(_ id: String, _ name: String) async throws -> [Double] {
    guard let url = URL(string: "http://127.0.0.1:\(port(id))/metrics") else { return [] }
    let (data, _) = try await URLSession.shared.data(from: url)
    return String(decoding: data, as: UTF8.self).split(separator: "\n")
      .filter { $0.hasPrefix("step3:\(name){") }
      .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }
  }

  /// The first value of a metric.
  func metric(_ id: String, _ name: String) async throws -> Double? {
    try await metrics(id, name).first
  }

  /// Waits until none of the nodes misses a peer.
  func whole(_ ids: [String]) async throws {
    for id in ids {
      for _ in 0..<1500 {
        if let missing = try? await get(id, "/health").1["missing"] as? [String], missing.isEmpty,
          try await get(id, "/ready").0 == 200
        {
          break
        }
        try await Task.sleep(for: .milliseconds(20))
      }
    }
  }
}
