import Kernels
import ModelConfiguration
package import Tensors

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Which experts each token of a micro-batch goes to, and with which weights.
package struct Routing: ~Copyable, Sendable {
  /// K, experts per token.
  package let expertsPerToken: Int
  /// Chosen experts, largest weight first, [T, K].
  package var experts: Buffer<Int32>
  /// Their weights, [T, K].
  package var weights: Buffer<Float>

  /// Room for `tokenLimit` tokens.
  package init(tokenLimit: Int, expertsPerToken: Int) {
    self.expertsPerToken = expertsPerToken
    experts = Buffer(count: tokenLimit * expertsPerToken)
    weights = Buffer(count: tokenLimit * expertsPerToken)
  }
}

extension TextDecoder {
  /// Chooses experts: softmax over all E logits, then the K largest.
  ///
  /// The weights are not rescaled unless the configuration says so: in the real model the three
  /// sum to less than 1. On a tie the lower expert index wins.
  ///
  /// - Shape: logits [T, E] → experts, weights [T, K].
  /// - Precision: logits from Float32 activations, softmax in Float32 in expert order.
  func route(_ router: WeightMatrix, layer: Int, _ batch: inout MicroBatch) {
    let tokenCount = batch.tokens.count
    compute.prepare(
      &batch.routerInput, from: batch.normed, rowCount: tokenCount,
      columns: configuration.hiddenSize, for: router.formats)
    compute.linear(router, batch.routerInput, into: &batch.routerLogits)
    for token in 0..<tokenCount {
      select(token, of: &batch.routerLogits, into: &batch.routing)
    }
    for choice in 0..<tokenCount * configuration.expertsPerToken {
      let expert = Int(batch.routing.experts[choice])
      batch.expertTokenCounts[layer * configuration.expertCount + expert] += 1
    }
  }

  private func select(
    _ token: Int, of logits: inout Buffer<Float>, into routing: inout Routing
  ) {
    let expertCount = configuration.expertCount
    let row = token * expertCount
    var largest = -Float.infinity
    for expert in 0..<expertCount { largest = max(largest, logits[row + expert]) }
    var sum: Float = 0
    for expert in 0..<expertCount {
      let value = expf(logits[row + expert] - largest)
      logits[row + expert] = value
      sum += value
    }
    var kept: Float = 0
    for choice in 0..<routing.expertsPerToken {
      var best = 0
      for expert in 1..<expertCount where logits[row + expert] > logits[row + best] {
        best = expert
      }
      let weight = logits[row + best] / sum
      logits[row + best] = -1
      kept += weight
      routing.experts[token * routing.expertsPerToken + choice] = Int32(best)
      routing.weights[token * routing.expertsPerToken + choice] = weight
    }
    guard configuration.normalizesExpertWeights else { return }
    for choice in 0..<routing.expertsPerToken {
      routing.weights[token * routing.expertsPerToken + choice] /= kept
    }
  }
}
