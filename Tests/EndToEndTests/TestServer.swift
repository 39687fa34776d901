import Foundation
import TestSupport

/// The server ended before it was ready.
struct ServerEnded: Error {
  let errors: String
}

/// A `step3 serve` process on a free port of this machine.
final class TestServer: Sendable {
  let process: Step3Process
  let port: Int

  /// Starts the server and waits until it is ready.
  init(model: String, _ flags: [String] = [], environment: [String: String] = [:]) async throws {
    process = try Step3Process(
      ["serve", "--model", model, "--port", "0", "--log-format", "json"] + flags,
      environment: environment)
    try await process.wait { $0.errors.contains("/v1\n") }
    port = Self.port(in: process.errors)
    try await process.wait { $0.errors.contains("ready\n") }
    guard process.isRunning else { throw ServerEnded(errors: process.errors) }
  }

  private static func port(in text: String) -> Int {
    guard let end = text.range(of: "/v1\n")?.lowerBound else { return 0 }
    return Int(text[..<end].reversed().prefix { $0.isNumber }.reversed().map(String.init).joined())
      ?? 0
  }

  /// One request on a connection of its own.
  func ask(
    _ method: String, _ path: String, _ body: String = "", headers: [String] = []
  ) throws -> HTTPAnswer {
    try HTTPClient(port: port).ask(method, path, body, headers: headers)
  }

  /// A request with a body.
  func post(_ path: String, _ body: String) throws -> HTTPAnswer { try ask("POST", path, body) }

  /// What `/load` tells.
  struct Load: Decodable {
    let running_requests: Int
    let waiting_requests: Int
    let kv_cache_usage: Double
  }

  func load() throws -> Load { try ask("GET", "/load").json() }

  /// Waits until nothing runs or waits; whether that came.
  func becomesIdle() async throws -> Bool {
    for _ in 0..<3000 {
      let load = try load()
      if load.running_requests + load.waiting_requests == 0 { return true }
      try await Task.sleep(for: .milliseconds(10))
    }
    return false
  }

  /// Open descriptors of the process.
  var descriptorCount: Int {
    let path = "/proc/\(process.identifier)/fd"
    return (try? FileManager.default.contentsOfDirectory(atPath: path).count) ?? 0
  }

  /// Bytes of memory that are the process's own: not files, not shared.
  var privateByteCount: Int {
    let path = "/proc/\(process.identifier)/status"
    let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("RssAnon:") } ?? ""
    return (line.split(separator: " ").compactMap { Int($0) }.first ?? 0) * 1024
  }

  deinit { process.send(signal: 9) }
}
