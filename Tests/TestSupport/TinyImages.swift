import Tensors

/// The golden images of a tiny checkpoint with a vision tower: views, features, prompts.
package struct TinyImages: Sendable {
  /// The tiny checkpoints that have images.
  package static let names = ["nested-bf16", "vision-f32", "vision-odd-f32", "vision-stride-bf16"]

  /// The checkpoint folder.
  package let directory: String
  /// `images`, and `crops` where the sizes have them.
  package let kinds: [String]
  private let golden: CheckpointFiles

  /// Reads the golden values of one checkpoint.
  package init(_ name: String) throws {
    directory = Fixtures.path("tiny/\(name)")
    let golden = try CheckpointFiles(directory: directory + "/golden/vision")
    self.golden = golden
    kinds = ["images", "crops"].filter { golden["pixels." + $0] != nil }
  }

  /// An 8-bit PNG of the tower's own size; its pixels are the second of `images`.
  package var png: String { directory + "/golden/vision/image.png" }

  /// Side and pixels [3, side, side] of each view of a kind.
  package func views(_ kind: String) throws -> [(side: Int, pixels: [Float])] {
    let tensor = try golden.tensor("pixels." + kind)
    return (0..<tensor.shape[0]).map { (tensor.shape[3], tensor.slice($0).floats() ?? []) }
  }

  /// The reference's features of each view of a kind, [tokens, hidden] each.
  package func features(_ kind: String) throws -> [[Float]] {
    let tensor = try golden.tensor("features." + kind)
    return (0..<tensor.shape[0]).map { tensor.slice($0).floats() ?? [] }
  }

  /// The tokens of a prompt: `ids` is expanded and shows both images, the first with its crops
  /// before it; `png.ids` holds one placeholder.
  package func ids(_ name: String) throws -> [Int] {
    let tensor = try golden.tensor(name)
    return (0..<tensor.elementCount).map { Int(tensor.bytes.load(Int32.self, at: 4 * $0)) }
  }

  /// The reference's logits after the last tokens of `ids` or of `png.ids`, one row each.
  package func logits(_ name: String) throws -> [[Float]] {
    let tensor = try golden.tensor(name)
    return (0..<tensor.shape[0]).map { tensor.slice($0).floats() ?? [] }
  }
}

/// How far values are from the reference's.
package struct ValueComparison: Sendable, CustomStringConvertible {
  /// Largest absolute difference over the reference's largest value; infinite where one is NaN.
  package private(set) var relativeDifference = 0.0
  /// Cosine between the two.
  package private(set) var cosine = 1.0

  /// Compares two lists of one length.
  package init(_ found: [Float], _ expected: [Float]) {
    precondition(found.count == expected.count, "values of another shape")
    var (dot, squares, otherSquares, largest, difference) = (0.0, 0.0, 0.0, 0.0, 0.0)
    for (one, other) in zip(found, expected) {
      let (a, b) = (Double(one), Double(other))
      dot += a * b
      squares += a * a
      otherSquares += b * b
      largest = max(largest, abs(b))
      if !(abs(a - b) <= difference) { difference = a.isNaN ? .infinity : abs(a - b) }
    }
    relativeDifference = difference / largest
    cosine = dot / (squares * otherSquares).squareRoot()
  }

  package var description: String {
    "difference \(relativeDifference) of the largest value, cosine \(cosine)"
  }
}
