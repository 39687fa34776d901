// Which tokens go to which shard.

import ModelConfiguration
import Step3Model
import Tensors

extension RemoteFeedForward {
  /// Who computes for which token where experts have copies.
  func copyChoice(_ layer: Int, _ microBatch: borrowing MicroBatch) -> CopyChoice {
    guard !copies.isEmpty, context.configuration.isMixtureLayer[layer] else { return CopyChoice() }
    return CopyChoice(
      microBatch.routing, tokenCount: microBatch.tokens.count, copies: copies, turn: layer)
  }

  /// The rows that a shard must see; nil for all of them.
  func rows(
    for shard: Int, _ layer: Int, _ microBatch: borrowing MicroBatch, _ copies: CopyChoice
  ) -> [Int32]? {
    if options.dispatch == .broadcast { return nil }
    var ranges: [Range<Int>] = []
    for key in shares[layer][shard] {
      guard case .routed(let range) = key.experts else { return nil }
      ranges.append(range)
    }
    let topK = microBatch.routing.expertsPerToken
    var rows: [Int32] = []
    for token in microBatch.tokens.indices {
      let isWanted = (0..<topK).contains { choice in
        let pair = token * topK + choice
        let expert = Int(microBatch.routing.experts[pair])
        return ranges.contains { $0.contains(expert) } && copies.isComputed(pair: pair, by: shard)
      }
      if isWanted { rows.append(Int32(token)) }
    }
    return rows.count == microBatch.tokens.count ? nil : rows
  }
}
