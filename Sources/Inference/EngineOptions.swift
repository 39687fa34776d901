package import Kernels
package import Tensors

/// Every choice that is made when a model is loaded; printed at start-up.
package struct EngineOptions: Sendable, Equatable {
  /// Which kernels to run.
  package var kernels = KernelChoice.auto
  /// Worker threads; nil takes every core that the process may use.
  package var threads: Int?
  /// Precision of activations; nil decides by the checkpoint (see `resolvedActivation`).
  package var activation: ActivationType?
  /// Element type of the KV cache; nil follows the activations.
  package var cacheType: KVElementType?
  /// Longest context; nil takes the model's.
  package var contextLength: Int?
  /// Positions per block of the KV cache.
  package var blockSize = 32
  /// Most sequences in one step.
  package var sequenceLimit = 64
  /// Most rows in one step: the size of a prefill chunk.
  package var batchedTokenLimit = 512
  /// Micro-batches per step, so that two halves of the network on different machines work at the
  /// same time; nil lets their measured times decide.
  package var microBatchCount: Int? = 1
  /// The most micro-batches that are chosen.
  package static let microBatchLimit = 8
  /// Bytes for the KV cache; nil takes what one full context and a share of free memory need.
  package var cacheByteCount: Int?
  /// Blocks of the KV cache, where the caller knows how many it needs.
  package var cacheBlockCount: Int?
  /// Whether prompts share cached blocks.
  package var sharesPrefixes = true
  /// Whether weights are locked in memory before the first step.
  package var locksWeights = false
  /// Whether experts are read from the file as the router chooses them, so that the weights may be
  /// larger than the memory.
  package var streamsExperts = false
  /// Bytes of image features that are kept for images that come again.
  package var featureCacheByteCount = 256 << 20
  /// Requests that may wait.
  package var queuedRequestLimit = 1024
  /// Prompt tokens that may wait.
  package var queuedTokenLimit = Int.max
  /// How much later a request of priority p + 1 is treated than one of priority p; nil serves first
  /// come, first served.
  package var handicapPerPriority: Duration?

  /// The defaults.
  package init() {}

  /// Most rows of each micro-batch: the i-th is in use only where rows are cut in more than i.
  package var microBatchTokenLimits: [Int] {
    let count = max(1, microBatchCount ?? Self.microBatchLimit)
    return (0..<count).map { index in
      // A fixed number of micro-batches still is one for a step of one row.
      max(1, (batchedTokenLimit + index) / (index + 1))
    }
  }

  /// Checkpoints smaller than this compute with Float32-grade activations by default.
  ///
  /// Rounding activations to BF16 is what makes prefill of a large model fast, and costs accuracy.
  /// A small model is fast anyway, so it gets the accuracy.
  package static let smallCheckpointByteCount = 1 << 30

  /// The precision of activations for a checkpoint of that size.
  package func resolvedActivation(weightByteCount: Int) -> ActivationType {
    activation ?? (weightByteCount < Self.smallCheckpointByteCount ? .float32 : .bfloat16)
  }
}
