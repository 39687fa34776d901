import CUCX
import Disaggregation
import Synchronization

/// Wakes a transport's thread by a descriptor of its own.
final class UCXWaker: TransportWaker {
  /// Readable once somebody has rung.
  let descriptor: Int32
  private let isRinging = Atomic<Bool>(false)

  init() throws(TransportError) {
    descriptor = cucx_waker()
    guard descriptor >= 0 else { throw .unavailable(reason: "no event descriptor") }
  }

  deinit { close(descriptor) }

  func wake() {
    if !isRinging.exchange(true, ordering: .acquiringAndReleasing) { cucx_wake(descriptor) }
  }

  /// Whether somebody has rung since this was asked last.
  func takeRing() -> Bool {
    guard isRinging.load(ordering: .acquiring) else { return false }
    _ = cucx_clear(descriptor)
    isRinging.store(false, ordering: .releasing)
    return true
  }

  /// Sleeps until a descriptor has news, somebody rings, or the time is over.
  func sleep(_ limit: Duration, _ descriptors: [Int32]) {
    waitForNews([descriptor] + descriptors, limit)
  }
}
