import CommandLineInterface
import Inference
import Kernels
import Tensors

/// Flags that every command which runs a model understands.
enum ModelFlags {
  static let dtype = Flag.choice(
    "dtype", ["auto", "bfloat16", "float32", "int8"], default: "auto",
    help: "precision of activations; auto is float32 for checkpoints below 1 GiB; int8 halves the "
      + "arithmetic of INT8 and INT4 weights, less exactly")
  static let cacheType = Flag.choice(
    "kv-cache-dtype", ["auto", "bf16", "f32"], default: "auto",
    help: "element type of the KV cache; auto follows --dtype")
  static let contextLength = Flag.integer(
    "max-model-len", in: 1...(1 << 31), help: "longest context in tokens (default: the model's)")
  static let chunk = Flag.integer(
    "chunk", in: 1...65_536, default: 512, help: "tokens per prefill step")

  static let lockMemory = Flag.toggle(
    "lock-memory", help: "lock the weights in memory, so that nothing else can push them out")
  static let streamExperts = Flag.toggle(
    "stream-experts",
    help: "read experts from the disk as tokens choose them, where weights exceed the memory")

  /// The engine options that the common flags and these ask for.
  static func options(_ arguments: ParsedArguments) -> EngineOptions {
    var options = EngineOptions()
    options.threads = arguments.threads
    options.kernels = KernelChoice(rawValue: arguments.kernels) ?? .auto
    let flags = Set(arguments.specification.flags.map(\.name))
    if flags.contains(dtype.name) {
      options.activation = ActivationType(rawValue: arguments.string(dtype.name))
    }
    if flags.contains(cacheType.name) {
      switch arguments.string(cacheType.name) {
      case "bf16": options.cacheType = .bfloat16
      case "f32": options.cacheType = .float32
      default: options.cacheType = nil
      }
    }
    if flags.contains(contextLength.name) {
      options.contextLength = arguments.optionalInteger(contextLength.name)
    }
    if flags.contains(lockMemory.name) { options.locksWeights = arguments.isOn(lockMemory.name) }
    if flags.contains(streamExperts.name) {
      options.streamsExperts = arguments.isOn(streamExperts.name)
    }
    if flags.contains(chunk.name) { options.batchedTokenLimit = arguments.integer(chunk.name) }
    return options
  }
}
