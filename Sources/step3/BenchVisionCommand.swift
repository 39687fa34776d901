import CommandLineInterface
import Foundation
import ImageProcessing
import Inference
import JSONScanning
import Kernels
import ModelConfiguration
import Step3Model

/// `step3 bench vision`: preparing images, and the tower against the arithmetic peak.
struct BenchVisionCommand: Command {
  static let specification = CommandSpecification(
    "bench vision", abstract: "Measure preparing images, and the vision tower against the peak.",
    example: "step3 bench vision --model DIR --batches 1,4", takesModel: true,
    arguments: [
      Argument("FILE", repeated: true, help: "images whose decoding is measured as well")
    ],
    flags: [
      .integerList("batches", help: "views that are encoded together (1,4)"),
      .integer("repeats", in: 1...100, default: 3, help: "how often each row is measured"),
      BenchReport.file, ModelFlags.dtype,
    ] + ImageFlags.all,
    discussion: """
      Only the tower is loaded, no text layers. A view is the whole image or a crop, at the sizes \
      the checkpoint asks for. The shares of a row are of its time: patches (gathering, their \
      product, positions), layers, and what follows them (two convolutions, projector).
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let preprocessor = try ImageFlags.preprocessor(arguments)
    let repeats = arguments.integer("repeats")
    var report = BenchReport(arguments)
    for path in arguments.arguments("FILE") {
      try decode(path, ImageFlags.decoder(arguments), arguments, repeats, &report)
    }
    for (width, height) in [(640, 480), (1920, 1080), (4000, 3000)] {
      let size = ImageSize(width: width, height: height)
      try prepare(size, preprocessor, repeats, &report)
    }
    var tower = try TowerBenchmark(arguments)
    var sides = [preprocessor.configuration.imageSize]
    if preprocessor.configuration.cropsPatches { sides.append(preprocessor.configuration.cropSize) }
    for side in sides {
      for batch in arguments.isGiven("batches") ? arguments.integers("batches") : [1, 4] {
        tower.measure(side: side, batch: batch, repeats: repeats, &report)
      }
    }
    try report.finish()
  }

  private static func decode(
    _ path: String, _ decoder: ImageDecoder, _ arguments: ParsedArguments, _ repeats: Int,
    _ report: inout BenchReport
  ) throws {
    let bytes = try ImageFlags.bytes(path, limits: ImageFlags.limits(arguments))
    var size = ImageSize(width: 0, height: 0)
    let seconds = try median(repeats) {
      do throws(ImageError) { size = try decoder.decode(bytes).size } catch {
        throw ImageFileError(path: path, error: error)
      }
    }
    report.add(
      text: "decode  \(path)  \(size)  \(rounded(seconds * 1e3)) ms  "
        + "\(rounded(Double(size.pixelCount) / seconds / 1e6)) megapixels/s",
      row: [
        "name": "decode", "file": .string(path), "width": .integer(size.width),
        "height": .integer(size.height), "seconds": .number(seconds),
      ])
  }

  private static func prepare(
    _ size: ImageSize, _ preprocessor: ImagePreprocessor, _ repeats: Int,
    _ report: inout BenchReport
  ) throws {
    // Bytes that are neither smooth nor equal; resizing takes as long whatever they are.
    let bytes = (0..<3 * size.pixelCount).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 7) }
    let image = RGBImage(size: size, bytes: bytes)
    var crops = 0
    let seconds = try median(repeats) {
      let prepared = try preprocessor.prepare(image)
      crops = prepared.cropCount
      _ = prepared.allCropPixels
    }
    report.add(
      text: "prepare  \(size)  \(crops) crops  \(preprocessor.threadCount) threads  "
        + "\(rounded(seconds * 1e3)) ms  "
        + "\(rounded(Double(size.pixelCount) / seconds / 1e6)) megapixels/s",
      row: [
        "name": "prepare", "width": .integer(size.width), "height": .integer(size.height),
        "crops": .integer(crops), "threads": .integer(preprocessor.threadCount),
        "seconds": .number(seconds),
      ])
  }
}

/// The median of some runs after one that warms caches and page tables.
private func median(_ repeats: Int, _ body: () throws -> Void) rethrows -> Double {
  let clock = ContinuousClock()
  try body()
  var all: [Double] = []
  for _ in 0..<repeats {
    let start = clock.now
    try body()
    all.append((clock.now - start).seconds)
  }
  return all.sorted()[repeats / 2]
}

private func rounded(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }

/// A tower whose batches are timed.
private struct TowerBenchmark: ~Copyable {
  private let encoder: VisionEncoder
  private var work: VisionWork
  private let limits: MachineLimits

  init(_ arguments: ParsedArguments) throws {
    let folder = try ModelFolder(path: arguments.model)
    let options = ModelFlags.options(arguments)
    let kernels: KernelSet
    do { kernels = try KernelSet.select(options.kernels) } catch {
      throw InferenceError.kernels(error)
    }
    let compute = Compute(kernels: kernels, threadCount: options.threads)
    var loader = VisionLoader(files: folder.files, configuration: folder.configuration)
    guard
      let tower = try loader.load(
        activation: options.resolvedActivation(weightByteCount: folder.textByteCount),
        compute: compute)
    else {
      throw CommandFailure(
        .modelFiles, code: "no_vision",
        "\(arguments.model): its config.json names a tower that its files do not hold")
    }
    encoder = tower
    work = VisionWork(encoder: tower)
    limits = MachineLimits.measure(team: compute.team, repeats: 5)
  }

  /// Seconds of the parts of one batch.
  private struct Parts {
    var patches = 0.0
    var layers = 0.0
    var projection = 0.0
    var total: Double { patches + layers + projection }
  }

  mutating func measure(side: Int, batch: Int, repeats: Int, _ report: inout BenchReport) {
    let channels = encoder.configuration.channelCount
    let pixels = (0..<channels * side * side).map { Float($0 % 251) / 125 - 1 }
    let views = (0..<batch).map { _ in PixelView(side: side, pixels: pixels) }
    var runs = (0...repeats).map { _ in encode(views) }
    runs.removeFirst()
    let parts = runs.sorted { $0.total < $1.total }[repeats / 2]
    let flops = 2 * Double(encoder.work(side: side) * batch)
    let best = encoder.activation == .float32 ? .float32 : limits.bestForBFloat16
    let peak = limits.peaks[best]?.median ?? .infinity
    let share = flops / parts.total / peak
    func percent(_ part: Double) -> String { "\(rounded(100 * part / parts.total)) %" }
    report.add(
      text: "encode  \(side) px  batch \(batch)  \(encoder.rowCount(side: side)) rows a view  "
        + "\(rounded(parts.total * 1e3 / Double(batch))) ms a view  "
        + "\(rounded(flops / parts.total / 1e9)) GFLOP/s, \(rounded(100 * share)) % of the "
        + "\(best.title) peak  (patches \(percent(parts.patches)), "
        + "layers \(percent(parts.layers)), then \(percent(parts.projection)))",
      row: [
        "name": "encode", "side": .integer(side), "batch": .integer(batch),
        "rows": .integer(encoder.rowCount(side: side)),
        "tokens": .integer(encoder.tokenCount(side: side)),
        "threads": .integer(limits.threadCount), "seconds": .number(parts.total),
        "seconds_patches": .number(parts.patches), "seconds_layers": .number(parts.layers),
        "seconds_projection": .number(parts.projection), "flops": .number(flops),
        "peak": .number(peak), "peak_of": .string("\(best)"), "share_of_peak": .number(share),
      ])
  }

  /// The last piece is a layer and what follows the layers; the layer's part of it is taken for
  /// that of the others.
  private mutating func encode(_ views: [PixelView]) -> Parts {
    let clock = ContinuousClock()
    var parts = Parts()
    var start = clock.now
    work.begin(views)
    parts.patches = (clock.now - start).seconds
    var layers: [Double] = []
    while true {
      start = clock.now
      let features = work.advance(budget: 0)
      let seconds = (clock.now - start).seconds
      guard features != nil else {
        layers.append(seconds)
        continue
      }
      let layer = min(seconds, layers.sorted().dropFirst(layers.count / 2).first ?? seconds)
      parts.layers = layers.reduce(layer, +)
      parts.projection = seconds - layer
      return parts
    }
  }
}
