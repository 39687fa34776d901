import Foundation
import TestSupport

/// Two network namespaces joined by a virtual cable: two machines, as far as TCP can tell.
final class TwoMachines: Sendable {
  let names: [String]
  static let addresses = ["192.0.2.1", "192.0.2.2"]

  /// Why there are none here; nil where they can be made.
  static let obstacle: String? = {
    guard geteuid() == 0 else { return "needs root for network namespaces" }
    guard run("ip", ["netns", "list"]) == 0 else { return "needs ip of iproute2" }
    guard run("curl", ["--version"]) == 0 else { return "needs curl" }
    let probe = "step3-\(getpid())"
    guard run("ip", ["netns", "add", probe]) == 0 else { return "may not make network namespaces" }
    _ = run("ip", ["netns", "del", probe])
    return nil
  }()

  init() throws {
    let number = "\(getpid())-\(UInt32.random(in: 0..<1_000_000))"
    names = ["step3-\(number)-a", "step3-\(number)-b"]
    for name in names { try step(["netns", "add", name]) }
    try step([
      "link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "name", "cable1",
      "netns", names[1],
    ])
    for index in 0..<2 {
      try step([
        "-n", names[index], "addr", "add", "\(Self.addresses[index])/24", "dev", "cable\(index)",
      ])
      try step(["-n", names[index], "link", "set", "lo", "up"])
      setCable(index, isUp: true)
    }
    // The devices take a moment until they run.
    Thread.sleep(forTimeInterval: 0.3)
  }

  struct Failure: Error { let command: [String] }

  private func step(_ arguments: [String]) throws {
    guard Self.run("ip", arguments) == 0 else { throw Failure(command: arguments) }
  }

  /// Pulls or plugs one end of the cable.
  func setCable(_ index: Int, isUp: Bool) {
    _ = Self.run("ip", ["-n", names[index], "link", "set", "cable\(index)", isUp ? "up" : "down"])
  }

  /// Starts a command inside a machine, with its outputs going to files.
  func start(_ index: Int, _ command: [String], output: URL, errors: URL? = nil) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["ip", "netns", "exec", names[index]] + command
    try Data().write(to: output)
    process.standardOutput = try FileHandle(forWritingTo: output)
    if let errors {
      try Data().write(to: errors)
      process.standardError = try FileHandle(forWritingTo: errors)
    } else {
      process.standardError = FileHandle.nullDevice
    }
    process.standardInput = FileHandle.nullDevice
    try process.run()
    return process
  }

  private static func run(_ name: String, _ arguments: [String]) -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [name] + arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return -1 }
    process.waitUntilExit()
    return process.terminationStatus
  }

  deinit {
    for name in names { _ = Self.run("ip", ["netns", "del", name]) }
  }
}

/// A cluster of real processes on two machines; TCP between them, the link may be cut.
final class CabledCluster: @unchecked Sendable {
  // Unchecked: one test owns it and uses it from one task.
  struct Node {
    var id: String
    var role: String
    var machine: Int
    var extra: [String: String] = [:]
  }

  let machines: TwoMachines
  private let folder: TemporaryFolder
  private let model: String
  private let nodes: [Node]
  private var processes: [String: Process] = [:]
  private var questionCount = 0

  init(_ checkpoint: String, _ nodes: [Node]) throws {
    machines = try TwoMachines()
    folder = try TemporaryFolder()
    model = Fixtures.path("tiny/\(checkpoint)")
    self.nodes = nodes
    let list = nodes.enumerated().map { index, node in
      var entry: [String: Any] = [
        "id": node.id, "role": node.role, "host": TwoMachines.addresses[node.machine],
        "port": 7001 + index,
      ]
      for (key, value) in node.extra { entry[key] = value }
      return entry
    }
    let root: [String: Any] = [
      "key": "a-key-of-16-bytes", "data_ports": "20000-20100", "nodes": list,
    ]
    try JSONSerialization.data(withJSONObject: root).write(to: file)
  }

  private var file: URL { folder.file("cluster.json") }

  func start(_ id: String) throws {
    guard let node = nodes.first(where: { $0.id == id }) else { return }
    var command = [Step3Process.executable.path, node.role, "--model", model]
    command += ["--cluster", file.path, "--id", id, "--threads", "1"]
    if node.role == "attention" { command += ["--no-ui", "--max-num-batched-tokens", "64"] }
    processes[id] = try machines.start(
      node.machine, command, output: folder.file("\(id).out"), errors: folder.file("\(id).log"))
  }

  func startAll() async throws {
    for node in nodes { try start(node.id) }
    for node in nodes where node.role == "attention" {
      guard try await status(of: node.id, becomes: 200) else {
        throw ClusterHarness.Failure(description: "\(node.id) is not ready:\n\(errors)")
      }
    }
  }

  var errors: String {
    nodes.map { node in
      let text = try? String(contentsOf: folder.file("\(node.id).log"), encoding: .utf8)
      return "--- \(node.id)\n\(text ?? "")"
    }.joined(separator: "\n")
  }

  /// Waits until a node's /ready has a status; false when it does not come.
  func status(of id: String, becomes wanted: Int) async throws -> Bool {
    for _ in 0..<400 {
      if try await finish(try question(id, "/ready", body: nil)).0 == wanted { return true }
      try await Task.sleep(for: .milliseconds(50))
    }
    return false
  }

  /// Asks all requests at once of the nodes in turn; `event` happens meanwhile.
  func askAll(
    _ ids: [String], length: Int, while event: (() async throws -> Void)? = nil
  ) async throws -> [(status: Int, answer: Completion)] {
    let requests = Completion.requests(length: length)
    let questions = try requests.enumerated().map { index, request in
      try question(
        ids[index % ids.count], "/v1/completions",
        body: try JSONSerialization.data(withJSONObject: request))
    }
    if let event { try await event() }
    var answers: [(status: Int, answer: Completion)] = []
    for question in questions {
      let (status, body) = try await finish(question)
      let json = try? JSONSerialization.jsonObject(with: body) as? [String: Any]
      answers.append((status, Completion(json ?? [:])))
    }
    return answers
  }

  /// What `step3 cluster check` says on a machine.
  func check(_ machine: Int) async throws -> String {
    let output = folder.file("check.out")
    let process = try machines.start(
      machine,
      [
        Step3Process.executable.path, "cluster", "check", "--model", model, "--cluster",
        file.path, "--format", "json",
      ], output: output)
    try await wait(for: process)
    return try String(contentsOf: output, encoding: .utf8)
  }

  private struct Question {
    let process: Process
    let output: URL
  }

  private func question(_ id: String, _ path: String, body: Data?) throws -> Question {
    let index = nodes.firstIndex { $0.id == id } ?? 0
    let address = TwoMachines.addresses[nodes[index].machine]
    questionCount += 1
    let output = folder.file("answer\(questionCount)")
    var command = ["curl", "-s", "-m", "60", "-w", "\n%{http_code}"]
    if let body {
      let input = folder.file("question\(questionCount)")
      try body.write(to: input)
      command += ["-H", "Content-Type: application/json", "--data-binary", "@\(input.path)"]
    }
    command.append("http://\(address):\(7001 + index)\(path)")
    return Question(
      process: try machines.start(nodes[index].machine, command, output: output), output: output)
  }

  private func finish(_ question: Question) async throws -> (Int, Data) {
    try await wait(for: question.process)
    let data = try Data(contentsOf: question.output)
    guard let end = data.lastIndex(of: 0x0A) else { return (0, Data()) }
    let status = Int(String(decoding: data[(end + 1)...], as: UTF8.self)) ?? 0
    return (status, data[..<end])
  }

  private func wait(for process: Process) async throws {
    while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
  }

  deinit {
    for process in processes.values where process.isRunning {
      kill(process.processIdentifier, SIGKILL)
    }
  }
}
