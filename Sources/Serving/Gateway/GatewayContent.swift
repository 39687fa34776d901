import ClusterControl
import Inference
import JSONScanning

/// What a gateway knows: its nodes, its streams, and which node works on what.
struct GatewayContent {
  /// An attention node, as far as the gateway knows.
  struct Node {
    let node: ClusterNode
    var status: JSONValue?
    var isReady = false
    var reason = "not reached yet"
    var lastAnswer = ContinuousClock.now
    var lastPoll = ContinuousClock.now - .seconds(1)
    /// The question that is under way.
    var poll: UInt64?
    var pollBody: [UInt8] = []
    /// Whether the node was lost since that question was put: the answer may be older than that.
    var isPollOutdated = false
  }

  var nodes: [Node]
  var facts: ModelFacts?
  var streams: [String: GatewayStream] = [:]
  var legs: [Int: (leg: GatewayLeg, stream: GatewayStream)] = [:]
  var nextLeg = 0
  var isDraining = false
  var isStopped = false
  var failoverCount = 0
  /// When nodes were last looked at.
  var lastBeat = ContinuousClock.now
  private var routing = GatewayRouting()

  init(_ nodes: [ClusterNode]) { self.nodes = nodes.map { Node(node: $0) } }

  /// The node for a prompt, nil when none is ready.
  mutating func choose(for prompt: [Int]) -> Int? {
    var counts = [Int](repeating: 0, count: nodes.count)
    for (leg, _) in legs.values { counts[leg.node] += leg.contextTokenCount }
    let candidates = nodes.indices.filter { nodes[$0].isReady }
      .map { (node: $0, contextTokenCount: counts[$0]) }
    return routing.choose(prompt, among: candidates)
  }

  /// Time in which this process did not run is not the nodes' silence.
  mutating func allowForAbsence(_ now: ContinuousClock.Instant, longerThan limit: Duration) {
    let absence = now - lastBeat
    lastBeat = now
    guard absence > limit else { return }
    for index in nodes.indices { nodes[index].lastAnswer += absence }
    for stream in streams.values { stream.orphanedAt += absence }
  }

  /// Forgets a leg.
  mutating func drop(_ leg: GatewayLeg, of stream: GatewayStream) {
    stream.legs[leg.number] = nil
    legs[leg.number] = nil
  }

  /// How a choice ended that has all its tokens, but of whose end nobody told.
  func endReason(_ stream: GatewayStream, _ choice: Int) -> FinishReason {
    guard let last = stream.tokens[choice].last else { return .length }
    let ends = facts?.endOfSequenceIDs ?? []
    if !stream.request.ignoreEndOfSequence && ends.contains(last) { return .endOfSequence }
    return stream.request.stopTokenIDs.contains(last) ? .stopToken(last) : .length
  }

  /// Takes a node's answer about itself; a line for the log when it changes something.
  mutating func note(status: Int, _ index: Int) -> String? {
    let json = try? JSONValue(parsing: nodes[index].pollBody)
    guard status == 200, let json else {
      let reason =
        status == 401
        ? ClusterRoutes.refusal(json) ?? "refuses the cluster key"
        : "answers with HTTP status \(status)"
      return nodes[index].reason == reason ? nil : lose(index, reason)
    }
    nodes[index].status = json
    guard json["ready"]?.boolean == true, let found = ClusterRoutes.facts(json["facts"]) else {
      let missing = json["missing"]?.array?.compactMap(\.string) ?? []
      let reason =
        json["draining"]?.boolean == true
        ? "draining"
        : missing.isEmpty ? "loading" : "waits for \(missing.joined(separator: ", "))"
      return nodes[index].reason == reason && !nodes[index].isReady ? nil : lose(index, reason)
    }
    if let facts, facts.fingerprint != found.fingerprint {
      let reason = "has another model (\(found.fingerprint), not \(facts.fingerprint))"
      return nodes[index].reason == reason ? nil : lose(index, reason)
    }
    // The smallest limits hold for all, since any node may have to take any request.
    var common = facts ?? found
    common.contextLength = min(common.contextLength, found.contextLength)
    common.cacheCapacityTokens = min(common.cacheCapacityTokens, found.cacheCapacityTokens)
    facts = common
    guard !nodes[index].isReady else { return nil }
    nodes[index].isReady = true
    nodes[index].reason = ""
    return "\(nodes[index].node.id) takes requests"
  }

  /// Notes that a node takes no requests; the line for the log.
  mutating func lose(_ index: Int, _ reason: String) -> String {
    nodes[index].isReady = false
    nodes[index].reason = reason
    nodes[index].isPollOutdated = true
    return "\(nodes[index].node.id) takes no requests: \(reason)"
  }
}
