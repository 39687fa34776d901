package import Kernels
package import ModelConfiguration
package import Scheduling
package import Step3Model
package import Tensors

/// Why a model could not be loaded or a prompt not be run.
package enum InferenceError: Error, Sendable {
  /// The folder is missing.
  case noSuchDirectory(path: String)
  case configuration(ConfigurationError)
  case weights(SafetensorsError)
  case kernels(KernelError)
  case memory(MemoryError)
  case feedForward(FeedForwardError)
  /// The processes that compute the feed-forward half cannot be used.
  case service(any Error)
  case limits(AdmissionLimitError)
  case images(ImagePromptError)
  /// Weights, cache and scratch do not fit into what is free.
  case notEnoughMemory(plan: MemoryPlan, available: Int)
  /// The prompt has no tokens.
  case emptyPrompt
  /// The prompt does not leave room for an answer.
  case promptTooLong(tokenCount: Int, contextLength: Int)
  /// A token id outside the vocabulary.
  case tokenOutOfRange(id: Int, vocabularySize: Int)
  /// A context limit that the model does not have.
  case contextTooLong(requested: Int, contextLength: Int)
}

extension InferenceError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .noSuchDirectory(let path):
      "\(path): no such folder; give a checkpoint folder, or run `make model` for the default one"
    case .configuration(let error): "\(error)"
    case .weights(let error): "\(error)"
    case .kernels(let error): "\(error)"
    case .memory(let error): "\(error)"
    case .feedForward(let error): "\(error)"
    case .service(let error): "\(error)"
    case .limits(let error): "\(error)"
    case .images(let error): "\(error)"
    case .notEnoughMemory(let plan, let available):
      "not enough memory: weights \(Self.size(plan.weightByteCount)) + KV cache "
        + "\(Self.size(plan.cacheByteCount)) + scratch \(Self.size(plan.scratchByteCount)) = "
        + "\(Self.size(plan.totalByteCount)), free are \(Self.size(available)); lower "
        + "--max-model-len or --kv-cache-memory, or use a smaller checkpoint"
    case .emptyPrompt:
      "the prompt is empty; give at least one token"
    case .promptTooLong(let tokenCount, let contextLength):
      "the prompt has \(tokenCount) tokens, the context holds \(contextLength) including at least "
        + "one of the answer; shorten it or raise --max-model-len"
    case .tokenOutOfRange(let id, let vocabularySize):
      "token id \(id) is outside the vocabulary (0 to \(vocabularySize - 1))"
    case .contextTooLong(let requested, let contextLength):
      "a context of \(requested) tokens was asked for, the model has \(contextLength)"
    }
  }

  private static func size(_ byteCount: Int) -> String {
    let mebibytes = Double(byteCount) / 1_048_576
    return mebibytes < 10_240
      ? "\(Int(mebibytes.rounded(.up))) MiB" : "\(Int((mebibytes / 1024).rounded(.up))) GiB"
  }
}
