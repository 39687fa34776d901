import TestSupport
import Testing

/// Every kernel set on every tiny checkpoint, through the command line.
@Suite(.enabled(if: hasCommand("Score"), "needs the score command"))
struct GoldenLogitsTests {
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

  @Test(
    "logits are the same bits for every chunk and thread count",
    arguments: TinyCheckpoint.names, Machine.kernelSets)
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
