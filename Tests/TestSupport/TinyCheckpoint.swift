import Foundation
package import Tensors

/// One folder of Tests/Fixtures/tiny and what the reference computes for it.
package struct TinyCheckpoint: Sendable {
  /// The folder's name.
  package let name: String
  /// The tokens, T of them.
  package let ids: [Int]
  /// The logits after each token, [T, V] row-major.
  package let logits: [Float]
  /// V.
  package let vocabularySize: Int
  /// All golden tensors: also `hidden`, `experts.I`, `weights.I`.
  package let golden: CheckpointFiles

  /// The names of all tiny checkpoints, sorted.
  package static let names: [String] = {
    let entries = try? FileManager.default.contentsOfDirectory(atPath: Fixtures.path("tiny"))
    return (entries ?? []).filter { !$0.contains(".") && $0 != "CHECKSUMS" }.sorted()
  }()

  /// Reads the golden values of one checkpoint.
  package init(_ name: String) throws {
    self.name = name
    golden = try CheckpointFiles(directory: Fixtures.path("tiny/\(name)/golden"))
    let logits = try golden.tensor("logits")
    let ids = try golden.tensor("ids")
    self.ids = (0..<ids.elementCount).map { Int(ids.bytes.load(Int32.self, at: 4 * $0)) }
    self.logits = logits.floats() ?? []
    vocabularySize = logits.shape[1]
  }

  /// The checkpoint folder.
  package var directory: String { Fixtures.path("tiny/\(name)") }

  /// Whether every weight is F32, so that only the order of summation may differ.
  package var isExact: Bool { name.hasSuffix("-f32") }

  /// The logits after token `position`, [V].
  package func row(_ position: Int) -> ArraySlice<Float> {
    logits[position * vocabularySize..<(position + 1) * vocabularySize]
  }
}

/// How far logits are from the reference's.
package struct LogitsComparison: Sendable, CustomStringConvertible {
  /// Largest absolute difference over the reference's range (largest minus smallest value).
  package var relativeDifference = 0.0
  /// Smallest cosine between a row and the reference's row.
  package var smallestCosine = 1.0
  /// Rows whose top token differs although the reference's top two are clearly apart.
  package var wrongTopRows: [Int] = []

  /// Compares `found` with the reference; both [T, V].
  ///
  /// The top tokens count where the reference's first two are apart by more than `noise` standard
  /// deviations of the logits.
  package init(_ found: [Float], _ reference: TinyCheckpoint, noise: Double = 0.05) {
    precondition(found.count == reference.logits.count, "logits of another shape")
    let all = reference.logits.map(Double.init)
    let range = (all.max() ?? 0) - (all.min() ?? 0)
    let mean = all.reduce(0, +) / Double(all.count)
    let spread = (all.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(all.count))
      .squareRoot()
    for position in reference.ids.indices {
      let expected = reference.row(position).map(Double.init)
      let start = position * reference.vocabularySize
      let row = found[start..<start + reference.vocabularySize].map(Double.init)
      var (dot, normExpected, normFound) = (0.0, 0.0, 0.0)
      for (a, b) in zip(expected, row) {
        // Written so that NaN counts as infinitely far.
        let difference = abs(a - b)
        if !(difference / range <= relativeDifference) {
          relativeDifference = difference.isNaN ? .infinity : difference / range
        }
        dot += a * b
        normExpected += a * a
        normFound += b * b
      }
      let cosine = dot / (normExpected * normFound).squareRoot()
      if !(cosine >= smallestCosine) { smallestCosine = cosine.isNaN ? -1 : cosine }
      let ranked = expected.indices.sorted { expected[$0] > expected[$1] }
      let isClear = expected[ranked[0]] - expected[ranked[1]] > noise * spread
      let top = row.indices.max { row[$0] < row[$1] }
      if isClear, top != ranked[0] { wrongTopRows.append(position) }
    }
  }

  /// Whether the difference is within the tolerance for this kind of checkpoint.
  package func isAcceptable(for checkpoint: TinyCheckpoint) -> Bool {
    if checkpoint.isExact { return relativeDifference <= 1e-4 }
    return smallestCosine >= 0.999 && wrongTopRows.isEmpty
  }

  package var description: String {
    "difference \(relativeDifference) of the range, cosine \(smallestCosine), "
      + "wrong top tokens in rows \(wrongTopRows)"
  }
}

/// The tensor called `name` of the safetensors files in a folder, widened.
package func floats(_ name: String, in folder: TemporaryFolder) throws -> [Float] {
  try CheckpointFiles(directory: folder.url.path).tensor(name).floats() ?? []
}
