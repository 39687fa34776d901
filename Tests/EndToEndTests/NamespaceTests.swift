import Foundation
import TestSupport
import Testing

@Suite(
  "Two machines, TCP between them", .serialized,
  .enabled(if: TwoMachines.obstacle == nil, "needs root, iproute2, curl and network namespaces"))
struct NamespaceTests {
  /// Attention nodes on one machine, ffn nodes with these parts on the other.
  private func nodes(attention: Int, parts: [[String: String]]) -> [CabledCluster.Node] {
    (0..<attention).map { .init(id: "a\($0)", role: "attention", machine: 0) }
      + parts.enumerated().map { .init(id: "f\($0)", role: "ffn", machine: 1, extra: $1) }
  }

  @Test(
    "tokens and log-probabilities over TCP are those of one process",
    arguments: [
      ("1A1F", 1, [[:]]),
      ("1A2F by experts", 1, [["experts": "0-2"], ["experts": "3-5"]]),
      ("3A2F by slices", 3, [["slice": "0/2"], ["slice": "1/2"]]),
      (
        "2A4F by experts and slices", 2,
        [
          ["experts": "0-1", "slice": "0/2"], ["experts": "0-1", "slice": "1/2"],
          ["experts": "2-5", "slice": "0/2"], ["experts": "2-5", "slice": "1/2"],
        ]
      ),
    ] as [(String, Int, [[String: String]])])
  func equal(name: String, attention: Int, parts: [[String: String]]) async throws {
    let cluster = try CabledCluster("moe-f32", nodes(attention: attention, parts: parts))
    try await cluster.startAll()
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 12)
    let found = try await cluster.askAll((0..<attention).map { "a\($0)" }, length: 12)
    #expect(found.map(\.status) == expected.map { _ in 200 }, "\(cluster.errors)")
    #expect(found.map(\.answer) == expected)
    if name == "1A1F" {
      // It did go through the cable.
      let check = try await cluster.check(0)
      #expect(check.contains("\"tcp cable0\""), "\(check)")
    }
  }

  @Test("a cut cable hands the work to the replica: no request fails, no token differs")
  func replica() async throws {
    let cluster = try CabledCluster(
      "moe-f32",
      [
        .init(id: "a0", role: "attention", machine: 0), .init(id: "f0", role: "ffn", machine: 1),
        .init(id: "f1", role: "ffn", machine: 0),
      ])
    try await cluster.startAll()
    // One replica is enough to be ready; the cut is to hit the other one.
    for _ in 0..<200 where !cluster.errors.contains("a0: f0 takes part") {
      try await Task.sleep(for: .milliseconds(50))
    }
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 400)
    let found = try await cluster.askAll(["a0"], length: 400) {
      try await Task.sleep(for: .milliseconds(150))
      cluster.machines.setCable(1, isUp: false)
    }
    #expect(found.map(\.status) == expected.map { _ in 200 }, "\(cluster.errors)")
    #expect(found.map(\.answer) == expected)
    // The replica took over at suspicion; the link is closed a little later.
    for _ in 0..<200 where !cluster.errors.contains("f0 is gone") {
      try await Task.sleep(for: .milliseconds(50))
    }
    #expect(cluster.errors.contains("f0 is gone"), "\(cluster.errors)")
  }

  @Test("without a replica a cut cable gives 503, and service resumes when it is plugged in")
  func alone() async throws {
    let cluster = try CabledCluster("moe-f32", nodes(attention: 1, parts: [[:]]))
    try await cluster.startAll()
    let found = try await cluster.askAll(["a0"], length: 400) {
      try await Task.sleep(for: .milliseconds(150))
      cluster.machines.setCable(1, isUp: false)
    }
    #expect(found.allSatisfy { $0.status == 503 }, "\(found.map(\.status)) \(cluster.errors)")
    #expect(try await cluster.status(of: "a0", becomes: 503))
    cluster.machines.setCable(1, isUp: true)
    #expect(try await cluster.status(of: "a0", becomes: 200), "\(cluster.errors)")
    let expected = try await ColocatedAnswers.shared.answers("moe-f32", length: 12)
    #expect(try await cluster.askAll(["a0"], length: 12).map(\.answer) == expected)
  }
}
