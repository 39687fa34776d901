package import CommandLineInterface
package import CostModel

// How the errors of cost, plan and simulate end the process: the asker can mend every one of them.

extension CostModelError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String {
    switch self {
    case .malformedDocument: "malformed_document"
    case .unknownKey: "unknown_key"
    case .unknownModel: "unknown_model"
    case .unknownHardware: "unknown_hardware"
    case .unsupportedModelType: "unsupported_model_type"
    case .contextOutOfRange: "context_out_of_range"
    case .notPositive: "not_positive"
    case .outOfRange: "out_of_range"
    case .noPrice: "no_price"
    case .layersDoNotPartition: "layers_do_not_partition"
    }
  }
}
