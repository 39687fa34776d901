/// The facts of a Llama-family model that the conversion needs.
package struct LlamaConfiguration: Equatable, Sendable {
  /// Sizes of the network: layers, residual stream, query heads.
  package var layerCount: Int
  package var hiddenSize: Int
  package var headCount: Int
  /// Key and value heads.
  package var groupCount: Int
  package var headDimension: Int
  package var feedForwardSize: Int
  package var vocabularySize: Int
  package var contextLength: Int
  package var normEpsilon: Float
  package var rotary: RotaryFrequencies

  package init(
    layerCount: Int, hiddenSize: Int, headCount: Int, groupCount: Int, headDimension: Int,
    feedForwardSize: Int, vocabularySize: Int, contextLength: Int, normEpsilon: Float,
    rotary: RotaryFrequencies
  ) {
    self.layerCount = layerCount
    self.hiddenSize = hiddenSize
    self.headCount = headCount
    self.groupCount = groupCount
    self.headDimension = headDimension
    self.feedForwardSize = feedForwardSize
    self.vocabularySize = vocabularySize
    self.contextLength = contextLength
    self.normEpsilon = normEpsilon
    self.rotary = rotary
  }

  /// The Step3 head dimension: all key heads side by side.
  package var wideHeadDimension: Int { groupCount * headDimension }

  /// The key head that a query head reads.
  package func group(ofHead head: Int) -> Int { head * groupCount / headCount }

  /// Refuses what the mapping cannot express; `path` names the source in messages.
  func validate(path: String) throws(ConversionError) {
    let positive: [(String, Int)] = [
      ("the layer count", layerCount), ("the hidden size", hiddenSize),
      ("the head count", headCount), ("the key head count", groupCount),
      ("the head dimension", headDimension), ("the feed-forward size", feedForwardSize),
      ("the vocabulary size", vocabularySize), ("the context length", contextLength),
    ]
    for (field, value) in positive where value < 1 || value > 1 << 28 {
      throw .invalidConfiguration(
        path: path, field: field, value: "\(value)", expected: "a positive number")
    }
    guard headCount % groupCount == 0 else {
      throw .invalidConfiguration(
        path: path, field: "the head count", value: "\(headCount)",
        expected: "a multiple of the \(groupCount) key heads")
    }
    guard headDimension % 2 == 0 else {
      throw .invalidConfiguration(
        path: path, field: "the head dimension", value: "\(headDimension)",
        expected: "an even number")
    }
    guard normEpsilon > 0, normEpsilon.isFinite else {
      throw .invalidConfiguration(
        path: path, field: "the norm epsilon", value: "\(normEpsilon)",
        expected: "a positive number")
    }
    try rotary.validate(path: path, pairCount: headDimension / 2)
  }
}

/// How the rows of one head's query and key projections are ordered for the rotary embedding.
package enum RotaryRowOrder: Sendable {
  /// Pair `j` is rows `2j` and `2j + 1` (GGUF).
  case interleavedPairs
  /// Pair `j` is rows `j` and `j + headDimension / 2` (HF).
  case halves

  /// The row within a head of pair `j`'s first or second member.
  func row(pair j: Int, second: Bool, headDimension: Int) -> Int {
    switch self {
    case .interleavedPairs: 2 * j + (second ? 1 : 0)
    case .halves: second ? j + headDimension / 2 : j
    }
  }
}

/// The weights of one decoder layer of the source.
package struct LlamaLayer: Sendable {
  /// In the order of the computation.
  package var attentionNorm: SourceTensor
  package var query: SourceTensor
  package var key: SourceTensor
  package var value: SourceTensor
  package var output: SourceTensor
  package var feedForwardNorm: SourceTensor
  package var gate: SourceTensor
  package var up: SourceTensor
  package var down: SourceTensor
}

/// A Llama-family model, checked: every tensor is there, has its shape, and none is left over.
package struct LlamaSource: Sendable {
  /// Where it was read from.
  package var path: String
  package var configuration: LlamaConfiguration
  package var rowOrder: RotaryRowOrder
  package var embedding: SourceTensor
  package var layers: [LlamaLayer]
  package var finalNorm: SourceTensor
  /// Nil when the output projection is the embedding.
  package var outputProjection: SourceTensor?
  package var tokenizer: TokenizerSource
  package var provenance: Provenance
}

/// What is known of where the source comes from, for the model card.
package struct Provenance: Equatable, Sendable {
  /// As the source states them; nil where it does not.
  package var name: String?
  package var organization: String?
  package var license: String?
  /// The encodings of the weights, for example "Q4_1, Q8_0, F32".
  package var encodings: String
  /// Files whose text goes along unchanged (licence, notice), by path.
  package var licenseFiles: [String]
}

/// Where the tokenizer files of the checkpoint come from.
package enum TokenizerSource: Sendable {
  /// Derived from the vocabulary in a GGUF file.
  case vocabulary(GGUFVocabulary)
  /// Copied from a folder, with the special ids that its configuration states.
  case folder(path: String, ids: SpecialIDs)
}

/// The special ids of a tokenizer.
package struct SpecialIDs: Equatable, Sendable {
  /// The id that starts a text, if any.
  package var begin: Int?
  /// Ids that end an answer, the model's own first.
  package var end: [Int] = []
  package var padding: Int?

  package init() {}
}

/// Hands out the tensors of a source by name, checks shapes, and knows what was never asked for.
struct TensorInventory {
  let path: String
  private let tensors: [String: SourceTensor]
  private var taken = Set<String>()

  init(path: String, _ tensors: [SourceTensor]) {
    self.path = path
    self.tensors = Dictionary(tensors.map { ($0.name, $0) }) { first, _ in first }
  }

  func contains(_ name: String) -> Bool { tensors[name] != nil }

  mutating func take(_ name: String, _ shape: [Int]) throws(ConversionError) -> SourceTensor {
    guard let tensor = tensors[name] else { throw .missingTensor(path: path, tensor: name) }
    guard tensor.shape == shape else {
      throw .wrongShape(path: path, tensor: name, expected: shape, found: tensor.shape)
    }
    taken.insert(name)
    return tensor
  }

  mutating func ignore(where isHarmless: (String) -> Bool) {
    for name in tensors.keys where isHarmless(name) { taken.insert(name) }
  }

  func finish() throws(ConversionError) {
    if let name = tensors.keys.filter({ !taken.contains($0) }).sorted().first {
      throw .unexpectedTensor(path: path, tensor: name)
    }
  }
}
