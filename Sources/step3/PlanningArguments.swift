import CommandLineInterface
import CostModel
import Foundation
import JSONScanning
import Planning

/// What `cost`, `plan` and `simulate` read from flags and files in the same way.
enum PlanningArguments {
  /// Flags that name hardware, files and prices.
  static let hardwareFlags: [Flag] = [
    .string(
      "hardware-file", "FILE", repeated: true,
      help: "JSON file of hardware entries on top of the catalogue"),
    .string("price", "NAME=USD", repeated: true, help: "price of a device per hour"),
    .choice(
      "price-level", PriceLevel.allCases.map(\.rawValue), default: "mid",
      help: "which end of the price ranges to use"),
    .toggle("int8", help: "compute in INT8 where a device has no FP8"),
  ]

  /// The catalogue with the user's files and prices on top.
  static func catalogue(_ arguments: ParsedArguments) throws -> HardwareCatalogue {
    var catalogue = try HardwareCatalogue.builtIn()
    for path in arguments.strings("hardware-file") {
      catalogue = catalogue.merging(
        try HardwareCatalogue(parsing: try bytes(of: path), file: path))
    }
    for text in arguments.strings("price") {
      let parts = text.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, let price = Double(parts[1]) else {
        throw UsageError.badValue(
          text, origin: .flag("price"), expected: "a price such as h100=2.5", nearest: nil)
      }
      guard price > 0, price.isFinite else {
        throw CostModelError.notPositive(quantity: "the price of \(parts[0])", value: price)
      }
      let device = try catalogue.hardware(named: String(parts[0]))
      catalogue.replace(device.priced(at: price, date: "given on the command line"))
    }
    return catalogue
  }

  /// Devices by name; "all" stands for every entry.
  static func devices(
    _ names: [String], in catalogue: HardwareCatalogue
  ) throws -> [Hardware] {
    if names == ["all"] { return catalogue.entries }
    var devices: [Hardware] = []
    for name in names.flatMap({ $0.split(separator: ",").map(String.init) }) {
      let device = try catalogue.hardware(named: name)
      if !devices.contains(where: { $0.name == device.name }) { devices.append(device) }
    }
    return devices
  }

  /// A model of the catalogue, a config.json, a checkpoint folder, or a model file.
  static func models(
    _ specifications: [String], in catalogue: ModelCatalogue
  ) throws -> [ModelArchitecture] {
    if specifications.isEmpty { return catalogue.models }
    var models: [ModelArchitecture] = []
    for text in specifications.flatMap({ $0.split(separator: ",").map(String.init) }) {
      models.append(try model(text, in: catalogue))
    }
    return models
  }

  /// One model by name or file.
  static func model(_ text: String, in catalogue: ModelCatalogue) throws -> ModelArchitecture {
    if let known = try? catalogue.model(named: text) { return known }
    let candidates = [text + "/config.json", text]
    guard let path = candidates.first(where: { FileManager.default.fileExists(atPath: $0) }) else {
      return try catalogue.model(named: text)
    }
    let document = try JSONValue(document: try bytes(of: path), file: path)
    if document["models"] != nil {
      let own = try ModelCatalogue(parsing: try bytes(of: path), file: path)
      guard let first = own.models.first, own.models.count == 1 else {
        throw CostModelError.malformedDocument(
          file: path, place: "models", fact: "exactly one model is needed here")
      }
      return first
    }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().lastPathComponent
    return try ModelArchitecture(
      configuration: document, name: folder.isEmpty ? "model" : folder, file: path)
  }

  /// Tokens of texts such as 8192, 8K or 0.5M.
  static func contexts(_ texts: [String], kilo: Int) throws -> [Int] {
    try texts.flatMap { $0.split(separator: ",") }.map { text in
      let factors: [Character: Int] = ["k": kilo, "m": kilo * kilo]
      let factor = text.last.flatMap { factors[Character($0.lowercased())] }
      let digits = factor == nil ? text : text.dropLast()
      guard let value = Double(digits), value.isFinite else {
        throw UsageError.badValue(
          String(text), origin: .flag("context"), expected: "a count such as 8192 or 8K",
          nearest: nil)
      }
      let tokens = value * Double(factor ?? 1)
      guard tokens >= 1, tokens == tokens.rounded(), tokens < 1e12 else {
        throw CostModelError.notPositive(quantity: "a context in whole tokens", value: tokens)
      }
      return Int(tokens)
    }
  }

  /// The content of a file the user named.
  static func bytes(of path: String) throws -> [UInt8] {
    do {
      return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw CommandFailure(
        .usage, code: "file_not_readable", "\(path): cannot be read; check the path")
    }
  }

  /// Writes a file the user named.
  static func write(_ text: String, to path: String) throws {
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    } catch {
      throw CommandFailure(
        .failed, code: "file_not_writable", "\(path): cannot be written; check the folder")
    }
  }
}
