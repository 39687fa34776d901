package import ClusterControl
package import CommandLineInterface

extension ClusterFileError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String { "bad_cluster_file" }
}

extension HandshakeRefusal: CommandError {
  package var exitCode: ExitCode { .peer }
  package var code: String { "peer_refused" }
}
