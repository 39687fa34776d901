package import CommandLineInterface
package import Inference
package import Sampling

/// Flags that shape an answer, shared by `run` and `chat`.
enum GenerationFlags {
  static let all: [Flag] =
    [
      .string("system", "T", help: "system message"),
      .integer(
        "max-tokens", in: 1...(1 << 31), help: "longest answer (default: the context's rest)"),
      .number("temperature", in: 0...2, help: "0 is greedy (default: the checkpoint's, else 1)"),
      .number("top-p", in: 0...1, help: "keep the likeliest tokens of this total probability"),
      .integer("top-k", in: -1...(1 << 31), help: "keep the K likeliest tokens; 0 keeps all"),
      .number("min-p", in: 0...1, help: "drop tokens below this share of the likeliest"),
      .number("repetition-penalty", help: "divides logits of tokens that occurred (1 is off)"),
      .number("presence-penalty", in: -2...2, help: "subtracted once from generated tokens"),
      .number("frequency-penalty", in: -2...2, help: "subtracted per occurrence"),
      .integer("seed", in: Int.min...Int.max, help: "the same seed gives the same answer anywhere"),
      .string("stop", "S", repeated: true, help: "end the answer before this text"),
      ModelFlags.dtype, ModelFlags.cacheType, ModelFlags.contextLength, ModelFlags.chunk,
      ModelFlags.lockMemory, ModelFlags.streamExperts,
    ] + ImageFlags.all

  /// The sampling parameters that the flags, then the checkpoint, ask for.
  static func sampling(
    _ arguments: ParsedArguments, _ defaults: GenerationConfiguration
  ) throws -> SamplingParameters {
    try SamplingParameters(
      temperature: arguments.optionalNumber("temperature") ?? defaults.temperature ?? 1,
      topK: arguments.optionalInteger("top-k") ?? defaults.topK,
      topP: arguments.optionalNumber("top-p") ?? defaults.topP ?? 1,
      minP: arguments.optionalNumber("min-p") ?? 0,
      repetitionPenalty: arguments.optionalNumber("repetition-penalty") ?? 1,
      presencePenalty: arguments.optionalNumber("presence-penalty") ?? 0,
      frequencyPenalty: arguments.optionalNumber("frequency-penalty") ?? 0)
  }

  static func seed(_ arguments: ParsedArguments) -> UInt64 {
    arguments.optionalInteger("seed").map { UInt64(bitPattern: Int64($0)) }
      ?? UInt64.random(in: 0...UInt64.max)
  }
}

extension SamplingError: CommandError {
  package var exitCode: ExitCode { .usage }
  package var code: String { "bad_sampling_parameter" }
}

extension GenerationFailure: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .contextTooLong, .tokenOutOfRange, .emptyPrompt, .priorityUnsupported: .usage
    case .sampling(.invalidLogit): .selfCheck
    case .sampling: .usage
    case .cacheTooSmall: .memory
    case .peerLost, .refusedByNode: .peer
    case .loading, .draining, .queueFull, .queuedTokensFull, .duplicateID, .engineStopped: .failed
    }
  }

  package var code: String {
    switch self {
    case .loading: "loading"
    case .draining: "draining"
    case .queueFull, .queuedTokensFull: "queue_full"
    case .contextTooLong: "prompt_too_long"
    case .cacheTooSmall: "cache_too_small"
    case .tokenOutOfRange: "bad_id"
    case .emptyPrompt: "empty_prompt"
    case .priorityUnsupported: "priority_unsupported"
    case .sampling(.invalidLogit): "broken_logits"
    case .sampling: "bad_sampling_parameter"
    case .duplicateID: "duplicate_id"
    case .peerLost: "peer_lost"
    case .refusedByNode: "refused_by_node"
    case .engineStopped: "engine_stopped"
    }
  }
}
