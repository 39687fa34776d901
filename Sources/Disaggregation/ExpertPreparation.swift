import Synchronization

/// Tells, from any thread, that something is ready.
package final class ReadyFlag: Sendable {
  private let state = Atomic<Bool>(false)
  /// Not ready.
  package init() {}
  /// Whether it is ready.
  package var isSet: Bool { state.load(ordering: .acquiring) }
  /// It is ready.
  package func set() { state.store(true, ordering: .releasing) }
}

/// Reads the experts of a part from the checkpoint, on a thread of its own, and then sets the flag.
package typealias ExpertPreparation = @Sendable (ShardPart, ReadyFlag) -> Void
