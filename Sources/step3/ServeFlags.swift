import CommandLineInterface
import Foundation
import Inference
import Serving

/// The flags of `serve`, and what they set.
enum ServeFlags {
  static let all = own + ImageFlags.all

  private static let own: [Flag] = [
    .string("host", "ADDRESS", default: "127.0.0.1", help: "address to listen on"),
    .integer("port", in: 0...65_535, default: 8000, help: "port to listen on; 0 takes a free one"),
    .string("api-key", "K", repeated: true, help: "a key that clients must send; repeatable"),
    .string("served-model-name", "N", repeated: true, help: "names the model answers to"),
    ModelFlags.contextLength,
    .integer("max-num-seqs", in: 1...4096, default: 64, help: "most sequences that run at once"),
    .integer(
      "max-num-batched-tokens", in: 2...65_536, default: 512, help: "most tokens in one step"),
    .choice(
      "block-size", ["16", "32", "64", "128", "256", "512"], default: "32",
      help: "positions per block of the KV cache"),
    ModelFlags.cacheType, ModelFlags.dtype, ModelFlags.lockMemory, ModelFlags.streamExperts,
    .byteCount("kv-cache-memory", help: "bytes for the KV cache (default: a share of free memory)"),
    .toggle("prefix-caching", default: true, help: "share cached blocks among prompts"),
    .choice("reasoning-parser", ["step3", "none"], default: "step3", help: "tell reasoning apart"),
    .choice(
      "tool-call-parser", ["step3", "none"], default: "step3", help: "tell tool calls apart"),
    .choice(
      "reasoning-field", ReasoningField.allCases.map(\.rawValue), default: "reasoning_content",
      help: "under which name reasoning is sent"),
    .string("chat-template", "FILE", help: "a Jinja template in place of the checkpoint's"),
    .toggle("trust-request-chat-template", default: false, help: "let requests bring a template"),
    .integer("max-queued-requests", in: 1...1_000_000, default: 1024, help: "requests that wait"),
    .integer("max-queued-tokens", in: 1...(1 << 40), help: "prompt tokens that wait"),
    .choice(
      "scheduling-policy", ["fcfs", "priority"], default: "fcfs", help: "who is served first"),
    .number("shutdown-timeout", in: 0...86_400, default: 30, help: "seconds to drain for"),
    .number(
      "sse-keep-alive-interval", in: 0...3600, default: 15,
      help: "seconds between comments on silent streams; 0 sends none"),
    .byteCount("max-body-size", help: "largest request body (default: 64 MiB)"),
    .integer(
      "limit-images", in: 0...10_000, default: 32, help: "most images that one request may show"),
    .string(
      "allowed-media-domains", "D", repeated: true,
      help: "hosts that images are fetched from, such as *.example.org (default: none)"),
    .string("allowed-origins", "O", repeated: true, help: "origins that browsers may call from"),
    .choice("metrics-compat", ["none", "vllm"], default: "none", help: "also print vLLM's names"),
    .toggle("guard-metrics", default: false, help: "ask for a key at /metrics"),
    .toggle("health-strict", default: false, help: "/health answers 503 while loading"),
    .toggle("ui", default: true, help: "serve the chat page at /"),
    .string("ssl-certfile", "FILE", help: "PEM certificate chain for TLS"),
    .string("ssl-keyfile", "FILE", help: "PEM key of the certificate"),
    .choice("log-format", ["text", "json"], default: "text", help: "form of the request log"),
  ]

  static func engineOptions(_ arguments: ParsedArguments) -> EngineOptions {
    var options = ModelFlags.options(arguments)
    options.sequenceLimit = arguments.integer("max-num-seqs")
    options.batchedTokenLimit = arguments.integer("max-num-batched-tokens")
    options.blockSize = Int(arguments.string("block-size")) ?? options.blockSize
    options.cacheByteCount = arguments.optionalByteCount("kv-cache-memory")
    options.sharesPrefixes = arguments.isOn("prefix-caching")
    options.queuedRequestLimit = arguments.integer("max-queued-requests")
    options.queuedTokenLimit = arguments.optionalInteger("max-queued-tokens") ?? .max
    if arguments.string("scheduling-policy") == "priority" {
      options.handicapPerPriority = .seconds(1)
    }
    return options
  }

  static func settings(_ arguments: ParsedArguments) throws -> APISettings {
    var settings = APISettings()
    settings.modelNames = arguments.strings("served-model-name")
    if settings.modelNames.isEmpty {
      let name = URL(fileURLWithPath: arguments.model).lastPathComponent
      settings.modelNames = [name.isEmpty || name == "/" ? "step3" : name]
    }
    settings.keys = arguments.strings("api-key").filter { !$0.isEmpty }
    settings.parsesReasoning = arguments.string("reasoning-parser") == "step3"
    settings.parsesTools = arguments.string("tool-call-parser") == "step3"
    settings.reasoningField =
      ReasoningField(rawValue: arguments.string("reasoning-field")) ?? .reasoningContent
    settings.limits.trustsTemplates = arguments.isOn("trust-request-chat-template")
    settings.limits.allowsPriority = arguments.string("scheduling-policy") == "priority"
    settings.imageLimit = arguments.integer("limit-images")
    settings.allowedMediaDomains = arguments.strings("allowed-media-domains")
    settings.allowedOrigins = arguments.strings("allowed-origins")
    settings.printsVLLMMetrics = arguments.string("metrics-compat") == "vllm"
    settings.guardsMetrics = arguments.isOn("guard-metrics")
    settings.strictHealth = arguments.isOn("health-strict")
    settings.servesPage = arguments.isOn("ui")
    settings.version = Step3Command.version
    return settings
  }

  /// The same settings with the checkpoint's own defaults for sampling.
  static func completed(
    _ settings: APISettings, _ generation: GenerationConfiguration
  ) -> APISettings {
    var settings = settings
    settings.defaults.temperature = generation.temperature ?? settings.defaults.temperature
    settings.defaults.topP = generation.topP ?? settings.defaults.topP
    settings.defaults.topK = generation.topK
    return settings
  }

  static func httpOptions(_ arguments: ParsedArguments) throws -> HTTPServerOptions {
    var options = HTTPServerOptions()
    options.host = arguments.optionalString("host") ?? options.host
    options.port = arguments.optionalInteger("port") ?? options.port
    options.certificates = arguments.optionalString("ssl-certfile")
    options.key = arguments.optionalString("ssl-keyfile")
    if (options.certificates == nil) != (options.key == nil) {
      throw CommandFailure(
        .usage, code: "usage", "--ssl-certfile and --ssl-keyfile go together; give both")
    }
    options.maximumBodyByteCount = arguments.optionalByteCount("max-body-size") ?? 64 << 20
    options.keepAliveSeconds = arguments.number("sse-keep-alive-interval")
    return options
  }
}
