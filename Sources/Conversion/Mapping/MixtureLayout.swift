/// Which layers become mixtures of experts, and how their neurons are dealt out.
///
/// Experts, experts per token and widths are global in a Step3 configuration, so one layout serves
/// every mixture layer; all other layers stay dense. Both kinds give the dense layer's output:
/// `upcycled` because the experts are identical copies and the weights of the chosen ones sum to 1,
/// `exactSplit` because every expert is chosen with weight 1/K and its down projection carries K.
package struct MixtureLayout: Equatable, Sendable {
  /// How a dense layer is turned into experts.
  package enum Kind: String, Sendable {
    /// A shared part, and identical copies of the other neurons of which one is chosen.
    case upcycled
    /// A shared part, and disjoint slices of the other neurons, all chosen.
    case exactSplit = "exact-split"
  }

  /// How the dense layer is turned into experts.
  package let kind: Kind
  /// The mixture layers, ascending.
  package let layers: [Int]
  package let expertCount: Int
  package let expertsPerToken: Int
  /// Neurons of one routed expert.
  package let expertWidth: Int
  /// Neurons of the shared expert, the first of the dense layer.
  package let sharedWidth: Int

  /// Lays out `layers` (nil for the kind's own choice) of a model with `expertCount` experts.
  package init(
    _ kind: Kind, layers: [Int]?, expertCount: Int, of model: LlamaConfiguration
  ) throws(ConversionError) {
    let size = model.feedForwardSize
    let chosen = layers.map { Array(Set($0)).sorted() } ?? Self.standardLayers(kind, of: model)
    for layer in chosen where layer < 0 || layer >= model.layerCount {
      throw .noSuchLayer(layer: layer, layerCount: model.layerCount)
    }
    // Widths in whole 32s where the layer is large enough: groups of 32 quantise together.
    let wanted: Int
    switch kind {
    case .upcycled: wanted = size / 2
    case .exactSplit: wanted = size * 3 / 4 / max(1, expertCount)
    }
    let width = wanted >= 32 ? wanted / 32 * 32 : wanted
    let shared = kind == .upcycled ? size - width : size - expertCount * width
    guard expertCount >= 1, width >= 1, shared >= 1 else {
      throw .expertsDoNotFit(layer: nil, experts: expertCount, feedForwardSize: size)
    }
    self.kind = kind
    self.layers = chosen
    self.expertCount = expertCount
    expertsPerToken = kind == .upcycled ? 1 : expertCount
    expertWidth = width
    sharedWidth = shared
  }

  /// Upcycled: every seventh layer from the seventh on; split: all but the first.
  private static func standardLayers(_ kind: Kind, of model: LlamaConfiguration) -> [Int] {
    switch kind {
    case .exactSplit: return Array(min(1, model.layerCount - 1)..<model.layerCount)
    case .upcycled:
      let seventh = (0..<model.layerCount).filter { $0 % 7 == 6 }
      return seventh.isEmpty ? [model.layerCount - 1] : seventh
    }
  }

  /// The neurons of the dense layer that expert `index` holds.
  func neurons(ofExpert index: Int) -> Range<Int> {
    let start = sharedWidth + (kind == .upcycled ? 0 : index * expertWidth)
    return start..<start + expertWidth
  }

  /// What a routed down projection is multiplied by so that the routing weights cancel.
  var downScale: Float { kind == .upcycled ? 1 : Float(expertsPerToken) }
}
