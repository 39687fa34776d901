import Foundation
import TestSupport

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// A cluster of real processes on this machine, over shared memory.
final class ClusterHarness: @unchecked Sendable {
  // Unchecked: one test owns it and starts and kills in turn; requests only read.
  struct Node {
    var id: String
    var role: String
    var port: Int
    var extra: [String: String] = [:]
  }

  let folder: TemporaryFolder
  let model: String
  private(set) var nodes: [Node]
  private(set) var processes: [String: Step3Process] = [:]
  private let key: String

  /// Nodes with ports of their own; nothing runs yet.
  init(
    _ checkpoint: String, _ nodes: [Node], exchange: String = "exact",
    key: String = "a-key-of-16-bytes",
    timeouts: [String: Int] = [:]
  ) throws {
    folder = try TemporaryFolder()
    model = Fixtures.path("tiny/\(checkpoint)")
    self.nodes = nodes
    self.key = key
    try Self.write(
      nodes, key: key, exchange: exchange, timeouts: timeouts, to: folder.file("cluster.json"))
  }

  static func write(
    _ nodes: [Node], key: String, exchange: String, timeouts: [String: Int], to file: URL
  ) throws {
    let list = nodes.map { node in
      var entry: [String: Any] = [
        "id": node.id, "role": node.role, "host": "127.0.0.1", "port": node.port,
      ]
      for (key, value) in node.extra { entry[key] = value }
      return entry
    }
    var root: [String: Any] = ["key": key, "exchange": exchange, "nodes": list]
    if !timeouts.isEmpty { root["timeouts_ms"] = timeouts }
    try JSONSerialization.data(withJSONObject: root).write(to: file)
  }

  /// Attention nodes `a0…`, ffn nodes `f0…` that hold `parts`, and a gateway when wanted.
  static func nodes(
    attention: Int, parts: [[String: String]], gateway: Bool = false
  ) -> [Node] {
    (0..<attention).map { Node(id: "a\($0)", role: "attention", port: FreePort.next()) }
      + parts.enumerated().map {
        Node(id: "f\($0)", role: "ffn", port: FreePort.next(), extra: $1)
      } + (gateway ? [Node(id: "gw", role: "gateway", port: FreePort.next())] : [])
  }

  var file: String { folder.file("cluster.json").path }

  func port(_ id: String) -> Int { nodes.first { $0.id == id }?.port ?? 0 }

  /// Starts a node's process, or starts it again.
  func start(_ id: String, model other: String? = nil, file otherFile: String? = nil) throws {
    let role = nodes.first { $0.id == id }?.role ?? ""
    let command = role == "gateway" ? "serve" : role
    var arguments = [command, "--model", other ?? model, "--cluster", otherFile ?? file]
    arguments += ["--id", id, "--threads", "1"]
    if role != "ffn" { arguments += ["--no-ui", "--max-num-batched-tokens", "64"] }
    processes[id] = try Step3Process(arguments)
  }

  func startAll() async throws {
    for node in nodes { try start(node.id) }
    for node in nodes where node.role != "ffn" { try await ready(node.id) }
  }

  /// Waits until a node's /ready says 200.
  func ready(_ id: String) async throws {
    for _ in 0..<1500 {
      if let (status, _) = try? await get(id, "/ready"), status == 200 { return }
      guard processes[id]?.isRunning == true else { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    throw Failure(description: "\(id) is not ready:\n\(errors)")
  }

  struct Failure: Error, CustomStringConvertible { let description: String }

  /// What all processes wrote to standard error.
  var errors: String {
    processes.sorted { $0.key < $1.key }.map { "--- \($0.key)\n\($0.value.errors)" }
      .joined(separator: "\n")
  }

  func get(_ id: String, _ path: String) async throws -> (Int, [String: Any]) {
    try await send(id, path, nil)
  }

  /// Posts a completion.
  func complete(_ id: String, _ body: [String: Any]) async throws -> (Int, [String: Any]) {
    try await send(id, "/v1/completions", body)
  }

  private func send(
    _ id: String, _ path: String, _ body: [String: Any]?
  ) async throws -> (Int, [String: Any]) {
    guard let url = URL(string: "http://127.0.0.1:\(port(id))\(path)") else {
      throw Failure(description: "no address")
    }
    var request = URLRequest(url: url)
    request.timeoutInterval = 60
    if let body {
      request.httpMethod = "POST"
      request.setValue("application/json", forHTTPHeaderField: "Content-Type")
      request.httpBody = try JSONSerialization.data(withJSONObject: body)
    }
    let (data, response) = try await URLSession.shared.data(for: request)
    let json = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
    return ((response as? HTTPURLResponse)?.statusCode ?? 0, json ?? [:])
  }

  deinit {
    for process in processes.values {
      process.send(signal: SIGCONT)
      process.send(signal: SIGKILL)
    }
  }
}

/// What a completion answered, for comparing: token ids and log-probabilities.
struct Completion: Equatable, CustomStringConvertible {
  var ids: [[Int]] = []
  var logprobs: [[Double]] = []

  init(_ json: [String: Any]) {
    for choice in json["choices"] as? [[String: Any]] ?? [] {
      ids.append(choice["token_ids"] as? [Int] ?? [])
      let report = choice["logprobs"] as? [String: Any]
      logprobs.append(report?["token_logprobs"] as? [Double] ?? [])
    }
  }

  var description: String { "\(ids)" }

  /// Requests that together use greedy and seeded choice, several choices and several lengths.
  static func requests(length: Int) -> [[String: Any]] {
    (0..<6).map { index in
      [
        "prompt": (0..<(5 + 9 * index)).map { ($0 * 7 + index * 13) % 90 + 3 },
        "max_tokens": length, "temperature": index % 2 == 0 ? 0.0 : 0.8, "seed": index,
        "n": index == 3 ? 2 : 1, "logprobs": 1, "ignore_eos": true, "return_token_ids": true,
      ]
    }
  }
}

/// What one process that holds everything answers, worked out once per checkpoint and length.
actor ColocatedAnswers {
  static let shared = ColocatedAnswers()
  private var known: [String: [Completion]] = [:]

  func answers(_ checkpoint: String, length: Int) async throws -> [Completion] {
    let key = "\(checkpoint) \(length)"
    if let answers = known[key] { return answers }
    let harness = try ClusterHarness(
      checkpoint, [.init(id: "s", role: "serve", port: FreePort.next())])
    let answers = try await harness.colocated(Completion.requests(length: length))
    known[key] = answers
    return answers
  }
}

extension ClusterHarness {
  /// Starts `step3 serve` in place of a cluster, asks, and ends it.
  fileprivate func colocated(_ requests: [[String: Any]]) async throws -> [Completion] {
    let server = try Step3Process([
      "serve", "--model", model, "--port", "\(port("s"))", "--no-ui", "--threads", "1",
    ])
    defer { server.send(signal: SIGKILL) }
    for _ in 0..<1500 {
      if let (status, _) = try? await get("s", "/ready"), status == 200 { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    var answers: [Completion] = []
    for request in requests { answers.append(Completion(try await complete("s", request).1)) }
    return answers
  }

  /// Asks all requests at once of the nodes in turn.
  func askAll(
    _ ids: [String], length: Int, while event: (@Sendable () async throws -> Void)? = nil
  ) async throws -> [(status: Int, answer: Completion)] {
    let count = Completion.requests(length: length).count
    return try await withThrowingTaskGroup(of: (Int, Int, Completion).self) { group in
      for index in 0..<count {
        group.addTask { [self] in
          let request = Completion.requests(length: length)[index]
          let (status, json) = try await complete(ids[index % ids.count], request)
          return (index, status, Completion(json))
        }
      }
      if let event { try await event() }
      var results = [(status: Int, answer: Completion)?](repeating: nil, count: count)
      for try await (index, status, answer) in group { results[index] = (status, answer) }
      return results.compactMap { $0 }
    }
  }
}
