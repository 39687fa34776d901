/// Why the bytes behind a URL could not be had.
package enum FetchError: Error, Equatable, Sendable {
  /// The text is no URL.
  case notAURL(reason: String)
  /// The scheme is none that is fetched.
  case unsupportedScheme(String)
  /// http and https URLs are switched off.
  case fetchingDisabled
  /// The host is not on the list; redirects count too.
  case domainNotAllowed(host: String)
  /// The URL carries a user name or a password.
  case credentials
  /// The host's address is private, loopback, link-local or otherwise not public.
  case addressNotAllowed(host: String)
  /// The server could not be reached or broke the protocol.
  case unreachable(host: String, reason: String)
  /// The server answered with an error.
  case status(host: String, code: Int)
  /// The body is larger than the limit.
  case tooLarge(limit: Int)
  /// The fetch took longer than the limit.
  case tooSlow(host: String, limit: Duration)
  /// One redirect more than the limit.
  case tooManyRedirects(limit: Int)
  /// A data URL that cannot be decoded.
  case badDataURL(reason: String)
  /// The task was cancelled.
  case cancelled
}

extension FetchError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notAURL(let reason):
      "this is not a URL (\(reason)); send data:image/png;base64,… or an https URL"
    case .unsupportedScheme(let scheme):
      "URLs of the scheme \(scheme) are not fetched; send data:image/png;base64,… or an https URL"
    case .fetchingDisabled:
      "images are not fetched from the network here; send them as data:image/png;base64,…, or "
        + "start the server with --allowed-media-domains"
    case .domainNotAllowed(let host):
      "images from \(host) are not allowed; send the image as data:image/png;base64,…, or add the "
        + "host to --allowed-media-domains"
    case .credentials:
      "the URL holds a user name or a password; leave them out"
    case .addressNotAllowed(let host):
      "\(host) has no public address; images are fetched from the public internet only"
    case .unreachable(let host, let reason):
      "\(host) could not be reached: \(reason)"
    case .status(let host, let code):
      "\(host) answered with status \(code) instead of the image"
    case .tooLarge(let limit):
      "the image has more than \(limit) bytes, which is the limit; make it smaller"
    case .tooSlow(let host, let limit):
      "\(host) did not deliver the image within \(limit)"
    case .tooManyRedirects(let limit):
      "the URL leads through more than \(limit) redirects; send the final URL"
    case .badDataURL(let reason):
      "the data URL cannot be decoded: \(reason); send data:image/png;base64,… with padded base64"
    case .cancelled:
      "the fetch was cancelled"
    }
  }
}
