import Kernels
import ModelConfiguration

/// What one step of a model reads and computes: the ground of every roofline.
package struct ModelTraffic: Sendable, Equatable {
  /// Weight bytes that every step reads: attention, dense layers, shared experts, routers, head.
  package private(set) var alwaysByteCount = 0
  /// Weight bytes of all routed experts.
  package private(set) var expertByteCount = 0
  /// Parameters of the text network by part, in the order of `parts`.
  package private(set) var parameterCounts: [Part: Int] = [:]
  /// Weight bytes by part; of the routed experts, of all of them.
  private var byteCounts: [Part: Int] = [:]
  private let configuration: TextConfiguration
  /// Multiply-adds of matrix products per token, times two; the head apart.
  package private(set) var layerFlopCount = 0
  /// The same for the output head.
  package private(set) var headFlopCount = 0
  /// Share of the experts that one token visits, K / E.
  private let visitedShare: Double

  /// Parts of the network.
  package enum Part: String, Sendable, CaseIterable {
    case embedding, attention, dense, sharedExperts, routedExperts, routers, norms, head
  }

  /// Adds up the matrices of a loaded network.
  package init(decoder: TextDecoder, feedForward: [FeedForwardLayer]) {
    let c = decoder.configuration
    configuration = c
    visitedShare = Double(c.expertsPerToken) / Double(c.expertCount)
    parameterCounts[.embedding] = c.vocabularySize * c.hiddenSize
    parameterCounts[.norms] =
      c.hiddenSize + c.layerCount * (2 * c.hiddenSize + c.sharedQueryDimension)
    for layer in decoder.layers {
      let a = layer.attention
      for matrix in [a.queryDown, a.queryUp, a.key, a.value, a.output] {
        add(matrix, to: .attention)
      }
      if let router = layer.router { add(router, to: .routers) }
    }
    for layer in feedForward {
      switch layer {
      case .dense(let mlp): add(mlp, to: .dense)
      case .mixture(let mixture):
        add(mixture.sharedExpert, to: .sharedExperts)
        for expert in mixture.experts { addRouted(expert) }
        layerFlopCount += flops(mixture.experts[0]) * c.expertsPerToken
      }
    }
    alwaysByteCount += decoder.outputHead.byteCount
    byteCounts[.head] = decoder.outputHead.byteCount
    headFlopCount = 2 * decoder.outputHead.rows * decoder.outputHead.columns
    if !decoder.isTied {
      parameterCounts[.head] = decoder.outputHead.rows * decoder.outputHead.columns
    }
  }

  /// All parameters of the text network.
  package var parameterCount: Int { parameterCounts.values.reduce(0, +) }

  /// Parameters that one token uses; of the embedding, its row.
  package var activeParameterCount: Int {
    let routed = parameterCounts[.routedExperts, default: 0]
    let embedding = parameterCounts[.embedding, default: 0]
    let unused = Double(routed) * (1 - visitedShare)
    let head = parameterCounts[.head] == nil ? embedding : 0
    return parameterCount - embedding + head - Int(unused.rounded())
  }

  /// Weight bytes that a step of `batch` tokens reads when routing is uniform.
  package func byteCount(batch: Int) -> Double {
    Double(alwaysByteCount) + Double(expertByteCount) * visitedShare(batch: batch)
  }

  /// Weight bytes that a step of the whole Step3 reads if all its layers are stored as these are;
  /// nil unless this network is some layers of its shape, of both kinds.
  package func wholeModelByteCount(batch: Int) -> Double? {
    let (own, whole) = (configuration, TextConfiguration())
    let isSlice =
      own.layerCount < whole.layerCount && own.hiddenSize == whole.hiddenSize
      && own.headCount == whole.headCount && own.headDimension == whole.headDimension
      && own.sharedQueryDimension == whole.sharedQueryDimension
      && own.denseWidth == whole.denseWidth && own.expertWidth == whole.expertWidth
      && own.sharedExpertWidth == whole.sharedExpertWidth && own.expertCount == whole.expertCount
      && own.expertsPerToken == whole.expertsPerToken
    let mixtures = own.isMixtureLayer.prefix(own.layerCount).count { $0 }
    guard isSlice, mixtures > 0, mixtures < own.layerCount else { return nil }
    func perLayer(_ parts: [Part], of layers: Int) -> Double {
      parts.reduce(0) { $0 + Double(byteCounts[$1] ?? 0) } / Double(layers)
    }
    let wholeMixtures = Double(whole.isMixtureLayer.count { $0 })
    return Double(whole.layerCount) * perLayer([.attention], of: own.layerCount)
      + (Double(whole.layerCount) - wholeMixtures)
      * perLayer([.dense], of: own.layerCount - mixtures)
      + wholeMixtures
      * (perLayer([.sharedExperts, .routers], of: mixtures)
        + perLayer([.routedExperts], of: mixtures) * visitedShare(batch: batch))
      + perLayer([.head], of: own.vocabularySize) * Double(whole.vocabularySize)
  }

  /// Share of the experts that a step of `batch` tokens visits when routing is uniform.
  private func visitedShare(batch: Int) -> Double {
    var missed = 1.0
    for _ in 0..<batch { missed *= 1 - visitedShare }
    return 1 - missed
  }

  private mutating func add(_ matrix: WeightMatrix, to part: Part) {
    alwaysByteCount += matrix.byteCount
    byteCounts[part, default: 0] += matrix.byteCount
    layerFlopCount += 2 * matrix.rows * matrix.columns
    parameterCounts[part, default: 0] += matrix.rows * matrix.columns
  }

  private mutating func add(_ mlp: SwiGLU, to part: Part) {
    for matrix in mlp.matrices { add(matrix, to: part) }
  }

  private mutating func addRouted(_ mlp: SwiGLU) {
    for matrix in mlp.matrices {
      expertByteCount += matrix.byteCount
      byteCounts[.routedExperts, default: 0] += matrix.byteCount
      parameterCounts[.routedExperts, default: 0] += matrix.rows * matrix.columns
    }
  }

  private func flops(_ mlp: SwiGLU) -> Int {
    mlp.matrices.reduce(0) { $0 + 2 * $1.rows * $1.columns }
  }
}

extension SwiGLU {
  var matrices: [WeightMatrix] { [gateProjection, upProjection, downProjection] }
}
