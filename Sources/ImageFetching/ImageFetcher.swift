import Dispatch
import Synchronization

/// Fetches what a URL in a request names, within a policy.
///
/// A client must not be able to make the server speak to the network behind it: hosts are on a
/// list, and the address of every connection is looked at when its socket is made, so neither
/// redirects nor changing DNS answers lead anywhere else.
package struct ImageFetcher: Sendable {
  /// What may be fetched.
  package let policy: FetchPolicy

  /// A fetcher that obeys `policy`.
  package init(policy: FetchPolicy = FetchPolicy()) { self.policy = policy }

  /// The bytes behind a data, http or https URL; suspends while the network is waited for.
  package func bytes(of url: String) async throws(FetchError) -> [UInt8] {
    if DataURL.matches(url.utf8.span) {
      return try DataURL.decode(url.utf8.span, byteLimit: policy.byteLimit)
    }
    let stop = StopFlag()
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        // Transfers block: they have a thread of Dispatch's, not one of the tasks'.
        DispatchQueue.global().async {
          continuation.resume(
            returning: Result { () throws(FetchError) in
              try self.fetch(url, stop)
            })
        }
      }
    } onCancel: {
      stop.raise()
    }
    return try result.get()
  }

  /// The same, blocking the calling thread.
  package func bytesBlocking(of url: String) throws(FetchError) -> [UInt8] {
    if DataURL.matches(url.utf8.span) {
      return try DataURL.decode(url.utf8.span, byteLimit: policy.byteLimit)
    }
    return try fetch(url, StopFlag())
  }

  private func fetch(_ text: String, _ stop: StopFlag) throws(FetchError) -> [UInt8] {
    let deadline = ContinuousClock.now + policy.timeLimit
    var text = text
    for _ in 0...policy.redirectLimit {
      let url = try RemoteURL(text)
      guard ["http", "https"].contains(url.scheme) else { throw .unsupportedScheme(url.scheme) }
      if policy.allowedDomains.isEmpty { throw .fetchingDisabled }
      if url.hasCredentials { throw .credentials }
      guard policy.allows(host: url.host) else { throw .domainNotAllowed(host: url.host) }
      let transfer = Transfer(
        policy: policy, host: url.host, remaining: deadline - ContinuousClock.now, stop: stop)
      switch try transfer.run(url) {
      case .body(let bytes): return bytes
      case .redirect(let target): text = target
      }
    }
    throw .tooManyRedirects(limit: policy.redirectLimit)
  }
}

/// Tells a transfer on another thread to end.
final class StopFlag: Sendable {
  private let raised = Atomic(false)

  var isRaised: Bool { raised.load(ordering: .relaxed) }

  func raise() { raised.store(true, ordering: .relaxed) }
}
