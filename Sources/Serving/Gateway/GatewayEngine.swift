package import ClusterControl
import Foundation
package import Inference
import JSONScanning
import Synchronization

/// An engine that has others do the work: the attention nodes of a cluster, behind one address.
///
/// It holds no weights. A request goes to the node that has the fewest context tokens; when its
/// node dies, another one goes on with the prompt and the tokens so far, which gives the same
/// tokens, for sampling depends on logits, seed and position alone.
package final class GatewayEngine: GenerationEngine {
  private let key: [UInt8]
  private let timeouts: ClusterTimeouts
  private let client: HTTPClientLoop
  private let log: @Sendable (String) -> Void
  private let content: Mutex<GatewayContent>
  /// Between two looks at the nodes.
  private static let pause = Duration.milliseconds(50)

  /// A gateway to the attention nodes of `file`; `log` gets one line per thing worth telling.
  package init(
    _ file: ClusterFile, log: @escaping @Sendable (String) -> Void
  ) throws(HTTPServerError) {
    key = file.key
    timeouts = file.timeouts
    client = try HTTPClientLoop()
    self.log = log
    content = Mutex(GatewayContent(file.nodes(.attention)))
    let thread = Thread { [weak self] in
      while self?.beat() == true { Thread.sleep(forTimeInterval: Self.pause / .seconds(1)) }
    }
    thread.name = "gateway"
    thread.start()
  }

  private func locked<R: Sendable>(_ body: (inout GatewayContent) -> R) -> R {
    content.withLock { body(&$0) }
  }

  // MARK: GenerationEngine

  /// Facts of the nodes' model, nil until one has told.
  package var model: ModelFacts? { locked { $0.facts } }

  /// Ready once a node has told what the model is; `peers` says whether there are nodes now.
  package var state: EngineState {
    locked { content in
      if content.isStopped { return .stopped(reason: "stopped") }
      if content.isDraining { return .draining }
      if content.facts != nil { return .ready }
      return .loading(LoadProgress(loadedByteCount: 0, totalByteCount: 0, seconds: 0))
    }
  }

  /// What the nodes do, together.
  package var load: EngineLoad {
    locked { content in
      var load = EngineLoad()
      for node in content.nodes where node.isReady {
        load.runningRequestCount += node.status?["running"]?.integer ?? 0
        load.waitingRequestCount += node.status?["waiting"]?.integer ?? 0
        load.cacheUsage = max(load.cacheUsage, node.status?["cache"]?.number ?? 0)
      }
      return load
    }
  }

  /// The attention nodes.
  package var peers: [EnginePeer] {
    locked { content in
      let isAlone = content.nodes.count { $0.isReady } == 0
      return content.nodes.map {
        EnginePeer(
          id: $0.node.id, role: "attention", isUp: $0.isReady, isNeeded: isAlone,
          reason: $0.isReady ? "" : $0.reason)
      }
    }
  }

  /// Requests that are not over.
  package var openRequestCount: Int { locked { $0.streams.count } }

  /// Whether every node that has told of itself takes images; false when none has.
  package var takesImages: Bool {
    locked { content in
      let known = content.nodes.compactMap(\.status?["images"]?.boolean)
      return !known.isEmpty && known.allSatisfy { $0 }
    }
  }

  /// How often a stream has gone on at another node.
  package var failoverCount: Int? { locked { $0.failoverCount } }

  /// Sends a request to a node.
  package func submit(
    _ request: GenerationRequest, onEvent: @escaping @Sendable (GenerationEvent) -> Void
  ) throws(GenerationFailure) {
    let failure: GenerationFailure? = locked { content in
      if content.isStopped { return .engineStopped }
      if content.isDraining { return .draining }
      guard let facts = content.facts, content.nodes.contains(where: \.isReady) else {
        return .peerLost(name: content.nodes.map(\.node.id).joined(separator: ", "))
      }
      if let failure = request.failure(facts) { return failure }
      guard content.streams[request.id] == nil else { return .duplicateID }
      let stream = GatewayStream(request, onEvent)
      content.streams[request.id] = stream
      place(stream, Array(0..<request.choiceCount), &content)
      return nil
    }
    if let failure { throw failure }
  }

  /// Ends a request.
  package func cancel(_ id: String) {
    locked { content in
      guard let stream = content.streams.removeValue(forKey: id) else { return }
      for leg in stream.legs.values {
        client.cancel(leg.call)
        content.legs[leg.number] = nil
      }
      stream.finishAll(.aborted)
    }
  }

  /// Ends one choice of a request.
  package func cancel(_ id: String, choice: Int) {
    locked { content in
      guard let stream = content.streams[id], stream.isFinished.indices.contains(choice) else {
        return
      }
      stream.orphans.removeAll { $0 == choice }
      for leg in stream.legs.values {
        guard let local = leg.choices.firstIndex(of: choice) else { continue }
        let json: JSONValue = ["id": .string(leg.wireID), "choice": .integer(local)]
        let node = content.nodes[leg.node].node
        _ = client.start(signed("POST", ClusterRoutes.cancelPath, json.bytes, node)) { _ in }
      }
      stream.finish(choice, .aborted)
      if stream.isOver { close(stream, &content) }
    }
  }

  /// Takes nothing new from now on.
  package func drain() { locked { $0.isDraining = true } }

  /// Ends everything.
  package func stop() {
    locked { content in
      content.isStopped = true
      for stream in content.streams.values { stream.finishAll(.aborted) }
      content.streams = [:]
      content.legs = [:]
    }
    client.stop()
  }

  // MARK: Streams

  /// Has a node work on choices of a stream, or keeps them until there is one.
  private func place(_ stream: GatewayStream, _ choices: [Int], _ content: inout GatewayContent) {
    let prompt = stream.request.prompt
    guard let node = content.choose(for: prompt) else {
      if stream.orphans.isEmpty { stream.orphanedAt = .now }
      stream.orphans += choices
      return
    }
    content.nextLeg += 1
    let number = content.nextLeg
    let wireID = "\(stream.request.id)#\(number)"
    guard let part = stream.request(for: choices, id: wireID) else {
      for choice in choices { stream.finish(choice, content.endReason(stream, choice)) }
      if stream.isOver { close(stream, &content) }
      return
    }
    let leg = GatewayLeg(
      number: number, node: node, wireID: wireID, choices: choices,
      promptTokenCount: part.prompt.count)
    stream.legs[number] = leg
    content.legs[number] = (leg, stream)
    let body = ClusterRequestCodec.json(part).bytes
    leg.call = client.start(
      signed("POST", ClusterRoutes.generatePath, body, content.nodes[node].node)
    ) { [weak self] event in self?.take(event, leg: number) }
  }

  /// Takes news of a leg, on the client's thread.
  private func take(_ event: HTTPClientEvent, leg number: Int) {
    locked { content in
      guard let (leg, stream) = content.legs[number] else { return }
      switch event {
      case .body(let bytes):
        for line in leg.lines(bytes) {
          guard let event = ClusterEventCodec.event(line) else { continue }
          // A node that ends what nobody asked it to end is leaving.
          if case .finished(let end) = event, end.reason == .aborted { continue }
          if case .finished(let end) = event, case .failed(.engineStopped) = end.reason { continue }
          stream.take(event, from: leg)
        }
      case .end(let status):
        content.drop(leg, of: stream)
        let failure: GenerationFailure? =
          switch status {
          case 200: nil
          // No other node would have it either.
          case 400, 413:
            .refusedByNode(
              reason: status == 400
                ? "it is not a request of its release"
                : "with its images it is larger than the node's --max-body-size")
          default: ClusterEventCodec.failure(try? JSONValue(parsing: leg.rest))
          }
        goOn(stream, leg, failure, &content)
      case .failed:
        content.drop(leg, of: stream)
        goOn(stream, leg, nil, &content)
      }
      if stream.isOver { close(stream, &content) }
    }
  }

  /// Finds another node for what a leg left open, or passes on why that is no use.
  private func goOn(
    _ stream: GatewayStream, _ leg: GatewayLeg, _ failure: GenerationFailure?,
    _ content: inout GatewayContent, _ reason: String = "the connection broke"
  ) {
    let open = leg.choices.filter { !stream.isFinished[$0] }
    guard !open.isEmpty, content.streams[stream.request.id] != nil else { return }
    switch failure {
    case .loading, .draining, .engineStopped, .duplicateID, nil:
      // Nothing goes there again before the node has said anew that it is ready.
      let reason = failure.map { "\($0)" } ?? reason
      _ = content.lose(leg.node, reason)
      log("\(stream.request.id) goes on without \(content.nodes[leg.node].node.id): \(reason)")
    case .some(let failure):
      for choice in open { stream.finish(choice, .failed(failure)) }
      return
    }
    content.failoverCount += 1
    replace(stream, open, &content)
  }

  /// Choices that have tokens go on one by one; those that have none begin anew together.
  private func replace(
    _ stream: GatewayStream, _ open: [Int], _ content: inout GatewayContent
  ) {
    let begun = open.filter { !stream.tokens[$0].isEmpty }
    let fresh = open.filter { stream.tokens[$0].isEmpty }
    if fresh.count == stream.request.choiceCount {
      place(stream, fresh, &content)
    } else {
      for choice in fresh { place(stream, [choice], &content) }
    }
    for choice in begun { place(stream, [choice], &content) }
  }

  private func close(_ stream: GatewayStream, _ content: inout GatewayContent) {
    content.streams[stream.request.id] = nil
    for leg in stream.legs.values {
      client.cancel(leg.call)
      content.legs[leg.number] = nil
    }
    stream.legs = [:]
  }

  // MARK: Nodes

  private func signed(
    _ method: String, _ path: String, _ body: [UInt8], _ node: ClusterNode
  ) -> HTTPClientRequest {
    let signature = RequestSignature.sign(
      key: key, method: method, path: path, body: body, seconds: WallClock.seconds)
    return HTTPClientRequest(
      host: node.host, port: node.port, method: method, path: path,
      headers: [HTTPField(RequestSignature.header, signature)], body: body)
  }

  /// Asks every node how it is, gives up those that are silent, and finds nodes for orphans; false
  /// when the engine is stopped.
  private func beat() -> Bool {
    locked { content in
      guard !content.isStopped else { return false }
      let now = ContinuousClock.now
      content.allowForAbsence(now, longerThan: max(timeouts.heartbeat, Self.pause * 4))
      for index in content.nodes.indices {
        if content.nodes[index].poll == nil,
          now - content.nodes[index].lastPoll >= timeouts.heartbeat
        {
          ask(index, now, &content)
        }
        if now - content.nodes[index].lastAnswer > timeouts.dead { giveUp(index, &content) }
      }
      for stream in Array(content.streams.values) where !stream.orphans.isEmpty {
        tend(stream, now, &content)
      }
      return true
    }
  }

  private func ask(
    _ index: Int, _ now: ContinuousClock.Instant, _ content: inout GatewayContent
  ) {
    content.nodes[index].lastPoll = now
    content.nodes[index].pollBody = []
    content.nodes[index].isPollOutdated = false
    content.nodes[index].poll = client.start(
      signed("GET", ClusterRoutes.statusPath, [], content.nodes[index].node)
    ) { [weak self] event in self?.takeStatus(event, index) }
  }

  private func takeStatus(_ event: HTTPClientEvent, _ index: Int) {
    let news: String? = locked { content in
      switch event {
      case .body(let bytes):
        content.nodes[index].pollBody += bytes
        return nil
      case .end(let status):
        content.nodes[index].poll = nil
        content.nodes[index].lastAnswer = .now
        guard !content.nodes[index].isPollOutdated else { return nil }
        return content.note(status: status, index)
      case .failed:
        content.nodes[index].poll = nil
        return content.nodes[index].isReady ? content.lose(index, "not reachable") : nil
      }
    }
    if let news { log(news) }
  }

  /// Takes everything from a node that has not answered for too long.
  private func giveUp(_ index: Int, _ content: inout GatewayContent) {
    if let poll = content.nodes[index].poll {
      client.cancel(poll)
      content.nodes[index].poll = nil
    }
    content.nodes[index].lastAnswer = .now
    let reason = "silent for \(timeouts.dead)"
    if content.nodes[index].isReady { log(content.lose(index, reason)) }
    for (leg, stream) in Array(content.legs.values) where leg.node == index {
      client.cancel(leg.call)
      content.drop(leg, of: stream)
      goOn(stream, leg, nil, &content, reason)
      if stream.isOver { close(stream, &content) }
    }
  }

  private func tend(
    _ stream: GatewayStream, _ now: ContinuousClock.Instant, _ content: inout GatewayContent
  ) {
    let orphans = stream.orphans
    if content.nodes.contains(where: \.isReady) {
      stream.orphans = []
      replace(stream, orphans, &content)
    } else if now - stream.orphanedAt > max(timeouts.hold, .seconds(5)) {
      stream.orphans = []
      let names = content.nodes.map(\.node.id).joined(separator: ", ")
      for choice in orphans { stream.finish(choice, .failed(.peerLost(name: names))) }
    }
    if stream.isOver { close(stream, &content) }
  }
}
