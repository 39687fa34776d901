import DisaggregationTestSupport
import Foundation
import JSONScanning
import KVCaching
import Kernels
import ModelConfiguration
import Step3Model
import Synchronization
import Tensors
import TestSupport

/// A tiny checkpoint's attention halves with random feed-forward halves that are wide enough to be
/// cut in four.
struct TinyModel {
  let decoder: TextDecoder
  let layers: [FeedForwardLayer]
  let configuration: TextConfiguration
  let activation: ActivationType
  let compute: Compute

  static let tokenLimit = 48

  /// `format` is that of the feed-forward weights. Every model of one seed is the same.
  init(
    _ format: WeightMatrix.Format, activation: ActivationType, expertCount: Int = 8,
    kernels: KernelChoice = .auto
  ) throws {
    let directory = Fixtures.path("tiny/moe-bf16")
    let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: directory + "/config.json")))
    var text = try Step3Configuration(json: JSONValue(parsing: bytes), path: "config.json").text
    compute = Compute(kernels: try KernelSet.select(kernels), threadCount: 1)
    var loader = ModelLoader(
      files: try CheckpointFiles(directory: directory), configuration: text)
    decoder = try loader.load(activation: activation, compute: compute).decoder
    let width = format == .e4m3 ? 512 : 128
    text.expertWidth = width
    text.sharedExpertWidth = 2 * width
    text.denseWidth = width
    text.expertCount = expertCount
    layers = Self.layers(format, text)
    configuration = text
    self.activation = activation
  }

  private static let known = Mutex<[String: [FeedForwardLayer]]>([:])

  /// Random layers, made once.
  private static func layers(
    _ format: WeightMatrix.Format, _ text: TextConfiguration
  ) -> [FeedForwardLayer] {
    known.withLock { known in
      let key = "\(format) \(text.expertCount)"
      if let layers = known[key] { return layers }
      let layers = randomLayers(format, text)
      known[key] = layers
      return layers
    }
  }

  private static func randomLayers(
    _ format: WeightMatrix.Format, _ text: TextConfiguration
  ) -> [FeedForwardLayer] {
    var generator = SplitMix(seed: 77)
    return (0..<text.layerCount).map { layer in
      func expert(_ width: Int) -> SwiGLU {
        SwiGLU(
          gateProjection: .random(format, width, text.hiddenSize, &generator),
          upProjection: .random(format, width, text.hiddenSize, &generator),
          downProjection: .random(format, text.hiddenSize, width, &generator))
      }
      guard text.isMixtureLayer[layer] else { return .dense(expert(text.denseWidth)) }
      let shared = expert(text.sharedExpertWidth)
      return .mixture(
        MixtureOfExperts(
          sharedExpert: shared,
          experts: (0..<text.expertCount).map { _ in expert(text.expertWidth) }))
    }
  }

  func local() -> LocalFeedForward {
    LocalFeedForward(
      layers: layers, tokenLimit: Self.tokenLimit, configuration: configuration,
      activation: activation, compute: compute)
  }

  /// One sequence after the other: a prompt as one chunk each, then decoding all together.
  /// Returns each step's logits as bits.
  func run<FFN: FeedForward & ~Copyable>(
    prompts: [[Int32]], decodeSteps: Int, microBatches: Int, through feedForward: inout FFN,
    beginStep: () -> Void = {}
  ) throws -> [[Float]] {
    var session = try TinySession(self, sequenceCount: prompts.count, microBatches: microBatches)
    var results: [[Float]] = []
    for (sequence, prompt) in prompts.enumerated() {
      beginStep()
      results.append(
        try session.step([(sequence, prompt)], through: &feedForward))
    }
    var next = prompts.map { Int32(($0.count * 7) % 200) }
    for _ in 0..<decodeSteps {
      beginStep()
      results.append(
        try session.step(next.enumerated().map { ($0, [$1]) }, through: &feedForward))
      next = next.map { ($0 * 13 + 5) % 256 }
    }
    return results
  }
}

/// Sequences of a tiny model, each with a fixed range of cache blocks.
struct TinySession: ~Copyable {
  private let model: TinyModel
  private var step: Step
  private var cache: KVStore
  private var output: OutputScratch
  private var lengths: [Int]
  private static let blocksPerSequence = 4

  init(_ model: TinyModel, sequenceCount: Int, microBatches: Int) throws {
    self.model = model
    step = Step(
      tokenLimits: Array(repeating: TinyModel.tokenLimit, count: microBatches),
      configuration: model.decoder.configuration, activation: model.activation,
      compute: model.compute)
    cache = try KVStore(
      layout: KVLayout(
        elementType: .float32, headDimension: model.decoder.configuration.headDimension),
      layerCount: model.configuration.layerCount,
      blockCount: sequenceCount * Self.blocksPerSequence)
    output = OutputScratch(rowLimit: TinyModel.tokenLimit, decoder: model.decoder)
    lengths = Array(repeating: 0, count: sequenceCount)
  }

  /// Feeds tokens of some sequences; returns the logits of the last row of each, in order.
  mutating func step<FFN: FeedForward & ~Copyable>(
    _ rows: [(sequence: Int, tokens: [Int32])], through feedForward: inout FFN
  ) throws -> [Float] {
    let count = min(rows.count, step.microBatches.count)
    step.microBatchCount = count
    for m in 0..<count {
      let part = rows[m * rows.count / count..<(m + 1) * rows.count / count]
      place(Array(part), m)
    }
    try model.decoder.forward(&step, cache: &cache, through: &feedForward)
    var logits: [Float] = []
    let width = model.decoder.configuration.vocabularySize
    for m in 0..<count {
      let last = step.microBatches[m].spans.map { Int32($0.firstRow + $0.rowCount - 1) }
      var buffer = Buffer<Float>(count: last.count * width)
      model.decoder.logits(
        of: last, step.microBatches[m], scratch: &output, into: &buffer)
      logits += buffer.array(0..<last.count * width)
    }
    for (sequence, tokens) in rows { lengths[sequence] += tokens.count }
    return logits
  }

  private mutating func place(_ rows: [(sequence: Int, tokens: [Int32])], _ m: Int) {
    let size = cache.layout.blockSize
    var tokens: [Int32] = []
    var positions: [Int32] = []
    var slots: [Int32] = []
    var spans: [AttentionSpan] = []
    var tables: [Int32] = []
    for (sequence, new) in rows {
      spans.append(
        AttentionSpan(
          firstRow: tokens.count, rowCount: new.count, startPosition: lengths[sequence],
          blockTableOffset: tables.count))
      let first = Int32(sequence * Self.blocksPerSequence)
      for (index, token) in new.enumerated() {
        let position = lengths[sequence] + index
        tokens.append(token)
        positions.append(Int32(position))
        slots.append((first + Int32(position / size)) * Int32(size) + Int32(position % size))
      }
      tables += (0..<Int32(Self.blocksPerSequence)).map { first + $0 }
    }
    step.microBatches[m].tokens = tokens
    step.microBatches[m].positions = positions
    step.microBatches[m].slots = slots
    step.microBatches[m].spans = spans
    step.microBatches[m].blockTables = tables
  }
}

extension WeightMatrix {
  /// Random weights of about unit gain.
  static func random(
    _ format: Format, _ rows: Int, _ columns: Int, _ generator: inout SplitMix
  ) -> WeightMatrix {
    let gain = 1.7 / Float(columns).squareRoot()
    var bytes: [UInt8] = []
    func value() -> Float { (Float(generator.next() >> 40) / Float(1 << 23) - 1) * gain }
    for _ in 0..<rows * columns {
      switch format {
      case .float32: put(value().bitPattern, &bytes)
      case .bfloat16: put(bfloat16Bits(value()), &bytes)
      case .e4m3:
        // Magnitudes from 2 to 15.
        let bits = generator.next() >> 40
        bytes.append(UInt8(truncatingIfNeeded: bits & 0x87 | (8 + (bits >> 8) % 3) << 3))
      case .int8: bytes.append(UInt8(truncatingIfNeeded: generator.next() >> 40))
      case .int4: preconditionFailure("INT4 goes through the same code as INT8")
      }
    }
    let region = ByteRegion(copying: bytes)
    switch format {
    case .float32: return .float32(region, rows: rows, columns: columns)
    case .bfloat16: return .bfloat16(region, rows: rows, columns: columns)
    case .e4m3:
      var factors: [UInt8] = []
      for _ in 0..<scaleBlockCount(rows) * scaleBlockCount(columns) {
        put((Float(generator.next() >> 40) / Float(1 << 24) + 0.5) / 200, &factors)
      }
      return .e4m3(
        region, scaleInverse: ByteRegion(copying: factors), rows: rows, columns: columns)
    case .int8, .int4:
      var factors: [UInt8] = []
      for _ in 0..<rows { put(gain / 128, &factors) }
      return .int8(
        region,
        IntegerFactors(
          ByteRegion(copying: factors), .float32, .row, rows: rows, columns: columns),
        rows: rows, columns: columns)
    }
  }

  private static func put<T: FixedWidthInteger>(_ value: T, _ bytes: inout [UInt8]) {
    for index in 0..<T.bitWidth / 8 {
      bytes.append(UInt8(truncatingIfNeeded: value >> T(8 * index)))
    }
  }
  private static func put(_ value: Float, _ bytes: inout [UInt8]) {
    put(value.bitPattern, &bytes)
  }
}
