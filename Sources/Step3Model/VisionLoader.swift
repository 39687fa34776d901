package import Kernels
package import ModelConfiguration
package import Tensors

/// Builds the vision tower from a checkpoint's mapping: names, shapes and types are checked, and
/// nothing is copied but biases, norms and positions.
package struct VisionLoader {
  let files: CheckpointFiles
  let configuration: Step3Configuration
  let names: VisionWeightNames
  private(set) var used: Set<String> = []

  /// Looks at the names only.
  package init(files: CheckpointFiles, configuration: Step3Configuration) {
    self.files = files
    self.configuration = configuration
    names = VisionWeightNames(isNested: files[VisionWeightNames.nestedClassToken] != nil)
  }

  /// Loads the tower; nil for a configuration without one.
  package mutating func load(
    activation: ActivationType, compute: Compute
  ) throws(SafetensorsError) -> VisionEncoder? {
    guard let c = configuration.vision else { return nil }
    let width = c.hiddenSize
    let hidden = configuration.text.hiddenSize
    let side = c.imageSize / c.patchSize
    let patches = try product(
      names.patches, shape: [width, c.channelCount, c.patchSize, c.patchSize])
    let classToken = try classToken(width)
    let positions = try floats(
      names.positions, shape: [side * side + 1, width])
    var layers: [VisionLayer] = []
    for layer in 0..<c.layerCount { layers.append(try self.layer(layer, c)) }
    return VisionEncoder(
      configuration: c, activation: activation, featureWidth: hidden, patches: patches,
      classToken: classToken,
      positions: PositionTable(positions, side: side, width: width), layers: layers,
      firstWindow: ConvolutionWindow(size: 2, stride: configuration.projectorStride),
      secondWindow: ConvolutionWindow(size: 3, stride: 2, padding: 1),
      firstConvolution: try product(
        names.firstConvolution, shape: [c.outputSize, width, 2, 2]),
      secondConvolution: try product(
        names.secondConvolution, shape: [2 * c.outputSize, c.outputSize, 3, 3]),
      projector: try product(
        names.projector, shape: [hidden, 2 * c.outputSize],
        hasBias: configuration.projectorHasBias),
      compute: compute)
  }

  /// Tensors of the tower that it did not use.
  package var unusedNames: [String] {
    files.names.filter { name in
      !used.contains(name) && WeightNames.visionPrefixes.contains { name.hasPrefix($0) }
    }
  }

  private mutating func layer(
    _ layer: Int, _ c: VisionConfiguration
  ) throws(SafetensorsError) -> VisionLayer {
    let width = c.hiddenSize
    let fused = names.fused(layer)
    var matrices: [WeightMatrix] = []
    var bias: [Float] = []
    // Engines read the fused tensor only; three of them mean the same.
    let isFused = files[VisionWeightNames.weight(fused)] != nil
    let separate = names.separate(layer)
    let parts =
      !isFused && files[VisionWeightNames.weight(separate[0])] != nil ? separate : [fused]
    for part in parts {
      let rows = 3 * width / parts.count
      matrices.append(try matrix(VisionWeightNames.weight(part), shape: [rows, width]))
      bias += try floats(VisionWeightNames.bias(part), shape: [rows])
    }
    return VisionLayer(
      fused: matrices, fusedBias: NormWeight(bias),
      output: try product(names.attentionOutput(layer), shape: [width, width]),
      attentionNorm: try norm(names.attentionNorm(layer), width),
      expand: try product(names.expand(layer), shape: [c.intermediateSize, width]),
      contract: try product(names.contract(layer), shape: [width, c.intermediateSize]),
      mlpNorm: try norm(names.mlpNorm(layer), width))
  }

  /// [1, C] in published files; [C] means the same.
  private mutating func classToken(_ width: Int) throws(SafetensorsError) -> [Float] {
    let isFlat = files[names.classToken]?.shape.count == 1
    return try floats(names.classToken, shape: isFlat ? [width] : [1, width])
  }

  private mutating func norm(
    _ name: String, _ width: Int
  ) throws(SafetensorsError) -> LayerNormWeight {
    LayerNormWeight(
      weight: NormWeight(try floats(VisionWeightNames.weight(name), shape: [width])),
      shift: NormWeight(try floats(VisionWeightNames.bias(name), shape: [width])))
  }

  private mutating func product(
    _ name: String, shape: [Int], hasBias: Bool = true
  ) throws(SafetensorsError) -> BiasedMatrix {
    let matrix = try matrix(VisionWeightNames.weight(name), shape: shape)
    let bias =
      hasBias
      ? try floats(VisionWeightNames.bias(name), shape: [shape[0]])
      : [Float](repeating: 0, count: shape[0])
    return BiasedMatrix(matrix: matrix, bias: NormWeight(bias))
  }

  /// A tensor whose first dimension is the outputs; the others together are the inputs.
  private mutating func matrix(
    _ name: String, shape: [Int]
  ) throws(SafetensorsError) -> WeightMatrix {
    let tensor = try files.tensor(name, shape: shape)
    used.insert(name)
    let columns = shape.dropFirst().reduce(1, *)
    switch tensor.elementType {
    case .bfloat16: return .bfloat16(tensor.bytes, rows: shape[0], columns: columns)
    case .float32: return .float32(tensor.bytes, rows: shape[0], columns: columns)
    default: throw wrongType(name, tensor, expected: "BF16 or F32")
    }
  }

  private mutating func floats(
    _ name: String, shape: [Int]
  ) throws(SafetensorsError) -> [Float] {
    let tensor = try files.tensor(name, shape: shape)
    used.insert(name)
    guard let values = tensor.floats() else {
      throw wrongType(name, tensor, expected: "F32, BF16 or F16")
    }
    return values
  }

  private func wrongType(_ name: String, _ tensor: Tensor, expected: String) -> SafetensorsError {
    .wrongElementType(
      tensor: name, path: files.path(of: name), found: tensor.elementType.rawValue,
      expected: expected)
  }
}
