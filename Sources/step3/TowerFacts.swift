import Inference
import JSONScanning
import Kernels
import ModelConfiguration
import Step3Model
import Tensors

/// What `inspect` tells of a vision tower.
struct TowerFacts {
  let parameterCount: Int
  let byteCount: Int
  /// Side in pixels, rows within the tower and image tokens, of the whole image and of a crop.
  let views: [(name: String, side: Int, rows: Int, tokens: Int, work: Int)]
  /// Bytes that encoding takes besides the weights.
  let scratchByteCount: Int

  /// The facts of the checkpoint's tower; nil where it has none.
  init?(_ folder: ModelFolder, activation: ActivationType, compute: Compute) throws {
    guard folder.hasVision else { return nil }
    var loader = VisionLoader(files: folder.files, configuration: folder.configuration)
    guard let tower = try loader.load(activation: activation, compute: compute),
      let images = try ModelFolder.imagePreprocessing(directory: folder.path)
    else { return nil }
    let names = folder.files.names.filter { name in
      WeightNames.visionPrefixes.contains { name.hasPrefix($0) }
    }
    parameterCount = names.reduce(0) { $0 + (folder.files[$1]?.shape.reduce(1, *) ?? 0) }
    byteCount = folder.visionByteCount
    var sides = [("whole image", images.imageSize)]
    if images.cropsPatches { sides.append(("crop", images.cropSize)) }
    views = sides.map { name, side in
      (
        name, side, tower.rowCount(side: side), tower.tokenCount(side: side),
        tower.work(side: side)
      )
    }
    scratchByteCount = VisionWork.scratchByteCount(
      folder.configuration, activation: activation, rowLimit: VisionWork.rowLimit)
  }

  var json: JSONValue {
    [
      "parameters": .integer(parameterCount), "bytes": .integer(byteCount),
      "scratch": .integer(scratchByteCount),
      "views": .array(
        views.map {
          [
            "name": .string($0.name), "side": .integer($0.side), "rows": .integer($0.rows),
            "tokens": .integer($0.tokens), "flops": .integer(2 * $0.work),
          ]
        }),
    ]
  }

  /// The lines of the text form.
  var lines: [String] {
    var lines = [
      "", "vision tower",
      "  \(pad("parameters"))\(parameterCount)", "  \(pad("bytes"))\(megabytes(byteCount))",
      "  \(pad("scratch"))\(megabytes(scratchByteCount))",
    ]
    for view in views {
      lines.append(
        "  \(pad(view.name))\(view.side) px, \(view.rows) rows, \(view.tokens) image tokens, "
          + "\(Double(view.work / 50_000_000) / 10) GFLOP")
    }
    return lines
  }

  private func pad(_ text: String) -> String {
    text + String(repeating: " ", count: max(1, 20 - text.count))
  }

  private func megabytes(_ bytes: Int) -> String { "\(Double(bytes / 100_000) / 10) MB" }
}
