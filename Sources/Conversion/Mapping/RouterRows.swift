package import Tensors

/// Where the router rows of upcycled layers come from.
///
/// Upcycled experts are equal, so any router leaves the output alone; it only decides which copy
/// works. Rows derived from the model's real activations spread tokens evenly and are given in a
/// checkpoint folder. Without one, the rows are cluster centres of the embedding, a data-free
/// stand-in: routing depends on the token, but the load may be uneven in deep layers, where
/// activations share a large constant part that the embedding does not show.
package enum RouterRows: Sendable {
  /// Centres of spherical k-means over embedding rows, scaled by the layer's norm.
  case embeddingClusters
  /// The router tensors of a checkpoint folder.
  case checkpoint(CheckpointFiles)

  private static let sampleCount = 2048
  private static let rounds = 10

  func rows(
    layer: Int, layout: MixtureLayout, source: LlamaSource
  ) throws(ConversionError) -> [Float] {
    let hidden = source.configuration.hiddenSize
    if layout.kind == .exactSplit {
      return [Float](repeating: 0, count: layout.expertCount * hidden)
    }
    switch self {
    case .embeddingClusters:
      return Self.clusters(layout.expertCount, layer: layer, source: source)
    case .checkpoint(let files):
      let name = Step3Names.layer(layer, Step3Names.router)
      let shape = [layout.expertCount, hidden]
      let tensor: Tensor
      do throws(SafetensorsError) { tensor = try files.tensor(name, shape: shape) } catch {
        throw .checkpoint(error)
      }
      guard let values = tensor.floats() else {
        throw .unsupportedElementType(
          path: files.path(of: name), tensor: name, type: tensor.elementType.rawValue)
      }
      return values
    }
  }

  /// [E, hidden], unit rows: centres of the directions that the layer's norm gives the embedding,
  /// after their mean is removed. Deterministic: fixed sample, fixed order, farthest-point start.
  private static func clusters(_ count: Int, layer: Int, source: LlamaSource) -> [Float] {
    let hidden = source.configuration.hiddenSize
    let weights = source.layers[layer].feedForwardNorm.all()
    let stride = max(1, source.configuration.vocabularySize / sampleCount)
    var points: [[Float]] = []
    for row in Swift.stride(from: 0, to: source.configuration.vocabularySize, by: stride) {
      let direction = unit(source.embedding.rows(row..<row + 1))
      points.append(direction.indices.map { direction[$0] * weights[$0] })
    }
    var mean = [Float](repeating: 0, count: hidden)
    for point in points { for i in 0..<hidden { mean[i] += point[i] / Float(points.count) } }
    points = points.map { point in unit((0..<hidden).map { point[$0] - mean[$0] }) }

    var centres = [points[0]]
    while centres.count < count {
      let nearest = points.map { point in centres.map { dot(point, $0) }.max() ?? 0 }
      let farthest = nearest.indices.min { nearest[$0] < nearest[$1] } ?? 0
      centres.append(points[farthest])
    }
    for _ in 0..<rounds {
      var sums = [[Float]](repeating: [Float](repeating: 0, count: hidden), count: count)
      for point in points {
        let similarity = centres.map { dot(point, $0) }
        let best = similarity.indices.max { similarity[$0] < similarity[$1] } ?? 0
        for i in 0..<hidden { sums[best][i] += point[i] }
      }
      centres = sums.indices.map { unit(sums[$0]) }
    }
    return centres.flatMap { $0 }
  }

  private static func dot(_ a: [Float], _ b: [Float]) -> Float {
    var sum: Float = 0
    for i in a.indices { sum += a[i] * b[i] }
    return sum
  }

  private static func unit(_ values: [Float]) -> [Float] {
    let length = dot(values, values).squareRoot()
    return length > 0 ? values.map { $0 / length } : values
  }
}
