import TestSupport
import Testing

/// Every kernel set on every tiny checkpoint, through the command line.
@Suite struct GoldenLogitsTests {
  @Test(
    "logits equal the reference's",
    arguments: TinyCheckpoint.names, Machine.kernelSets)
  func logits(name: String, kernels: String) async throws {
    let checkpoint = try TinyCheckpoint(name)
    let found = try await scoredLogits(checkpoint, kernels: kernels)
    try #require(found.count == checkpoint.logits.count)
    let comparison = LogitsComparison(found, checkpoint)
    #expect(comparison.isAcceptable(for: checkpoint), "\(comparison)")
  }

  /// Every checkpoint with the widest kernel set, and some with the others.
  static let bitCases: [(name: String, kernels: String)] = Machine.kernelSets.flatMap { kernels in
    let isWidest = kernels == Machine.kernelSets.last
    let names = isWidest ? TinyCheckpoint.names : ["moe-bf16", "moe-fp8", "odd-f32"]
    return names.map { ($0, kernels) }
  }

  @Test("logits are the same bits for every chunk and thread count", arguments: bitCases)
  func bits(name: String, kernels: String) async throws {
    let checkpoint = try TinyCheckpoint(name)
    let whole = try await scoredLogits(checkpoint, kernels: kernels)
    for (threads, chunk) in [(1, 1), (2, 3), (1, 7), (2, 64), (1, 64)] {
      let found = try await scoredLogits(
        checkpoint, kernels: kernels, threads: threads, chunk: chunk)
      let isEqual = found.map(\.bitPattern) == whole.map(\.bitPattern)
      #expect(isEqual, "\(threads) threads, chunks of \(chunk)")
    }
  }
}
