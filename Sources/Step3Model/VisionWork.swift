import Kernels
import ModelConfiguration
import Tensors

/// A batch of views on its way through the tower, and the memory it needs.
///
/// `begin`, then `advance` until it gives features. Memory is kept for the next batch.
package struct VisionWork: ~Copyable, Sendable {
  /// Rows that go through a matrix product at a time; bounds the memory of the wide ones.
  static let rowsPerProduct = 512

  /// Rows that whoever makes batches may put into one; bounds the memory of the stream.
  package static let rowLimit = 4096

  private let encoder: VisionEncoder
  private var views: [View] = []
  private var nextLayer = 0
  /// Positions by grid, with the class token's row before them, [4 + g², C].
  private var positions: [Int: NormWeight] = [:]

  /// The residual stream of all views, [rows, C].
  private var hidden: Buffer<Float>
  private var fused: Buffer<Float>
  private var attended: Buffer<Float>
  private var memory: ViewMemory
  /// Inputs and outputs of single products, `rowsPerProduct` rows.
  private var input: LinearInput
  private var columns: Buffer<Float>
  private var product: Buffer<Float>

  /// One view: its rows of the stream and its patches on a side.
  private struct View: Sendable {
    var rows: Range<Int>
    var grid: Int
  }

  /// Nothing to do yet.
  package init(encoder: VisionEncoder) {
    self.encoder = encoder
    let c = encoder.configuration
    hidden = Buffer(count: 0)
    fused = Buffer(count: 0)
    attended = Buffer(count: 0)
    memory = ViewMemory(
      activation: encoder.activation, headDimension: c.hiddenSize / c.headCount, blockCount: 0)
    input = LinearInput(
      kernels: encoder.compute.kernels, activation: encoder.activation,
      maxTokens: Self.rowsPerProduct, maxColumns: encoder.widestInput,
      formats: [WeightMatrix.FormatSet(.float32), WeightMatrix.FormatSet(.bfloat16)])
    columns = Buffer(count: Self.rowsPerProduct * encoder.widestInput)
    product = Buffer(count: Self.rowsPerProduct * encoder.widestOutput)
  }

  /// Whether there are views in it.
  package var isEmpty: Bool { views.isEmpty }

  /// Takes a batch of views up: patches and positions. The last batch must have ended.
  package mutating func begin(_ batch: [PixelView]) {
    precondition(isEmpty, "a batch of views is under way")
    var first = 0
    for view in batch {
      let rows = encoder.rowCount(side: view.side)
      views.append(View(rows: first..<first + rows, grid: encoder.grid(view.side)))
      first += rows
    }
    reserve(rows: first)
    nextLayer = 0
    for (view, pixels) in zip(views, batch) { embed(pixels, view) }
  }

  /// Goes on by as many layers as `budget` multiply-adds allow, at least one; the features of all
  /// views in the end.
  package mutating func advance(budget: Int) -> [VisionFeatures]? {
    precondition(!isEmpty, "no batch of views is under way")
    let cost = views.reduce(0) {
      $0 + encoder.layerWork(side: $1.grid * encoder.configuration.patchSize)
    }
    let end = min(encoder.layers.count - nextLayer, max(1, budget / max(1, cost))) + nextLayer
    while nextLayer < end {
      runLayer(encoder.layers[nextLayer])
      nextLayer += 1
    }
    if nextLayer < encoder.layers.count { return nil }
    let features = views.map { project($0) }
    views = []
    return features
  }

  /// Drops the batch.
  package mutating func cancel() { views = [] }

  private var width: Int { encoder.configuration.hiddenSize }
  private var compute: Compute { encoder.compute }

  private mutating func reserve(rows: Int) {
    let c = encoder.configuration
    let blocks = views.reduce(0) {
      $0 + ViewMemory.blockCount(rows: $1.rows.count, heads: c.headCount)
    }
    if hidden.count < rows * width {
      hidden = Buffer(count: rows * width)
      fused = Buffer(count: rows * 3 * width)
      attended = Buffer(count: rows * width)
    }
    if memory.blockCount < blocks {
      memory = ViewMemory(
        activation: encoder.activation, headDimension: width / c.headCount, blockCount: blocks)
    }
  }

  // MARK: Into the tower

  private mutating func embed(_ pixels: PixelView, _ view: View) {
    let c = encoder.configuration
    precondition(
      pixels.pixels.count == c.channelCount * pixels.side * pixels.side,
      "a view with other channels")
    let image = Buffer(pixels.pixels)
    let matrix = encoder.patches.matrix
    var patches = Buffer<Float>(count: view.grid * view.grid * matrix.columns)
    compute.gatherPatches(
      image, side: pixels.side, channels: c.channelCount, patch: c.patchSize, into: &patches, at: 0
    )
    let start = view.rows.lowerBound + VisionEncoder.classTokenCount
    for rows in Self.chunks(0..<view.grid * view.grid) {
      compute.prepare(
        &input, from: patches, rowCount: rows.count, columns: matrix.columns,
        at: rows.lowerBound * matrix.columns)
      compute.linear(matrix, input, into: &hidden, at: (start + rows.lowerBound) * width)
    }
    compute.addRows(
      encoder.patches.bias.values, columns: width, rowCount: view.grid * view.grid, into: &hidden,
      at: start)
    let table = positions[view.grid] ?? makePositions(view.grid)
    for row in 0..<VisionEncoder.classTokenCount {
      for column in 0..<width {
        hidden[(view.rows.lowerBound + row) * width + column] = encoder.classToken[column]
      }
    }
    compute.addRows(
      table.values, columns: width, rowCount: view.rows.count, into: &hidden,
      at: view.rows.lowerBound)
  }

  /// The class token's position four times, as its copies are made after positions are added.
  private mutating func makePositions(_ grid: Int) -> NormWeight {
    var rows: [Float] = []
    for _ in 0..<VisionEncoder.classTokenCount { rows += encoder.positions.classRow }
    rows += encoder.positions.rows(grid: grid)
    let table = NormWeight(rows)
    positions[grid] = table
    return table
  }

  // MARK: A layer

  private mutating func runLayer(_ layer: VisionLayer) {
    let c = encoder.configuration
    let rowCount = views.last?.rows.upperBound ?? 0
    for rows in Self.chunks(0..<rowCount) {
      compute.prepare(
        &input, from: hidden, rowCount: rows.count, columns: width, at: rows.lowerBound * width)
      var column = 0
      for matrix in layer.fused {
        compute.linear(
          matrix, input, into: &fused, at: rows.lowerBound * 3 * width + column, stride: 3 * width)
        column += matrix.rows
      }
    }
    compute.attendViews(
      &fused, bias: layer.fusedBias.values, views: views.map(\.rows), heads: c.headCount,
      headDimension: width / c.headCount, memory: &memory, into: &attended)
    for rows in Self.chunks(0..<rowCount) {
      compute.prepare(
        &input, from: attended, rowCount: rows.count, columns: width, at: rows.lowerBound * width)
      compute.linear(layer.output.matrix, input, into: &product)
      addNorm(layer.attentionNorm, bias: layer.output.bias, rows)

      compute.prepare(
        &input, from: hidden, rowCount: rows.count, columns: width, at: rows.lowerBound * width)
      compute.linear(layer.expand.matrix, input, into: &product)
      compute.addBiasQuickGELU(
        &product, bias: layer.expand.bias.values, rowCount: rows.count)
      compute.prepare(
        &input, from: product, rowCount: rows.count, columns: c.intermediateSize)
      compute.linear(layer.contract.matrix, input, into: &product)
      addNorm(layer.mlpNorm, bias: layer.contract.bias, rows)
    }
  }

  private mutating func addNorm(_ norm: LayerNormWeight, bias: NormWeight, _ rows: Range<Int>) {
    compute.addLayerNorm(
      &product, bias: bias.values, weight: norm.weight.values, shift: norm.shift.values,
      epsilon: Float(encoder.configuration.normEpsilon), rowCount: rows.count, into: &hidden,
      at: rows.lowerBound)
  }

  // MARK: Out of the tower

  private mutating func project(_ view: View) -> VisionFeatures {
    let (first, second) = (encoder.firstWindow, encoder.secondWindow)
    let start = view.rows.lowerBound + VisionEncoder.classTokenCount
    let cells = Self.windows(
      of: hidden, first: start, grid: view.grid, channels: width, first, compute)
    let grid = first.count(view.grid)
    let narrow = multiply(encoder.firstConvolution, cells, rowCount: grid * grid)
    let wideCells = Self.windows(
      of: narrow, first: 0, grid: grid, channels: encoder.firstConvolution.matrix.rows, second,
      compute)
    let count = second.count(grid) * second.count(grid)
    let wide = multiply(encoder.secondConvolution, wideCells, rowCount: count)
    return VisionFeatures(
      values: multiply(encoder.projector, wide, rowCount: count), width: encoder.featureWidth)
  }

  /// The inputs of a convolution, one row per window.
  private static func windows(
    of cells: borrowing Buffer<Float>, first: Int, grid: Int, channels: Int,
    _ window: ConvolutionWindow, _ compute: Compute
  ) -> Buffer<Float> {
    let count = window.count(grid) * window.count(grid)
    var result = Buffer<Float>(count: count * channels * window.size * window.size)
    compute.gatherWindows(
      cells, first: first, grid: grid, channels: channels, window, into: &result)
    return result
  }

  private mutating func multiply(
    _ weights: BiasedMatrix, _ x: borrowing Buffer<Float>, rowCount: Int
  ) -> Buffer<Float> {
    let matrix = weights.matrix
    var result = Buffer<Float>(count: rowCount * matrix.rows)
    for rows in Self.chunks(0..<rowCount) {
      compute.prepare(
        &input, from: x, rowCount: rows.count, columns: matrix.columns,
        at: rows.lowerBound * matrix.columns)
      compute.linear(matrix, input, into: &result, at: rows.lowerBound * matrix.rows)
    }
    compute.addRows(
      weights.bias.values, columns: matrix.rows, rowCount: rowCount, into: &result)
    return result
  }

  private static func chunks(_ rows: Range<Int>) -> [Range<Int>] {
    stride(from: rows.lowerBound, to: rows.upperBound, by: rowsPerProduct).map {
      $0..<min(rows.upperBound, $0 + rowsPerProduct)
    }
  }
}
