#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

extension FeedForwardGroup {
  /// Parameters of one layer's expert matrices (gate, up and down), without the router.
  package func parameterCount(hidden: Int) -> Double {
    Double(3 * hidden) * Double(totalWidth)
  }

  /// Parameters one token passes through in one layer, without the router.
  package func activeParameterCount(hidden: Int) -> Double {
    Double(3 * hidden) * Double(activeWidth)
  }

  /// Parameters read when `tokens` tokens choose experts evenly: E(1-(1-k/E)^T) experts.
  package func touchedParameterCount(hidden: Int, tokens: Double) -> Double {
    guard isMoE else { return parameterCount(hidden: hidden) }
    let width =
      expectedExpertsTouched(expertCount: expertCount, topK: topK, tokens: tokens)
      * Double(expertWidth)
    return Double(3 * hidden) * (width + Double(sharedWidth))
  }

  /// Active over stored width: S of the report; 1 for dense layers.
  package var sparsity: Double { Double(activeWidth) / Double(totalWidth) }
}

/// Experts that at least one of `tokens` evenly routed tokens selects.
package func expectedExpertsTouched(expertCount: Int, topK: Int, tokens: Double) -> Double {
  Double(expertCount) * (1 - pow(1 - Double(topK) / Double(expertCount), tokens))
}

extension ModelArchitecture {
  /// Feed-forward FLOPs per decoded token.
  package var feedForwardFlops: Double {
    2
      * feedForward.reduce(0) {
        $0 + Double($1.layerCount) * $1.activeParameterCount(hidden: hiddenDimension)
      }
  }

  /// Stored feed-forward parameters, without routers.
  package var feedForwardParameterCount: Double {
    feedForward.reduce(0) {
      $0 + Double($1.layerCount) * $1.parameterCount(hidden: hiddenDimension)
    }
  }

  private var routerParameterCount: Double {
    feedForward.reduce(0) { $0 + Double($1.layerCount * $1.expertCount * hiddenDimension) }
  }

  private var embeddingParameterCount: Double { Double(vocabularySize * hiddenDimension) }

  /// All parameters of the language model, norms left out (they are below 0.01 %).
  package var parameterCount: Double {
    embeddingParameterCount * (hasTiedEmbeddings ? 1 : 2) + linearParameterCount
      + feedForwardParameterCount + routerParameterCount
  }

  /// Parameters one token passes through; the input embedding is a look-up and not counted.
  package var activeParameterCount: Double {
    embeddingParameterCount + linearFlops / 2 + feedForwardFlops / 2 + routerParameterCount
  }

  /// Parameters of input embedding and output head.
  package var vocabularyParameterCount: Double {
    embeddingParameterCount * (hasTiedEmbeddings ? 1 : 2)
  }

  /// The sparsest feed-forward group: what a pipeline must batch for.
  package var sparsity: Double { feedForward.map(\.sparsity).min() ?? 1 }
}
