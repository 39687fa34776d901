/// Why a checkpoint's configuration was refused.
package enum ConfigurationError: Error, Equatable, Sendable {
  /// The file is missing.
  case missingFile(path: String)
  /// The file is not JSON, or not a JSON object.
  case notJSON(path: String, reason: String)
  /// The checkpoint holds another model.
  case otherArchitecture(path: String, found: String)
  /// A field has a value of the wrong kind.
  case wrongType(path: String, field: String, expected: String, found: String)
  /// A field has a value that no model can have, or that this engine does not run.
  case unsupported(path: String, field: String, value: String, reason: String)
}

extension ConfigurationError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .missingFile(let path):
      "\(path): no such file; a checkpoint folder needs config.json, *.safetensors and "
        + "tokenizer.json"
    case .notJSON(let path, let reason):
      "\(path): is not a JSON object: \(reason)"
    case .otherArchitecture(let path, let found):
      "\(path): this is a checkpoint of \(found); this engine runs Step3 "
        + "(Step3VLForConditionalGeneration, Step3TextForCausalLM). A Llama-family model can be "
        + "converted: step3 convert SOURCE DIR"
    case .wrongType(let path, let field, let expected, let found):
      "\(path): \(field) should be \(expected), but is \(found)"
    case .unsupported(let path, let field, let value, let reason):
      "\(path): \(field) = \(value) cannot be run: \(reason)"
    }
  }
}
