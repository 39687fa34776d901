import JSONScanning
import Synchronization

/// Finished responses, kept for a while: the least recently used go first, and all go in time.
final class ResponseStore: Sendable {
  /// A response with the conversation that led to it.
  struct Entry: Sendable {
    var response: JSONValue
    /// Messages in the template's form, the answer included.
    var conversation: [JSONValue]
  }

  private let capacity: Int
  private let lifetime: Duration
  private let state = Mutex(State())

  private struct State {
    var entries: [String: (entry: Entry, stored: ContinuousClock.Instant, use: Int)] = [:]
    var uses = 0
    var running: Set<String> = []
  }

  init(capacity: Int, seconds: Double) {
    self.capacity = capacity
    lifetime = .seconds(seconds)
  }

  /// Notes that a response is being made.
  func begin(_ id: String) {
    state.withLock { _ = $0.running.insert(id) }
  }

  /// Notes that it is no longer.
  func end(_ id: String) {
    state.withLock { _ = $0.running.remove(id) }
  }

  /// Whether a response is being made.
  func isRunning(_ id: String) -> Bool {
    state.withLock { $0.running.contains(id) }
  }

  func store(_ entry: Entry, id: String) {
    guard capacity > 0 else { return }
    state.withLock { state in
      state.uses += 1
      state.entries[id] = (entry, .now, state.uses)
      guard state.entries.count > capacity else { return }
      if let oldest = state.entries.min(by: { $0.value.use < $1.value.use }) {
        state.entries[oldest.key] = nil
      }
    }
  }

  func entry(_ id: String) -> Entry? {
    state.withLock { state in
      guard let found = state.entries[id] else { return nil }
      guard ContinuousClock.now - found.stored < lifetime else {
        state.entries[id] = nil
        return nil
      }
      state.uses += 1
      state.entries[id]?.use = state.uses
      return found.entry
    }
  }

  /// Forgets a response; whether it was there.
  func remove(_ id: String) -> Bool {
    state.withLock { $0.entries.removeValue(forKey: id) != nil }
  }
}
