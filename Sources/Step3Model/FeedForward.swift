/// The index of a decoder layer.
package struct LayerIndex: Hashable, Sendable {
  /// 0 for the first layer.
  package let value: Int
  /// Wraps an index.
  package init(_ value: Int) { self.value = value }
}

/// Why the feed-forward half of a layer could not be computed.
package enum FeedForwardError: Error, Equatable, Sendable {
  /// No answer came in time.
  case timedOut(layer: Int, microBatch: Int)
  /// The peer that holds experts of this layer is gone.
  case peerLost(layer: Int, peer: String)
  /// A peer cannot compute this layer, and says why.
  case refused(layer: Int, peer: String, reason: String)
  /// There is no memory to send from or to receive into.
  case outOfSlots(reason: String)
}

/// The half of every decoder layer that lies beyond the attention/FFN cut.
///
/// `submit` and `collect` come in pairs, one pair per (layer, micro-batch); pairs of different
/// micro-batches may overlap, pairs of one micro-batch may not.
package protocol FeedForward: ~Copyable {
  /// Starts layer `layer` for one micro-batch; reads `normed` and `routing`, keeps no reference.
  mutating func submit(
    _ layer: LayerIndex, _ microBatch: borrowing MicroBatch) throws(FeedForwardError)
  /// Waits for the matching `submit`; writes `feedForwardOutput`, [T, D].
  mutating func collect(
    _ layer: LayerIndex, into microBatch: inout MicroBatch) throws(FeedForwardError)
  /// Lets messages move, where there are any; called between the parts of the attention half.
  mutating func progress()
}

extension FeedForward where Self: ~Copyable {
  /// Nothing moves inside one process.
  package mutating func progress() {}
}
