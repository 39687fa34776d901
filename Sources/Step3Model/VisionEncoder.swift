package import Kernels
package import ModelConfiguration
package import Tensors

/// A matrix product with a bias.
package struct BiasedMatrix: Sendable {
  let matrix: WeightMatrix
  /// [rows]; zeros where the checkpoint has none.
  let bias: NormWeight
}

/// Weight and shift of a LayerNorm, [C] each.
package struct LayerNormWeight: Sendable {
  let weight: NormWeight
  let shift: NormWeight
}

/// One block of the tower; the norms are on the branches' outputs.
package struct VisionLayer: Sendable {
  /// C → 3·C as queries, keys, values; one matrix, or three.
  let fused: [WeightMatrix]
  /// [3·C].
  let fusedBias: NormWeight
  /// C → C.
  let output: BiasedMatrix
  let attentionNorm: LayerNormWeight
  /// C → M.
  let expand: BiasedMatrix
  /// M → C.
  let contract: BiasedMatrix
  let mlpNorm: LayerNormWeight
}

/// A view as the tower takes it: a whole image or a crop, normalised.
package struct PixelView: Sendable {
  /// S, pixels on a side.
  package let side: Int
  /// [channels, S, S].
  package let pixels: [Float]

  /// A view of `side` × `side` pixels.
  package init(side: Int, pixels: [Float]) {
    precondition(side > 0 && pixels.count % (side * side) == 0, "a view is not square")
    self.side = side
    self.pixels = pixels
  }
}

/// What stands in the place of a view's image tokens, [count, D].
package final class VisionFeatures: Sendable {
  /// Rows, one per image token.
  package let count: Int
  /// D.
  package let width: Int
  /// Row-major.
  package let values: Buffer<Float>

  init(values: consuming Buffer<Float>, width: Int) {
    count = values.count / width
    self.width = width
    self.values = values
  }

  /// Bytes of the values.
  package var byteCount: Int { 4 * values.count }
}

/// The vision tower, the two convolutions after it and the projector.
///
///     x = [3 copies of class, class, patches] + positions        [4 + g², C]
///     x += norm(output(attention(x)));  x += norm(contract(quickGELU(expand(x))))
///     features = projector(convolution(convolution(x without class tokens)))     [n², D]
///
/// A batch of views goes through it in pieces of one layer (see `VisionWork`), so that whoever
/// encodes can do something else in between. A view's features are the same bits whatever else is
/// in the batch.
package struct VisionEncoder: Sendable {
  /// Every dimension of the tower.
  package let configuration: VisionConfiguration
  /// What the arithmetic rounds activations to.
  package let activation: ActivationType
  /// D.
  package let featureWidth: Int
  /// C, channels · patch² → C.
  let patches: BiasedMatrix
  let classToken: [Float]
  let positions: PositionTable
  let layers: [VisionLayer]
  let firstWindow: ConvolutionWindow
  let secondWindow: ConvolutionWindow
  let firstConvolution: BiasedMatrix
  let secondConvolution: BiasedMatrix
  let projector: BiasedMatrix
  let compute: Compute

  /// The class token and its three copies: they stand before the patches, attend and are attended
  /// to, and are dropped at the end.
  static let classTokenCount = 4

  /// Image tokens of a view of `side` pixels; 0 when it is too small.
  package func tokenCount(side: Int) -> Int {
    let count = secondWindow.count(firstWindow.count(grid(side)))
    return count * count
  }

  /// Rows of a view of `side` pixels within the tower.
  package func rowCount(side: Int) -> Int {
    Self.classTokenCount + grid(side) * grid(side)
  }

  /// Multiply-adds of one layer for a view of `side` pixels.
  package func layerWork(side: Int) -> Int {
    let rows = rowCount(side: side)
    return rows * layerWorkPerRow + 2 * rows * rows * configuration.hiddenSize
  }

  /// Multiply-adds of one layer's matrices for one row.
  package var layerWorkPerRow: Int {
    let c = configuration
    return 4 * c.hiddenSize * c.hiddenSize + 2 * c.hiddenSize * c.intermediateSize
  }

  /// Multiply-adds of everything for a view of `side` pixels.
  package func work(side: Int) -> Int {
    let c = configuration
    let grid = grid(side)
    let first = firstWindow.count(grid)
    let tokens = tokenCount(side: side)
    let embedding = grid * grid * patches.matrix.columns * c.hiddenSize
    let convolutions =
      first * first * firstConvolution.matrix.columns * firstConvolution.matrix.rows
      + tokens * secondConvolution.matrix.columns * secondConvolution.matrix.rows
      + tokens * projector.matrix.columns * featureWidth
    return embedding + layers.count * layerWork(side: side) + convolutions
  }

  func grid(_ side: Int) -> Int { side / configuration.patchSize }

  /// The widest input of any matrix product.
  var widestInput: Int {
    ([patches, firstConvolution, secondConvolution, projector].map(\.matrix.columns)
      + [configuration.hiddenSize, configuration.intermediateSize]).max() ?? 1
  }

  /// The widest output of any matrix product that goes through the shared scratch.
  var widestOutput: Int {
    ([patches, firstConvolution, secondConvolution, projector].map(\.matrix.rows)
      + [configuration.hiddenSize, configuration.intermediateSize]).max() ?? 1
  }
}
