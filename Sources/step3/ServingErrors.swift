package import CommandLineInterface
package import Serving

extension HTTPServerError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .bindFailed: .bind
    case .certificateUnusable: .usage
    case .noEventLoop: .failed
    }
  }

  package var code: String {
    switch self {
    case .bindFailed: "bind_failed"
    case .certificateUnusable: "bad_certificate"
    case .noEventLoop: "no_event_loop"
    }
  }
}
