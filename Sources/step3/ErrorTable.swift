package import CommandLineInterface
package import Tensors

// How each module's errors end the process. One extension per error enum: its exit code (the table
// of `ExitCode`) and the `code` of its JSON form.

extension FileError: CommandError {
  package var exitCode: ExitCode { .modelFiles }
  package var code: String {
    switch self {
    case .notFound: "file_not_found"
    case .notReadable: "file_not_readable"
    case .notAFile: "not_a_file"
    case .cannotMap: "cannot_map"
    }
  }
}
