package import Kernels
package import ModelConfiguration

/// What a process knows of its model when the other half lies elsewhere.
package struct FeedForwardContext: Sendable {
  /// Views of every layer's weights; only what this process computes is ever read.
  package let layers: [FeedForwardLayer]
  /// Dimensions.
  package let configuration: TextConfiguration
  /// What products round their input to.
  package let activation: ActivationType
  /// Most rows of a micro-batch.
  package let tokenLimit: Int
  /// Most micro-batches at a time.
  package let microBatchLimit: Int
  /// Kernels and threads.
  package let compute: Compute

  /// What a model is.
  package init(
    layers: [FeedForwardLayer], configuration: TextConfiguration, activation: ActivationType,
    tokenLimit: Int, microBatchLimit: Int, compute: Compute
  ) {
    self.layers = layers
    self.configuration = configuration
    self.activation = activation
    self.tokenLimit = tokenLimit
    self.microBatchLimit = microBatchLimit
    self.compute = compute
  }
}

/// A feed-forward half with a life of its own between steps: that of other processes.
package protocol FeedForwardService: AnyObject, FeedForward {
  /// A step begins; what was left of the one before is over.
  func beginStep()
  /// Looks after connections while there are no steps.
  func idle()
  /// Peers without which no step can be computed now.
  var missingPeers: [String] { get }
  /// In how many micro-batches a step of `rowCount` rows is done soonest, at most `limit`.
  func microBatchCount(rowCount: Int, limit: Int) -> Int
}

/// Makes the service, on the thread that will use it.
package typealias FeedForwardFactory =
  @Sendable (FeedForwardContext) throws -> any FeedForwardService

/// A service as the half beyond the cut.
package struct ServedFeedForward: FeedForward, ~Copyable {
  private var service: any FeedForwardService

  /// Calls `service`.
  package init(_ service: any FeedForwardService) { self.service = service }

  /// Starts a layer.
  package mutating func submit(
    _ layer: LayerIndex, _ microBatch: borrowing MicroBatch
  ) throws(FeedForwardError) {
    try service.submit(layer, microBatch)
  }

  /// Waits for a layer.
  package mutating func collect(
    _ layer: LayerIndex, into microBatch: inout MicroBatch
  ) throws(FeedForwardError) {
    try service.collect(layer, into: &microBatch)
  }

  /// Lets messages move.
  package mutating func progress() { service.progress() }
}
