import KVCaching
package import Kernels
import ModelConfiguration
import Step3Model
import Tensors

/// One sequence fed to a model in chunks, each row's logits handed out: for scores, perplexity and
/// benchmarks, without a scheduler.
package struct ScoringSession: ~Copyable {
  /// The model.
  package var runtime: ModelRuntime
  /// Tokens fed so far.
  package private(set) var tokenCount = 0
  private let blockTable: [Int32]

  /// A session for up to `contextLength` tokens of the model in `folder`; `recorder` is told the
  /// inputs of matrices.
  package init(
    _ folder: borrowing ModelFolder, options: EngineOptions, contextLength: Int,
    recorder: InputRecorder? = nil
  ) throws(InferenceError) {
    var options = options
    options.contextLength = contextLength
    let blockCount = (contextLength + options.blockSize - 1) / options.blockSize
    options.cacheBlockCount = blockCount
    runtime = try ModelRuntime(
      folder, options: options, logitRowLimit: min(32, options.batchedTokenLimit),
      recorder: recorder)
    blockTable = (0..<Int32(blockCount)).map { $0 }
  }

  /// Forgets the sequence.
  package mutating func reset() { tokenCount = 0 }

  /// Feeds tokens as one row each, in chunks of the step's size.
  ///
  /// - Parameters:
  ///   - images: The images among them.
  ///   - wanted: Which of the rows' logits `body` gets; nil for none but the last.
  package mutating func feed(
    _ tokens: [Int], images: [PlacedImage] = [], logitsOf wanted: Range<Int>? = nil,
    _ body: (_ index: Int, _ logits: Span<Float>) -> Void = { _, _ in }
  ) throws(InferenceError) {
    let vocabularySize = runtime.decoder.configuration.vocabularySize
    if let bad = tokens.first(where: { $0 < 0 || $0 >= vocabularySize }) {
      throw .tokenOutOfRange(id: bad, vocabularySize: vocabularySize)
    }
    guard tokenCount + tokens.count <= runtime.contextLength else {
      throw .promptTooLong(
        tokenCount: tokenCount + tokens.count, contextLength: runtime.contextLength)
    }
    // Positions of images count from the first of `tokens`.
    let features = runtime.encode(images)
    let wanted = wanted ?? tokens.count - 1..<tokens.count
    var first = 0
    while first < tokens.count {
      let count = min(runtime.options.batchedTokenLimit, tokens.count - first)
      let chunk = first..<first + count
      place(tokens[chunk])
      runtime.step.microBatches[0].embedded = ModelRuntime.embeddedRows(
        features, start: first, count: count, row: 0)
      do { try runtime.forward() } catch { throw .feedForward(error) }
      let rows = chunk.clamped(to: wanted).map { Int32($0 - first) }
      runtime.withLogits(of: rows) { index, logits in
        body(first + Int(rows[index]), logits)
      }
      first += count
      tokenCount += count
    }
  }

  /// Describes the chunk's rows to the next step.
  private mutating func place(_ tokens: ArraySlice<Int>) {
    let size = Int32(runtime.options.blockSize)
    let start = Int32(tokenCount)
    let positions = start..<start + Int32(tokens.count)
    runtime.step.microBatches[0].tokens = tokens.map(Int32.init)
    runtime.step.microBatches[0].positions = Array(positions)
    runtime.step.microBatches[0].slots = positions.map {
      blockTable[Int($0 / size)] * size + $0 % size
    }
    runtime.step.microBatches[0].spans = [
      AttentionSpan(
        firstRow: 0, rowCount: tokens.count, startPosition: tokenCount, blockTableOffset: 0)
    ]
    runtime.step.microBatches[0].blockTables = blockTable
  }
}
