package import Tensors

/// Why a model cannot be converted: what is wrong, where, and what would help.
package enum ConversionError: Error, Equatable, Sendable {
  case gguf(GGUFError)
  case file(FileError)
  case checkpoint(SafetensorsError)
  case writing(SafetensorsWriterError)
  case notASource(path: String)
  case unsupportedArchitecture(path: String, architecture: String)
  case unsupportedFeature(path: String, feature: String, value: String)
  case invalidConfiguration(path: String, field: String, value: String, expected: String)
  case missingField(path: String, field: String)
  case malformedJSON(path: String, reason: String)
  case missingTensor(path: String, tensor: String)
  case unexpectedTensor(path: String, tensor: String)
  case wrongShape(path: String, tensor: String, expected: [Int], found: [Int])
  case unsupportedElementType(path: String, tensor: String, type: String)
  case unsupportedTokenizer(path: String, model: String)
  case invalidTokenizer(path: String, fact: String)
  case cannotAddTokens(path: String, folder: String)
  case expertsDoNotFit(layer: Int?, experts: Int, feedForwardSize: Int)
  case noSuchLayer(layer: Int, layerCount: Int)
  case folderInUse(path: String)
  case cannotWrite(path: String, reason: String)
}

extension ConversionError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .gguf(let error): error.description
    case .file(let error): error.description
    case .checkpoint(let error): error.description
    case .writing(let error): error.description
    case .notASource(let path):
      "\(path): neither a GGUF file nor a folder with config.json and safetensors"
    case .unsupportedArchitecture(let path, let architecture):
      "\(path): the architecture \"\(architecture)\" cannot be converted; Llama-family models "
        + "(llama, mistral) with grouped-query attention can"
    case .unsupportedFeature(let path, let feature, let value):
      "\(path): uses \(feature) (\(value)), which has no exact counterpart in Step3"
    case .invalidConfiguration(let path, let field, let value, let expected):
      "\(path): \(field) is \(value); expected \(expected)"
    case .missingField(let path, let field):
      "\(path): the field \(field) is missing"
    case .malformedJSON(let path, let reason):
      "\(path): not a readable JSON document (\(reason))"
    case .missingTensor(let path, let tensor):
      "\(path): the tensor \(tensor) is missing"
    case .unexpectedTensor(let path, let tensor):
      "\(path): the tensor \(tensor) has no place in a plain Llama model; nothing is dropped "
        + "silently, so the model is refused"
    case .wrongShape(let path, let tensor, let expected, let found):
      "\(path): the tensor \(tensor) has shape \(found); expected \(expected)"
    case .unsupportedElementType(let path, let tensor, let type):
      "\(path): the tensor \(tensor) is stored as \(type); supported are F32, F16 and BF16"
    case .unsupportedTokenizer(let path, let model):
      "\(path): the tokenizer \(model) cannot be exported; give a folder with the model's "
        + "tokenizer.json by --tokenizer"
    case .invalidTokenizer(let path, let fact):
      "\(path): the tokenizer is broken: \(fact)"
    case .cannotAddTokens(let path, let folder):
      "\(path): the vision tower of \(folder) brings tokens of its own, which can only be added to "
        + "the vocabulary of a GGUF file, not to the tokenizer of a folder"
    case .expertsDoNotFit(let layer, let experts, let size):
      "\(experts) experts do not fit a feed-forward of \(size) neurons"
        + (layer.map { " in layer \($0)" } ?? "") + "; give fewer by --experts"
    case .noSuchLayer(let layer, let count):
      "layer \(layer) cannot be a mixture of experts: layers are 0 to \(count - 1)"
    case .folderInUse(let path):
      "\(path): exists, is not empty and was not written by step3 convert; nothing is "
        + "overwritten, give another folder"
    case .cannotWrite(let path, let reason):
      "\(path): cannot be written (\(reason))"
    }
  }
}
