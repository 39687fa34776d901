package import Kernels
package import ModelConfiguration
package import Tensors

/// Builds the network from a checkpoint's mapping: names, shapes and types are checked, nothing is
/// copied but norms and block scales.
package struct ModelLoader {
  let files: CheckpointFiles
  let configuration: TextConfiguration
  let names: WeightNames
  /// Every tensor that the network uses; what is left over is reported by `unusedNames`.
  var used: Set<String> = []

  /// Looks at the names only.
  package init(files: CheckpointFiles, configuration: TextConfiguration) {
    self.files = files
    self.configuration = configuration
    names = WeightNames(isNested: files[WeightNames.nestedEmbedding] != nil)
  }

  /// Loads both halves of the text network, with angles for `positionCount` positions (those of
  /// the whole context unless given).
  package mutating func load(
    activation: ActivationType, compute: Compute, positionCount: Int? = nil
  ) throws(SafetensorsError) -> (decoder: TextDecoder, feedForward: [FeedForwardLayer]) {
    let c = configuration
    var layers: [DecoderLayer] = []
    var feedForward: [FeedForwardLayer] = []
    for layer in 0..<c.layerCount {
      layers.append(try attentionHalf(layer))
      feedForward.append(try feedForwardHalf(layer))
    }
    let embedding = try matrix(names.embedding, rows: c.vocabularySize, columns: c.hiddenSize)
    // Untied is decided by the tensor's presence and never by the config's default.
    let isTied = files[names.outputHead] == nil
    let head =
      isTied
      ? embedding : try matrix(names.outputHead, rows: c.vocabularySize, columns: c.hiddenSize)
    let decoder = TextDecoder(
      configuration: c, activation: activation, embedding: embedding, layers: layers,
      finalNorm: try vector(names.finalNorm, count: c.hiddenSize), outputHead: head,
      isTied: isTied,
      rotaryTable: RotaryTable(
        frequencies: c.rotary.frequencies(headDimension: c.headDimension),
        magnitude: c.rotary.magnitude, positionCount: positionCount ?? c.contextLength),
      compute: compute)
    return (decoder, feedForward)
  }

  /// Text tensors that the network did not use.
  package var unusedNames: [String] {
    files.names.filter { name in
      !used.contains(name) && !WeightNames.visionPrefixes.contains { name.hasPrefix($0) }
    }
  }

  private mutating func attentionHalf(_ layer: Int) throws(SafetensorsError) -> DecoderLayer {
    let c = configuration
    let heads = c.headCount * c.headDimension
    let attention = AttentionWeights(
      queryDown: try matrix(
        names.queryDown(layer), rows: c.sharedQueryDimension, columns: c.hiddenSize),
      queryNorm: try vector(names.queryNorm(layer), count: c.sharedQueryDimension),
      queryUp: try matrix(names.queryUp(layer), rows: heads, columns: c.sharedQueryDimension),
      key: try matrix(names.key(layer), rows: c.headDimension, columns: c.hiddenSize),
      value: try matrix(names.value(layer), rows: c.headDimension, columns: c.hiddenSize),
      output: try matrix(names.output(layer), rows: c.hiddenSize, columns: heads))
    return DecoderLayer(
      inputNorm: try vector(names.inputNorm(layer), count: c.hiddenSize), attention: attention,
      postAttentionNorm: try vector(names.postAttentionNorm(layer), count: c.hiddenSize),
      router: c.isMixtureLayer[layer]
        ? try matrix(names.router(layer), rows: c.expertCount, columns: c.hiddenSize) : nil)
  }

  private mutating func feedForwardHalf(
    _ layer: Int
  ) throws(SafetensorsError) -> FeedForwardLayer {
    let c = configuration
    guard c.isMixtureLayer[layer] else {
      return .dense(try swiGLU(layer, .dense, width: c.denseWidth))
    }
    let shared = try swiGLU(layer, .sharedExpert, width: c.sharedExpertWidth)
    let stacked = names.projections(layer, .routedExperts)
    let gates = try stack(stacked.gate, rows: c.expertWidth, columns: c.hiddenSize)
    let ups = try stack(stacked.up, rows: c.expertWidth, columns: c.hiddenSize)
    let downs = try stack(stacked.down, rows: c.hiddenSize, columns: c.expertWidth)
    let experts = (0..<c.expertCount).map { expert in
      SwiGLU(
        gateProjection: gates[expert], upProjection: ups[expert], downProjection: downs[expert])
    }
    return .mixture(MixtureOfExperts(sharedExpert: shared, experts: experts))
  }

  private mutating func swiGLU(
    _ layer: Int, _ part: FeedForwardPart, width: Int
  ) throws(SafetensorsError) -> SwiGLU {
    let name = names.projections(layer, part)
    let hidden = configuration.hiddenSize
    return SwiGLU(
      gateProjection: try matrix(name.gate, rows: width, columns: hidden),
      upProjection: try matrix(name.up, rows: width, columns: hidden),
      downProjection: try matrix(name.down, rows: hidden, columns: width))
  }

  private mutating func vector(
    _ name: String, count: Int
  ) throws(SafetensorsError) -> NormWeight {
    let tensor = try files.tensor(name, shape: [count])
    guard let values = tensor.floats() else {
      throw .wrongElementType(
        tensor: name, path: files.path(of: name), found: tensor.elementType.rawValue,
        expected: "F32, BF16 or F16")
    }
    used.insert(name)
    return NormWeight(values)
  }

  private mutating func matrix(
    _ name: String, rows: Int, columns: Int
  ) throws(SafetensorsError) -> WeightMatrix {
    try weights(name, leading: [], rows: rows, columns: columns)[0]
  }

  /// The E matrices of a stacked tensor, sliced from the mapping.
  private mutating func stack(
    _ name: String, rows: Int, columns: Int
  ) throws(SafetensorsError) -> [WeightMatrix] {
    try weights(name, leading: [configuration.expertCount], rows: rows, columns: columns)
  }
}
