import CEvent

/// What other threads wake an event loop by.
///
/// It stays open as long as anybody holds it. A number that were closed when the loop ends would be
/// the next socket's, and whoever came late would write eight bytes into somebody's connection.
final class WakeDescriptor: Sendable {
  /// The descriptor, for the loop to wait for.
  let number: Int32

  init() throws(HTTPServerError) {
    number = cevent_wake_descriptor()
    guard number >= 0 else { throw .noEventLoop }
  }

  deinit {
    if number >= 0 { close(number) }
  }

  /// Wakes the loop, from any thread; wakes nobody once the loop has ended.
  func wake() { cevent_wake(number) }

  /// Told by the loop: it is awake.
  func clear() { cevent_clear_wake(number) }
}
