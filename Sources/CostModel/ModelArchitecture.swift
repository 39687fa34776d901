/// How one kind of attention layer multiplies; every dimension that costs bytes or FLOPs.
package enum AttentionShape: Equatable, Sendable {
  /// MFA: one key and one value head for all query heads, queries through a low rank.
  case multiMatrix(heads: Int, headDimension: Int, queryRank: Int)
  /// MLA: one compressed vector per token, absorbed into the query heads.
  case latent(
    heads: Int, queryRank: Int?, kvRank: Int, ropeDimension: Int, nopeDimension: Int,
    valueDimension: Int)
  /// GQA, MQA and plain multi-head attention.
  case grouped(heads: Int, kvHeads: Int, headDimension: Int)
  /// Lightning (linear) attention with a d x d state per head.
  case lightning(heads: Int, headDimension: Int)

  /// The family's short name, as catalogues and efficiency tables write it.
  package var family: String {
    switch self {
    case .multiMatrix: "mfa"
    case .latent: "mla"
    case .grouped: "gqa"
    case .lightning: "lightning"
    }
  }
}

/// A set of layers that share one attention shape.
package struct AttentionGroup: Equatable, Sendable {
  /// The layers of the group, and what they share.
  package let layers: [Int]
  package let shape: AttentionShape
  /// Tokens a layer looks back at most; nil where it sees everything.
  package let window: Int?
  /// Bytes per stored element of KV, or of the recurrent state.
  package let storageByteCount: Double

  /// Layers in the group.
  package var layerCount: Int { layers.count }
}

/// A set of layers that share one feed-forward shape.
package struct FeedForwardGroup: Equatable, Sendable {
  /// The layers of the group, and what they share.
  package let layers: [Int]
  /// Width of the dense block; 0 in MoE layers.
  package let denseWidth: Int
  package let expertCount: Int
  package let topK: Int
  package let expertWidth: Int
  package let sharedExpertCount: Int
  /// Width of all shared experts together.
  package let sharedWidth: Int

  /// Layers in the group.
  package var layerCount: Int { layers.count }
  /// Whether the layers are mixtures of experts.
  package var isMoE: Bool { expertCount > 0 }
  /// Width that one token passes through.
  package var activeWidth: Int { denseWidth + topK * expertWidth + sharedWidth }
  /// Width that is stored.
  package var totalWidth: Int { denseWidth + expertCount * expertWidth + sharedWidth }
}

/// Layers that share both shapes; the unit in which a pipeline is timed.
package struct LayerClass: Equatable, Sendable {
  /// How many layers, and their two shapes.
  package let layerCount: Int
  package let attention: AttentionGroup
  package let feedForward: FeedForwardGroup
}

/// Everything about a model that decides what decoding costs.
package struct ModelArchitecture: Equatable, Sendable {
  /// What the model is asked for by, and the dimensions common to all layers.
  package let name: String
  package let title: String
  package let aliases: [String]
  package let layerCount: Int
  package let hiddenDimension: Int
  package let vocabularySize: Int
  package let hasTiedEmbeddings: Bool
  /// The longest context for which costs are computed.
  package let contextLimit: Int
  /// The context the published configuration states, where shorter than the limit.
  package let trainedContext: Int?
  package let publishedParameterCount: Double?
  package let attention: [AttentionGroup]
  package let feedForward: [FeedForwardGroup]
  package let evidence: String
  package let doubts: [String]

  /// The distinct pairs of attention and feed-forward shape, with their counts.
  package var layerClasses: [LayerClass] {
    attention.flatMap { attention in
      feedForward.compactMap { feedForward in
        let common = Set(attention.layers).intersection(feedForward.layers).count
        guard common > 0 else { return nil }
        return LayerClass(layerCount: common, attention: attention, feedForward: feedForward)
      }
    }
  }

  /// Checks that the model can be asked for `context` tokens.
  package func validate(context: Int) throws(CostModelError) {
    guard context >= 1, context <= contextLimit else {
      throw .contextOutOfRange(model: name, context: Double(context), limit: contextLimit)
    }
  }
}
