import Step3Model
import Tensors

/// Which copy of an expert computes for a token, where several shards hold one: they take turns, so
/// that each gets an equal number of a micro-batch's tokens.
struct CopyChoice {
  /// By (token, choice): the shard that computes; -1 where an expert has one holder.
  private var shards: [Int32] = []

  /// Nothing to choose.
  init() {}

  /// The choice for the tokens of a micro-batch; `turn` says who begins, so that small
  /// micro-batches of different layers go to different copies.
  init(
    _ routing: borrowing Routing, tokenCount: Int, copies: [Int: [Int]], turn: Int
  ) {
    if copies.isEmpty { return }
    var turns: [Int: Int] = [:]
    for pair in 0..<tokenCount * routing.expertsPerToken {
      let expert = Int(routing.experts[pair])
      guard let holders = copies[expert] else {
        shards.append(-1)
        continue
      }
      let next = turns[expert, default: turn]
      turns[expert] = next + 1
      shards.append(Int32(holders[next % holders.count]))
    }
  }

  /// Whether a shard, which holds the pair's expert or not, is not spared it.
  func isComputed(pair: Int, by shard: Int) -> Bool {
    shards.isEmpty || shards[pair] < 0 || shards[pair] == Int32(shard)
  }

  /// The shard that computes a pair; nil where its expert has one holder.
  func shard(pair: Int) -> Int? {
    shards.isEmpty || shards[pair] < 0 ? nil : Int(shards[pair])
  }
}
