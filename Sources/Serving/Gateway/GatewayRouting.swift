/// Chooses the attention node for a request: the one that has the fewest context tokens to work
/// through, where a prompt that begins like an earlier one costs nothing on the node that had that.
struct GatewayRouting: Sendable {
  /// Tokens of a prompt's beginning that two prompts must share.
  static let prefixLength = 64
  private static let memoryLimit = 8192

  private var places: [Int: Int] = [:]
  private var order: [Int] = []

  init() {}

  /// The best of `candidates` (node, its context tokens) for `prompt`; nil when there is none.
  mutating func choose(
    _ prompt: [Int], among candidates: [(node: Int, contextTokenCount: Int)]
  ) -> Int? {
    let key = Self.key(prompt)
    let known = places[key]
    let best = candidates.min { left, right in
      let a = left.contextTokenCount + (left.node == known ? 0 : prompt.count)
      let b = right.contextTokenCount + (right.node == known ? 0 : prompt.count)
      return (a, left.node) < (b, right.node)
    }
    guard let best else { return nil }
    if places.updateValue(best.node, forKey: key) == nil {
      order.append(key)
      if order.count > Self.memoryLimit { places[order.removeFirst()] = nil }
    }
    return best.node
  }

  private static func key(_ prompt: [Int]) -> Int {
    var hasher = Hasher()
    for token in prompt.prefix(prefixLength) { hasher.combine(token) }
    return hasher.finalize()
  }
}
