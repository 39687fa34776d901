package import CommandLineInterface
package import Conversion

// How a conversion's errors end the process: what is wrong with the source, with the request, or
// with the place to write.
extension ConversionError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .expertsDoNotFit, .noSuchLayer, .folderInUse, .cannotAddTokens: .usage
    case .writing, .cannotWrite: .failed
    default: .modelFiles
    }
  }

  package var code: String {
    switch self {
    case .gguf: "gguf"
    case .file(let error): error.code
    case .checkpoint: "checkpoint"
    case .writing, .cannotWrite: "cannot_write"
    case .notASource: "not_a_source"
    case .unsupportedArchitecture: "unsupported_architecture"
    case .unsupportedFeature: "unsupported_feature"
    case .invalidConfiguration, .missingField: "invalid_configuration"
    case .malformedJSON: "malformed_json"
    case .missingTensor: "missing_tensor"
    case .unexpectedTensor: "unexpected_tensor"
    case .wrongShape: "wrong_shape"
    case .unsupportedElementType: "unsupported_element_type"
    case .unsupportedTokenizer, .invalidTokenizer, .cannotAddTokens: "tokenizer"
    case .expertsDoNotFit, .noSuchLayer: "mixture_layout"
    case .folderInUse: "folder_in_use"
    }
  }
}
