package import CommandLineInterface
package import Quantization

extension QuantizationError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .badPattern, .folderInUse: .usage
    case .writing, .cannotWrite, .notEnoughSpace: .failed
    default: .modelFiles
    }
  }

  package var code: String {
    switch self {
    case .checkpoint(let error): error.code
    case .writing, .cannotWrite: "cannot_write"
    case .alreadyQuantized: "already_quantized"
    case .nothingToQuantize: "nothing_to_quantize"
    case .badPattern: "bad_pattern"
    case .notEnoughSpace: "not_enough_space"
    case .folderInUse: "folder_in_use"
    case .badConfiguration: "bad_configuration"
    case .calibration: "calibration_failed"
    }
  }
}
