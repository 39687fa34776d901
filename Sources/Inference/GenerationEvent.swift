package import Sampling

/// What the engine reports about one request, in this order: `promptProcessed` once, then `token`
/// events of all choices as they come, one `finished` per choice.
package enum GenerationEvent: Sendable, Equatable {
  /// The prompt is in the cache and the first token about to come.
  case promptProcessed(PromptReport)
  /// A choice gained a token.
  case token(GeneratedToken)
  /// A choice ended; nothing more comes for it.
  case finished(FinishedChoice)
}

/// What is known of a prompt once it has been processed.
package struct PromptReport: Sendable, Equatable {
  /// How many of the prompt's tokens came from the prefix cache.
  package var cachedTokenCount: Int
  /// One entry per prompt token when the request asked for them; the first one is nil, for nothing
  /// stands before it.
  package var logprobs: [TokenLogprobs?]?
  /// Seconds the request waited before its first step.
  package var queueSeconds: Double
  /// Seconds from its first step to the end of the prompt.
  package var prefillSeconds: Double

  package init(
    cachedTokenCount: Int, logprobs: [TokenLogprobs?]? = nil, queueSeconds: Double = 0,
    prefillSeconds: Double = 0
  ) {
    self.cachedTokenCount = cachedTokenCount
    self.logprobs = logprobs
    self.queueSeconds = queueSeconds
    self.prefillSeconds = prefillSeconds
  }
}

/// One generated token of one choice.
package struct GeneratedToken: Sendable, Equatable {
  /// Which of the request's choices it belongs to, from 0.
  package var choice: Int
  /// The token's id. A stop token is reported too, as the last one before `finished`.
  package var id: Int
  /// Its logprob and the alternatives', when the request asked for them.
  package var logprobs: TokenLogprobs?

  package init(choice: Int, id: Int, logprobs: TokenLogprobs? = nil) {
    self.choice = choice
    self.id = id
    self.logprobs = logprobs
  }
}

/// The end of one choice.
package struct FinishedChoice: Sendable, Equatable {
  /// Which of the request's choices ended.
  package var choice: Int
  /// Why it ended.
  package var reason: FinishReason
  /// How many tokens it generated, a final stop token included.
  package var generatedTokenCount: Int
  /// How often its request had to give up its place in the cache.
  package var preemptionCount: Int

  package init(
    choice: Int, reason: FinishReason, generatedTokenCount: Int, preemptionCount: Int = 0
  ) {
    self.choice = choice
    self.reason = reason
    self.generatedTokenCount = generatedTokenCount
    self.preemptionCount = preemptionCount
  }
}

/// Why a choice ended.
package enum FinishReason: Sendable, Equatable {
  /// The model's own end of sequence.
  case endOfSequence
  /// One of the request's stop tokens.
  case stopToken(Int)
  /// The grammar of the request allows nothing more.
  case constraintComplete
  /// `maximumTokens` or the context length was reached.
  case length
  /// The request was cancelled.
  case aborted
  /// The engine could not go on with the request.
  case failed(GenerationFailure)
}

/// Why the engine refuses a request or gives it up.
package enum GenerationFailure: Error, Sendable, Equatable {
  /// The weights are not there yet.
  case loading
  /// The engine is shutting down and takes nothing new.
  case draining
  /// The waiting queue is full.
  case queueFull(limit: Int, retryAfterSeconds: Int)
  /// The prompts in the waiting queue hold too many tokens.
  case queuedTokensFull(limit: Int, retryAfterSeconds: Int)
  /// The prompt has no tokens.
  case emptyPrompt
  /// No token can be chosen: the request's rules exclude each other, or the logits are broken.
  case sampling(SamplingError)
  /// Priorities are switched off.
  case priorityUnsupported(priority: Int)
  /// Prompt and answer can never fit the model's context.
  case contextTooLong(promptTokenCount: Int, maximumTokens: Int, contextLength: Int)
  /// The cache is too small for this one request, even alone.
  case cacheTooSmall(neededTokens: Int, availableTokens: Int)
  /// A token id lies outside the vocabulary.
  case tokenOutOfRange(id: Int, vocabularySize: Int)
  /// The request's id is in use.
  case duplicateID
  /// A peer that holds part of the model is gone.
  case peerLost(name: String)
  /// A node of the cluster does not take what its gateway sent.
  case refusedByNode(reason: String)
  /// The engine stopped on an internal error.
  case engineStopped
}

extension GenerationFailure: CustomStringConvertible {
  package var description: String {
    switch self {
    case .loading: "The model is still loading; try again when /ready answers 200."
    case .draining: "The server is shutting down; send the request to another one."
    case .queueFull(let limit, let seconds):
      "The waiting queue holds its limit of \(limit) requests; try again in \(seconds) s."
    case .queuedTokensFull(let limit, let seconds):
      "The waiting prompts hold their limit of \(limit) tokens; try again in \(seconds) s."
    case .emptyPrompt: "The prompt is empty; give at least one token."
    case .sampling(let error): "\(error)."
    case .priorityUnsupported(let priority):
      "Priority \(priority) needs a server started with --scheduling-policy priority."
    case .contextTooLong(let prompt, let maximum, let context):
      "This model's maximum context length is \(context) tokens. However, you requested "
        + "\(prompt + maximum) tokens (\(prompt) in the messages, \(maximum) in the completion). "
        + "Please reduce the length of the messages or completion."
    case .cacheTooSmall(let needed, let available):
      "The request needs \(needed) positions of KV cache and the whole cache holds \(available); "
        + "start the server with a larger --kv-cache-memory or ask for fewer tokens."
    case .tokenOutOfRange(let id, let size):
      "Token id \(id) is outside the vocabulary of \(size) tokens."
    case .duplicateID: "A request with this id is already running."
    case .peerLost(let name): "The peer \(name) is gone; the request cannot be finished."
    case .refusedByNode(let reason): "A node of the cluster refuses the request: \(reason)."
    case .engineStopped: "The engine stopped on an internal error."
    }
  }
}
