/// Events that were noticed and not yet told, oldest first; its memory is kept from one batch to
/// the next.
package struct EventBacklog<Event: Sendable>: Sendable {
  private var events: [Event] = []
  private var nextIndex = 0

  /// No events.
  package init() {}

  /// Whether every event was told.
  package var isEmpty: Bool { nextIndex == events.count }

  /// Notices an event.
  package mutating func append(_ event: Event) { events.append(event) }

  /// Tells the oldest event; nil when there is none.
  package mutating func popFirst() -> Event? {
    guard !isEmpty else {
      events.removeAll(keepingCapacity: true)
      nextIndex = 0
      return nil
    }
    nextIndex += 1
    return events[nextIndex - 1]
  }
}
