package import CommandLineInterface
package import Inference
package import Kernels
package import ModelConfiguration
package import Tensors

// How errors of opening and running a model end the process.

extension ConfigurationError: CommandError {
  package var exitCode: ExitCode { .modelFiles }
  package var code: String {
    switch self {
    case .missingFile: "config_not_found"
    case .notJSON: "config_not_json"
    case .otherArchitecture: "other_architecture"
    case .wrongType, .unsupported: "bad_config"
    }
  }
}

extension SafetensorsError: CommandError {
  package var exitCode: ExitCode { .modelFiles }
  package var code: String {
    switch self {
    case .file(let error): error.code
    case .noWeights: "no_weights"
    case .truncatedHeader, .outOfRange: "truncated_file"
    case .missingTensor, .notInShard: "missing_tensor"
    case .wrongShape, .wrongElementType, .unknownElementType, .wrongQuantization: "wrong_tensor"
    case .absurdHeaderLength, .malformedHeader, .malformedEntry, .sizeMismatch, .overlap,
      .duplicate, .malformedIndex:
      "malformed_file"
    }
  }
}

extension KernelError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String { "kernels_unavailable" }
}

extension MemoryError: CommandError {
  package var exitCode: ExitCode { .memory }
  package var code: String { "out_of_memory" }
}

extension InferenceError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .noSuchDirectory: .modelFiles
    case .configuration(let error): error.exitCode
    case .weights(let error): error.exitCode
    case .kernels(let error): error.exitCode
    case .memory(let error): error.exitCode
    case .notEnoughMemory: .memory
    case .feedForward: .failed
    case .service(let error): (error as? any CommandError)?.exitCode ?? .peer
    case .images(let error): error.exitCode
    case .limits, .emptyPrompt, .promptTooLong, .tokenOutOfRange, .contextTooLong: .usage
    }
  }

  package var code: String {
    switch self {
    case .noSuchDirectory: "model_not_found"
    case .configuration(let error): error.code
    case .weights(let error): error.code
    case .kernels(let error): error.code
    case .memory(let error): error.code
    case .notEnoughMemory: "out_of_memory"
    case .feedForward: "feed_forward_failed"
    case .service(let error): (error as? any CommandError)?.code ?? "feed_forward_unavailable"
    case .limits: "bad_limits"
    case .images(let error): error.code
    case .emptyPrompt: "empty_prompt"
    case .promptTooLong: "prompt_too_long"
    case .tokenOutOfRange: "bad_id"
    case .contextTooLong: "context_too_long"
    }
  }
}
