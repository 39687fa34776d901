import Inference
import Synchronization

/// Engine events of one HTTP request, between the engine's thread and the request's task.
///
/// Putting never blocks. The engine is never slowed down by a reader: a mailbox that fills up means
/// a client too slow to matter, and the request is given up.
final class EventMailbox: Sendable {
  /// An event and the index of the engine request it belongs to.
  struct Item: Sendable {
    var request: Int
    var event: GenerationEvent
  }

  private let capacity: Int
  private let state = Mutex(State())

  private struct State {
    var items: [Item] = []
    var waiter: CheckedContinuation<Void, Never>?
    var isClosed = false
    var hasOverflowed = false
  }

  init(capacity: Int = 65_536) {
    self.capacity = capacity
  }

  /// Whether more came than fits.
  var hasOverflowed: Bool { state.withLock { $0.hasOverflowed } }

  /// Whether the client has left.
  var isClosed: Bool { state.withLock { $0.isClosed } }

  /// Stores an event and wakes the reader.
  func put(_ event: GenerationEvent, request: Int) {
    let waiter = state.withLock { state in
      if state.items.count >= capacity {
        state.hasOverflowed = true
      } else {
        state.items.append(Item(request: request, event: event))
      }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Ends the waiting; nothing more is of interest.
  func close() {
    let waiter = state.withLock { state in
      state.isClosed = true
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Everything that has come, waiting for something if there is nothing; empty once closed.
  func take() async -> [Item] {
    await withTaskCancellationHandler {
      await wait()
    } onCancel: {
      close()
    }
    return state.withLock { state in
      guard !state.isClosed else { return [] }
      defer { state.items = [] }
      return state.items
    }
  }

  private func wait() async {
    await withCheckedContinuation { continuation in
      let isReady = state.withLock { state in
        if !state.items.isEmpty || state.isClosed { return true }
        state.waiter = continuation
        return false
      }
      if isReady { continuation.resume() }
    }
  }
}
