package import ClusterControl
package import CommandLineInterface
package import Disaggregation

extension ClusterFileError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String { "bad_cluster_file" }
}

extension HandshakeRefusal: CommandError {
  package var exitCode: ExitCode { .peer }
  package var code: String { "peer_refused" }
}

extension TransportError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .cannotListen: .bind
    case .badAddress: .usage
    case .outOfMemory, .cannotRegister: .memory
    case .unavailable: .failed
    case .noSuchLink: .peer
    }
  }

  package var code: String {
    switch self {
    case .cannotListen: "bind_failed"
    case .badAddress: "bad_address"
    case .outOfMemory, .cannotRegister: "out_of_memory"
    case .unavailable: "no_transport"
    case .noSuchLink: "peer_lost"
    }
  }
}
