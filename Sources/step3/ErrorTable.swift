package import CommandLineInterface
package import Tensors
package import Tokenization

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
    case .cannotLock: "cannot_lock"
    }
  }
}

extension TokenizerError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .unknownID: .usage
    case .matchingFailed: .failed
    default: .modelFiles
    }
  }

  package var code: String {
    switch self {
    case .fileMissing: "file_not_found"
    case .fileUnreadable: "file_not_readable"
    case .unknownID: "unknown_token_id"
    case .tokenMissing: "token_missing"
    case .matchingFailed: "tokenization_failed"
    default: "bad_tokenizer"
    }
  }
}

extension TemplateError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .syntax, .unsupported, .badFile: .modelFiles
    // Everything else comes from messages that the template does not expect.
    default: .usage
    }
  }

  package var code: String {
    switch self {
    case .syntax, .unsupported, .badFile: "bad_chat_template"
    case .raised: "messages_refused"
    default: "chat_template_failed"
    }
  }
}
