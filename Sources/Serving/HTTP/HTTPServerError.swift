/// Why a server could not be started.
package enum HTTPServerError: Error, Equatable, Sendable {
  /// The address is taken, refused or unknown; `code` is the system's error number.
  case bindFailed(host: String, port: Int, code: Int32)
  /// Certificate and key cannot be read or do not belong together.
  case certificateUnusable(certificates: String, key: String)
  /// The system gave no event loop.
  case noEventLoop
}

extension HTTPServerError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .bindFailed(let host, let port, let code):
      "cannot listen on \(host):\(port) (system error \(code)); another program may hold the "
        + "port: choose another one with --port"
    case .certificateUnusable(let certificates, let key):
      "the certificate chain \(certificates) and the key \(key) cannot be used together; both must "
        + "be PEM files, and the key must belong to the first certificate"
    case .noEventLoop: "the system gave no event loop; check the limit of open files"
    }
  }
}
