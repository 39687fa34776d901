import Inference

/// One request that goes through the gateway: what has come of it, so that another node can go on.
final class GatewayStream {
  let request: GenerationRequest
  private let handler: @Sendable (GenerationEvent) -> Void
  /// The tokens of each choice so far.
  private(set) var tokens: [[Int]]
  private(set) var isFinished: [Bool]
  private var isPromptReported = false
  /// Parts of it that run on nodes, by their number.
  var legs: [Int: GatewayLeg] = [:]
  /// Choices that no node works on, and since when.
  var orphans: [Int] = []
  var orphanedAt = ContinuousClock.now

  init(_ request: GenerationRequest, _ handler: @escaping @Sendable (GenerationEvent) -> Void) {
    self.request = request
    self.handler = handler
    tokens = Array(repeating: [], count: request.choiceCount)
    isFinished = Array(repeating: false, count: request.choiceCount)
  }

  /// Whether all choices are over.
  var isOver: Bool { isFinished.allSatisfy { $0 } }

  /// Passes on what a leg told.
  func take(_ event: GenerationEvent, from leg: GatewayLeg) {
    switch event {
    case .promptProcessed(let report):
      guard !isPromptReported else { return }
      isPromptReported = true
      handler(.promptProcessed(report))
    case .token(var token):
      guard leg.choices.indices.contains(token.choice) else { return }
      token.choice = leg.choices[token.choice]
      guard !isFinished[token.choice] else { return }
      tokens[token.choice].append(token.id)
      leg.tokenCount += 1
      handler(.token(token))
    case .finished(let end):
      guard leg.choices.indices.contains(end.choice) else { return }
      finish(leg.choices[end.choice], end.reason)
    }
  }

  /// Ends a choice.
  func finish(_ choice: Int, _ reason: FinishReason) {
    guard !isFinished[choice] else { return }
    isFinished[choice] = true
    handler(
      .finished(
        FinishedChoice(
          choice: choice, reason: reason, generatedTokenCount: tokens[choice].count)))
  }

  /// Ends all choices that are not over.
  func finishAll(_ reason: FinishReason) {
    for choice in isFinished.indices { finish(choice, reason) }
  }

  /// What to ask of a node so that it goes on with `choices`; nil when they were over, but for the
  /// news of it.
  func request(for choices: [Int], id: String) -> GenerationRequest? {
    var part = request
    part.id = id
    guard let first = choices.first, !tokens[first].isEmpty else {
      // Nothing has come yet: the choices begin anew, all of them or one of them.
      if choices.count < request.choiceCount {
        part.choiceCount = 1
        part.seed = request.seed &+ UInt64(choices.first ?? 0)
      }
      return part
    }
    let done = tokens[first]
    part.prompt += done
    part.resumedTokenCount = request.resumedTokenCount + done.count
    part.maximumTokens = max(0, request.maximumTokens - done.count)
    part.choiceCount = 1
    part.seed = request.seed &+ UInt64(first)
    // Reported with the first prompt.
    part.promptLogprobCount = nil
    return part.maximumTokens == 0 ? nil : part
  }
}

/// A part of a stream on one node: choices that share one connection.
final class GatewayLeg {
  let number: Int
  /// The node, by its place.
  let node: Int
  /// The name of the request there.
  let wireID: String
  /// The stream's choices, by the leg's numbers.
  let choices: [Int]
  let promptTokenCount: Int
  var tokenCount = 0
  var call: UInt64 = 0
  /// Bytes behind the last whole line.
  var rest: [UInt8] = []

  init(number: Int, node: Int, wireID: String, choices: [Int], promptTokenCount: Int) {
    self.number = number
    self.node = node
    self.wireID = wireID
    self.choices = choices
    self.promptTokenCount = promptTokenCount
  }

  /// Context tokens that the node works through for it.
  var contextTokenCount: Int { promptTokenCount * choices.count + tokenCount }

  /// Takes bytes of the answer and gives its whole lines.
  func lines(_ bytes: [UInt8]) -> [[UInt8]] {
    rest += bytes
    guard let last = rest.lastIndex(of: 0x0A) else { return [] }
    let lines = rest[..<last].split(separator: 0x0A).map { Array($0) }
    rest.removeSubrange(...last)
    return lines
  }
}
