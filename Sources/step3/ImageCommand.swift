import CommandLineInterface
import Foundation
import ImageProcessing
import JSONScanning
import ModelConfiguration
import Tensors

/// `step3 image`: what becomes of images before the model sees them.
struct ImageCommand: Command {
  static let specification = CommandSpecification(
    "image", abstract: "Show what becomes of images before the model sees them.",
    example: "step3 image --model DIR photo.jpg --pixels-out pixels.safetensors",
    takesModel: true,
    arguments: [
      Argument("FILE", repeated: true, help: "image files: JPEG, PNG, WebP, GIF or BMP")
    ],
    flags: [
      .string(
        "pixels-out", "FILE",
        help: "write pixel_values F32 [images, 3, S, S] and patch_pixel_values [crops, 3, s, s]"),
      .string(
        "features-out", "FILE", help: "write features.<i> F32 [tokens, hidden]"),
      .string("decoded-out", "FILE", help: "write image.<i> U8 [height, width, 3], upright"),
      ModelFlags.dtype,
    ] + ImageFlags.all,
    discussion: """
      Per image: its size after each step (decoded and turned upright, padded, shrunk, resized for
      cutting), the crops as boxes, which of them a newline token follows, and the tokens that
      take the place of one <im_patch> of the prompt.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let preprocessor = try ImageFlags.preprocessor(arguments)
    let decoder = ImageFlags.decoder(arguments)
    let files = arguments.arguments("FILE")
    guard !files.isEmpty else {
      throw CommandFailure(.usage, code: "usage", "no image was named; give one file or more")
    }
    var reports: [ImageReport] = []
    for path in files {
      let bytes = try ImageFlags.bytes(path, limits: decoder.limits)
      reports.append(
        try naming(path) { () throws(ImageError) in
          let (format, size) = try decoder.measure(bytes)
          return ImageReport(path: path, format: format, plan: try preprocessor.plan(size))
        })
    }
    if let path = arguments.optionalString("pixels-out") {
      try writePixels(path, reports, decoder, preprocessor)
    } else if arguments.optionalString("decoded-out") == nil {
      // Headers may promise more than the rest of a file holds.
      for report in reports { _ = try decode(report.path, decoder) }
    }
    if let path = arguments.optionalString("features-out") {
      try FeatureFile.write(path, reports.map(\.path), arguments)
    }
    if let path = arguments.optionalString("decoded-out") {
      try writeDecoded(path, reports, decoder)
    }
    let document: JSONValue = ["images": .array(reports.map(\.json))]
    StandardOutput.write(
      arguments.wantsJSON ? document.text() + "\n" : reports.map(\.text).joined(separator: "\n"))
  }

  private static func naming<Value>(
    _ path: String, _ body: () throws(ImageError) -> Value
  ) throws(ImageFileError) -> Value {
    do throws(ImageError) { return try body() } catch {
      throw ImageFileError(path: path, error: error)
    }
  }

  private static func decode(_ path: String, _ decoder: ImageDecoder) throws -> RGBImage {
    let bytes = try ImageFlags.bytes(path, limits: decoder.limits)
    return try naming(path) { () throws(ImageError) in try decoder.decode(bytes) }
  }

  /// Writes the whole images, then the crops of all of them. Few images are kept in between,
  /// many are prepared twice, so that memory stays bounded.
  private static func writePixels(
    _ path: String, _ reports: [ImageReport], _ decoder: ImageDecoder,
    _ preprocessor: ImagePreprocessor
  ) throws {
    let configuration = preprocessor.configuration
    let crops = reports.reduce(0) { $0 + $1.plan.cropCount }
    let (side, cropSide) = (configuration.imageSize, configuration.cropSize)
    var writer = try fileWriter(
      path,
      [
        TensorDeclaration(
          name: "pixel_values", elementType: .float32, shape: [reports.count, 3, side, side]),
        TensorDeclaration(
          name: "patch_pixel_values", elementType: .float32,
          shape: [crops, 3, cropSide, cropSide]),
      ])
    func prepare(_ report: ImageReport) throws -> PreparedImage {
      let image = try decode(report.path, decoder)
      return try naming(report.path) { () throws(ImageError) in try preprocessor.prepare(image) }
    }
    var kept: [PreparedImage] = []
    for report in reports {
      let prepared = try prepare(report)
      try writer.append(littleEndian(prepared.pixels), to: "pixel_values")
      if reports.count <= 8 { kept.append(prepared) }
    }
    for (index, report) in reports.enumerated() where report.plan.cropCount > 0 {
      let prepared = try index < kept.count ? kept[index] : prepare(report)
      for crop in 0..<prepared.cropCount {
        try writer.append(littleEndian(prepared.cropPixels(crop)), to: "patch_pixel_values")
      }
    }
    _ = try writer.finish()
  }

  private static func writeDecoded(
    _ path: String, _ reports: [ImageReport], _ decoder: ImageDecoder
  ) throws {
    var writer = try fileWriter(
      path,
      reports.enumerated().map { index, report in
        let size = report.plan.original
        return TensorDeclaration(
          name: "image.\(index)", elementType: .uint8, shape: [size.height, size.width, 3])
      })
    for (index, report) in reports.enumerated() {
      try writer.append(decode(report.path, decoder).bytes, to: "image.\(index)")
    }
    _ = try writer.finish()
  }

  static func fileWriter(
    _ path: String, _ tensors: [TensorDeclaration]
  ) throws(SafetensorsWriterError) -> SafetensorsWriter {
    let url = URL(fileURLWithPath: path)
    return try SafetensorsWriter(
      directory: url.deletingLastPathComponent().path, tensors: tensors,
      maximumShardByteCount: .max, singleFileName: url.lastPathComponent)
  }

  static func littleEndian(_ values: [Float]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(4 * values.count)
    for value in values {
      let bits = value.bitPattern
      bytes.append(UInt8(truncatingIfNeeded: bits))
      bytes.append(UInt8(truncatingIfNeeded: bits >> 8))
      bytes.append(UInt8(truncatingIfNeeded: bits >> 16))
      bytes.append(UInt8(truncatingIfNeeded: bits >> 24))
    }
    return bytes
  }
}

/// What is printed about one image.
private struct ImageReport {
  let path: String
  let format: ImageFormat
  let plan: PatchPlan

  var json: JSONValue {
    [
      "file": .string(path), "format": .string(format.rawValue),
      "original": size(plan.original), "padded": size(plan.padded), "capped": size(plan.capped),
      "window": .integer(plan.window), "canvas": plan.canvas.map(size) ?? .null,
      "columns": .integer(plan.columnCount), "rows": .integer(plan.rowCount),
      "crops": .array(
        plan.boxes.map {
          [
            "x": .integer($0.x), "y": .integer($0.y), "width": .integer($0.width),
            "height": .integer($0.height),
          ]
        }),
      "newlines": .array(plan.newlines.map { .boolean($0) }),
      "tokens": .integer(plan.tokenCount),
      "placeholder": .array(plan.expansion.map { .string($0.spelling) }),
    ]
  }

  private func size(_ size: ImageSize) -> JSONValue {
    ["width": .integer(size.width), "height": .integer(size.height)]
  }

  var text: String {
    var lines = ["\(path): \(format.rawValue), \(plan.original) pixels"]
    if plan.padded != plan.original { lines.append("  padded to     \(plan.padded)") }
    if plan.capped != plan.padded { lines.append("  shrunk to     \(plan.capped)") }
    if let canvas = plan.canvas {
      lines.append("  window        \(plan.window)")
      lines.append("  resized to    \(canvas)")
      lines.append("  crops         \(plan.columnCount) x \(plan.rowCount)")
      for (box, isLast) in zip(plan.boxes, plan.newlines) {
        lines.append(
          "    \(box.x),\(box.y) \(box.width)x\(box.height)\(isLast ? " newline" : "")")
      }
    } else {
      lines.append("  crops         none")
    }
    lines.append("  tokens        \(plan.tokenCount)")
    lines.append("  placeholder   \(placeholder)")
    return lines.joined(separator: "\n") + "\n"
  }

  /// The expansion with repeated tokens counted.
  private var placeholder: String {
    var words: [String] = []
    var tokens = plan.expansion[...]
    while let first = tokens.first {
      let run = tokens.prefix { $0 == first }.count
      words.append(run == 1 ? first.spelling : "\(run) x \(first.spelling)")
      tokens = tokens.dropFirst(run)
    }
    return words.joined(separator: " ")
  }
}
