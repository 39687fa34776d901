import Tensors

/// One tensor of the checkpoint to be: what it is, and how its rows come about.
struct PlannedTensor {
  let declaration: TensorDeclaration
  let write: (inout TensorSink) throws(ConversionError) -> Void
}

/// Every tensor of the checkpoint in file order, each produced in pieces of bounded size.
struct Step3Plan {
  let source: LlamaSource
  let mixture: MixtureLayout?
  let elementType: ElementType
  let router: RouterRows
  let vision: VisionAddition?
  private let wideRows: [(group: Int, row: Int)]
  private let configuration: LlamaConfiguration
  private static let elementsPerPiece = 1 << 17

  init(
    _ source: LlamaSource, mixture: MixtureLayout?, elementType: ElementType, router: RouterRows,
    vision: VisionAddition? = nil
  ) {
    self.source = source
    self.mixture = mixture
    self.elementType = elementType
    self.router = router
    self.vision = vision
    configuration = source.configuration
    wideRows =
      AttentionMapping(configuration: source.configuration, rowOrder: source.rowOrder).wideRows
  }

  /// The tensors in file order.
  func tensors() throws(ConversionError) -> [PlannedTensor] {
    var plan = [try table(source.embedding, to: Step3Names.embedding)]
    for layer in 0..<configuration.layerCount {
      plan += attention(layer)
      plan.append(
        copy(
          source.layers[layer].feedForwardNorm,
          to: Step3Names.layer(layer, Step3Names.feedForwardNorm), [configuration.hiddenSize]))
      if let mixture, mixture.layers.contains(layer) {
        plan += try self.mixture(layer, mixture)
      } else {
        plan += dense(layer)
      }
    }
    plan.append(copy(source.finalNorm, to: Step3Names.finalNorm, [configuration.hiddenSize]))
    // The head is written even where the source ties it: other Step3 engines load it always.
    let output = source.outputProjection ?? source.embedding
    plan.append(try table(output, to: Step3Names.output))
    for name in vision?.towerNames ?? [] {
      guard let (shape, values) = try vision?.values(name) else { continue }
      plan.append(
        planned(name, shape) { (sink, name) throws(ConversionError) in
          try sink.append(values, to: name)
        })
    }
    return plan
  }

  /// A table with a row per token: the source's, then those of added tokens.
  private func table(
    _ tensor: SourceTensor, to name: String
  ) throws(ConversionError) -> PlannedTensor {
    let added = try vision?.values(name)
    let rowCount = configuration.vocabularySize + (added?.shape[0] ?? 0)
    return planned(name, [rowCount, configuration.hiddenSize]) {
      (sink, name) throws(ConversionError) in
      try stream(tensor, 0..<tensor.rowCount, to: name, &sink)
      if let added { try sink.append(added.values, to: name) }
    }
  }

  // MARK: Attention

  private func attention(_ layer: Int) -> [PlannedTensor] {
    let weights = source.layers[layer]
    let (hidden, wide) = (configuration.hiddenSize, configuration.wideHeadDimension)
    let scales = QueryScales(
      normWeights: weights.attentionNorm.all(), configuration: configuration)
    func name(_ part: String) -> String { Step3Names.layer(layer, part) }
    return [
      copy(weights.attentionNorm, to: name(Step3Names.attentionNorm), [hidden]),
      rows(name(Step3Names.queryDown), [hidden, hidden]) { row in
        var values = [Float](repeating: 0, count: hidden)
        values[row] = scales.down
        return values
      },
      key(weights.key, to: name(Step3Names.key)),
      copy(weights.value, to: name(Step3Names.value), [wide, hidden]),
      planned(name(Step3Names.queryNorm), [hidden]) { (sink, name) throws(ConversionError) in
        try sink.append([Float](repeating: scales.norm, count: hidden), to: name)
      },
      queryUp(weights.query, scale: scales.up, to: name(Step3Names.queryUp)),
      attentionOutput(weights.output, to: name(Step3Names.attentionOutput)),
    ]
  }

  private func key(_ tensor: SourceTensor, to name: String) -> PlannedTensor {
    let dimension = configuration.headDimension
    return rows(name, [configuration.wideHeadDimension, configuration.hiddenSize]) { row in
      let place = wideRows[row]
      let sourceRow = place.group * dimension + place.row
      return tensor.rows(sourceRow..<sourceRow + 1)
    }
  }

  /// [H·D, hidden]: head h holds its source rows in slice g, zeros elsewhere.
  private func queryUp(_ tensor: SourceTensor, scale: Double, to name: String) -> PlannedTensor {
    let (hidden, wide) = (configuration.hiddenSize, configuration.wideHeadDimension)
    let (heads, dimension) = (configuration.headCount, configuration.headDimension)
    return planned(name, [heads * wide, hidden]) { (sink, name) throws(ConversionError) in
      let zeros = sink.encode([Float](repeating: 0, count: hidden))
      for head in 0..<heads {
        let group = configuration.group(ofHead: head)
        for place in wideRows {
          guard place.group == group else {
            try sink.append(encoded: zeros, to: name)
            continue
          }
          let row = head * dimension + place.row
          let values = tensor.rows(row..<row + 1)
          try sink.append(values.map { Float(Double($0) * scale) }, to: name)
        }
      }
    }
  }

  /// [hidden, H·D]: head h reads slice g of its wide value, so the other columns are zero.
  private func attentionOutput(_ tensor: SourceTensor, to name: String) -> PlannedTensor {
    let (heads, dimension) = (configuration.headCount, configuration.headDimension)
    let wide = configuration.wideHeadDimension
    return rows(name, [configuration.hiddenSize, heads * wide]) { row in
      let values = tensor.rows(row..<row + 1)
      var out = [Float](repeating: 0, count: heads * wide)
      for head in 0..<heads {
        let start = head * wide + configuration.group(ofHead: head) * dimension
        for d in 0..<dimension { out[start + d] = values[head * dimension + d] }
      }
      return out
    }
  }

  // MARK: Feed-forward

  private func dense(_ layer: Int) -> [PlannedTensor] {
    let weights = source.layers[layer]
    let (hidden, size) = (configuration.hiddenSize, configuration.feedForwardSize)
    let (gate, up, down) = Step3Names.dense
    return [
      copy(weights.gate, to: Step3Names.layer(layer, gate), [size, hidden]),
      copy(weights.up, to: Step3Names.layer(layer, up), [size, hidden]),
      copy(weights.down, to: Step3Names.layer(layer, down), [hidden, size]),
    ]
  }

  private func mixture(
    _ layer: Int, _ layout: MixtureLayout
  ) throws(ConversionError) -> [PlannedTensor] {
    let weights = source.layers[layer]
    let hidden = configuration.hiddenSize
    let (experts, width, shared) = (layout.expertCount, layout.expertWidth, layout.sharedWidth)
    let slices = (0..<experts).map { layout.neurons(ofExpert: $0) }
    let routerRows = try router.rows(layer: layer, layout: layout, source: source)
    func name(_ part: String) -> String { Step3Names.layer(layer, part) }
    func neurons(_ tensor: SourceTensor, _ part: String, _ shape: [Int], _ slices: [Range<Int>])
      -> PlannedTensor
    {
      planned(name(part), shape) { (sink, name) throws(ConversionError) in
        for slice in slices { try stream(tensor, slice, to: name, &sink) }
      }
    }
    func columns(
      _ part: String, _ shape: [Int], _ slices: [Range<Int>], scale: Float
    ) -> PlannedTensor {
      planned(name(part), shape) { (sink, name) throws(ConversionError) in
        for slice in slices {
          for row in 0..<hidden {
            let values = weights.down.rows(row..<row + 1)[slice]
            try sink.append(values.map { $0 * scale }, to: name)
          }
        }
      }
    }
    let sharedSlice = [0..<shared]
    return [
      planned(name(Step3Names.router), [experts, hidden]) { (sink, name) throws(ConversionError) in
        try sink.append(routerRows, to: name)
      },
      neurons(weights.gate, Step3Names.experts.0, [experts, width, hidden], slices),
      neurons(weights.up, Step3Names.experts.1, [experts, width, hidden], slices),
      columns(Step3Names.experts.2, [experts, hidden, width], slices, scale: layout.downScale),
      neurons(weights.gate, Step3Names.shared.0, [shared, hidden], sharedSlice),
      neurons(weights.up, Step3Names.shared.1, [shared, hidden], sharedSlice),
      columns(Step3Names.shared.2, [hidden, shared], sharedSlice, scale: 1),
    ]
  }

  // MARK: Pieces

  private func planned(
    _ name: String, _ shape: [Int],
    _ write: @escaping (inout TensorSink, String) throws(ConversionError) -> Void
  ) -> PlannedTensor {
    PlannedTensor(
      declaration: TensorDeclaration(name: name, elementType: elementType, shape: shape)
    ) { (sink) throws(ConversionError) in try write(&sink, name) }
  }

  /// A matrix whose rows are made one by one.
  private func rows(
    _ name: String, _ shape: [Int], _ row: @escaping (Int) -> [Float]
  ) -> PlannedTensor {
    planned(name, shape) { (sink, name) throws(ConversionError) in
      for index in 0..<shape[0] { try sink.append(row(index), to: name) }
    }
  }

  /// A tensor whose values are the source's own.
  private func copy(_ tensor: SourceTensor, to name: String, _ shape: [Int]) -> PlannedTensor {
    planned(name, shape) { (sink, name) throws(ConversionError) in
      try stream(tensor, 0..<tensor.rowCount, to: name, &sink)
    }
  }

  private func stream(
    _ tensor: SourceTensor, _ range: Range<Int>, to name: String, _ sink: inout TensorSink
  ) throws(ConversionError) {
    let step = max(1, Self.elementsPerPiece / tensor.columnCount)
    var row = range.lowerBound
    while row < range.upperBound {
      let end = min(row + step, range.upperBound)
      try sink.append(tensor.rows(row..<end), to: name)
      row = end
    }
  }
}
