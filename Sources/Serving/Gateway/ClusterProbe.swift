package import ClusterControl
package import JSONScanning
import Synchronization

/// Asks the HTTP side of a cluster's nodes how they are, with the cluster key.
package final class ClusterProbe: Sendable {
  private let client: HTTPClientLoop
  private let key: [UInt8]

  /// A probe for nodes of `file`.
  package init(_ file: ClusterFile) throws(HTTPServerError) {
    client = try HTTPClientLoop()
    key = file.key
  }

  deinit { client.stop() }

  /// What a node answers, and with which status; nil when there is no answer within `limit`.
  ///
  /// Attention nodes are asked for their status, a gateway for its health, unless `path` says
  /// something else.
  package func ask(
    _ node: ClusterNode, path: String? = nil, within limit: Duration = .seconds(2)
  ) async -> (status: Int, json: JSONValue)? {
    let path = path ?? (node.role == .gateway ? "/health" : ClusterRoutes.statusPath)
    return await send("GET", node, path, [], limit)
  }

  /// Gives an attention node another expert map; what it answers.
  package func give(
    _ map: JSONValue, to node: ClusterNode
  ) async -> (status: Int, json: JSONValue)? {
    await send("POST", node, ClusterRoutes.mapPath, map.bytes, .seconds(2))
  }

  private func send(
    _ method: String, _ node: ClusterNode, _ path: String, _ body: [UInt8], _ limit: Duration
  ) async -> (status: Int, json: JSONValue)? {
    // The signature covers the path without the query.
    let signature = RequestSignature.sign(
      key: key, method: method, path: String(path.prefix { $0 != "?" }), body: body,
      seconds: WallClock.seconds)
    let request = HTTPClientRequest(
      host: node.host, port: node.port, method: method, path: path,
      headers: [HTTPField(RequestSignature.header, signature)], body: body)
    let box = AnswerBox()
    let number = client.start(request) { box.take($0) }
    let timer = Task {
      try await Task.sleep(for: limit)
      box.give(nil)
    }
    let answer = await box.wait()
    timer.cancel()
    client.cancel(number)
    return answer
  }
}

/// An answer on its way to whoever waits for it.
private final class AnswerBox: Sendable {
  typealias Answer = (status: Int, json: JSONValue)

  private struct State {
    var body: [UInt8] = []
    var answer: Answer?
    var isOver = false
    var waiter: CheckedContinuation<Answer?, Never>?
  }

  private let state = Mutex(State())

  func take(_ event: HTTPClientEvent) {
    switch event {
    case .body(let bytes): state.withLock { $0.body += bytes }
    case .end(let status):
      let body = state.withLock { $0.body }
      give((status, (try? JSONValue(parsing: body)) ?? .null))
    case .failed: give(nil)
    }
  }

  func give(_ answer: Answer?) {
    let waiter = state.withLock { state -> CheckedContinuation<Answer?, Never>? in
      guard !state.isOver else { return nil }
      state.isOver = true
      state.answer = answer
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume(returning: answer)
  }

  func wait() async -> Answer? {
    await withCheckedContinuation { continuation in
      let isOver = state.withLock { state in
        if !state.isOver { state.waiter = continuation }
        return state.isOver
      }
      if isOver { continuation.resume(returning: state.withLock { $0.answer }) }
    }
  }
}
