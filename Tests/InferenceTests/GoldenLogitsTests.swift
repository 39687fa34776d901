import Inference
import Kernels
import Tensors
import TestSupport
import Testing

/// The logits of every token of a fixture, computed by this engine.
func logits(
  of name: String, ids: [Int], options: EngineOptions = EngineOptions(), chunks: [Int] = []
) throws -> [[Float]] {
  let folder = try ModelFolder(path: Fixtures.path("tiny/" + name))
  var session = try ScoringSession(folder, options: options, contextLength: 256)
  var rows: [[Float]] = []
  var rest = ids[...]
  for size in chunks + [ids.count] where !rest.isEmpty {
    let chunk = Array(rest.prefix(size))
    rest = rest.dropFirst(size)
    try session.feed(chunk, logitsOf: 0..<chunk.count) { _, row in
      rows.append(row.indices.map { row[$0] })
    }
  }
  return rows
}

func options(_ kernels: KernelSet, threads: Int = 2) -> EngineOptions {
  var options = EngineOptions()
  options.kernels = KernelChoice(rawValue: kernels.name) ?? .auto
  options.threads = threads
  return options
}

@Suite struct GoldenLogitsTests {
  @Test(
    "logits are the reference's", arguments: TinyCheckpoint.names, KernelSet.available.map(\.name))
  func golden(name: String, kernels: String) throws {
    let checkpoint = try TinyCheckpoint(name)
    let set = try KernelSet.select(#require(KernelChoice(rawValue: kernels)))
    // BF16 activations are an approximation that F32 checkpoints do not ask for.
    for activation in ActivationType.allCases where activation == .float32 || !checkpoint.isExact {
      var choices = options(set)
      choices.activation = activation
      let rows = try logits(of: name, ids: checkpoint.ids, options: choices)
      let comparison = LogitsComparison(rows.flatMap { $0 }, checkpoint)
      #expect(comparison.isAcceptable(for: checkpoint), "\(activation): \(comparison)")
      if activation == .float32 { #expect(comparison.relativeDifference < 1e-3) }
    }
  }

  @Test(
    "chunks, threads, and prefill or decode change no bit",
    arguments: [
      "moe-bf16", "moe-fp8", "odd-f32", "odd-bf16", "mixed-bf16",
    ], KernelSet.available.map(\.name))
  func bitIdentical(name: String, kernels: String) throws {
    let ids = (0..<70).map { ($0 * 37 + 11) % 256 }
    let set = try KernelSet.select(#require(KernelChoice(rawValue: kernels)))
    for activation in ActivationType.allCases {
      func run(threads: Int, chunks: [Int]) throws -> [[UInt32]] {
        var choices = options(set, threads: threads)
        choices.activation = activation
        choices.batchedTokenLimit = 64
        return try logits(of: name, ids: ids, options: choices, chunks: chunks)
          .map { $0.map(\.bitPattern) }
      }
      let whole = try run(threads: 1, chunks: [])
      #expect(try run(threads: 2, chunks: Array(repeating: 1, count: 70)) == whole)
      #expect(try run(threads: 2, chunks: [3, 7, 33]) == whole)
      #expect(try run(threads: 3, chunks: [64]) == whole)
    }
  }
}
