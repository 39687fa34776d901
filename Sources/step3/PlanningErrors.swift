package import CommandLineInterface
package import CostModel
package import Simulation

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
    case .tooManyShards: "too_many_shards"
    }
  }
}

extension SimulationError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String {
    switch self {
    case .cost(let error): error.code
    case .malformedTrace: "malformed_trace"
    case .emptyTrace: "empty_trace"
    case .notPositive: "not_positive"
    case .requestTooLarge: "request_too_large"
    case .noMemoryForCaches: "no_memory_for_caches"
    }
  }
}
