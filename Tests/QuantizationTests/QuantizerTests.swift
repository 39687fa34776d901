import Foundation
import JSONScanning
import Kernels
import ModelConfiguration
import Quantization
import Step3Model
import Tensors
import TestSupport
import Testing

private let names = QuantizationNames(
  packed: WeightNames.packedSuffix, factor: WeightNames.factorSuffix,
  zeroPoint: WeightNames.zeroPointSuffix, shape: WeightNames.shapeSuffix,
  scaleInverse: WeightNames.scaleSuffix, isQuantizable: WeightNames.isProjection)

private func quantize(
  _ source: TemporaryFolder, to target: String, _ options: QuantizationOptions
) throws -> QuantizationReport {
  let quantizer = try Quantizer(
    source: try CheckpointFiles(directory: source.url.path), options: options, names: names,
    team: WorkTeam(workerCount: 2))
  return try quantizer.run(to: target) { _, _ in }
}

private func files(in directory: String) throws -> [String: Data] {
  var all: [String: Data] = [:]
  for name in try FileManager.default.contentsOfDirectory(atPath: directory) {
    all[name] = try Data(contentsOf: URL(fileURLWithPath: directory + "/" + name))
  }
  return all
}

/// Loads a checkpoint as the engine does; returns the tensors that were not used.
private func load(_ directory: String) throws -> (unused: [String], formats: Set<String>) {
  let data = try Data(contentsOf: URL(fileURLWithPath: directory + "/config.json"))
  let text = try Step3Configuration(
    json: JSONValue(parsing: [UInt8](data)), path: "config.json"
  ).text
  var loader = ModelLoader(
    files: try CheckpointFiles(directory: directory), configuration: text)
  let halves = try loader.load(
    activation: .bfloat16,
    compute: Compute(kernels: try KernelSet.select(.reference), threadCount: 1))
  let formats = halves.decoder.layers.flatMap { layer in
    [layer.attention.queryUp, layer.attention.output].map { "\($0.format)" }
  }
  return (loader.unusedNames, Set(formats))
}

/// Predictions that move as told, by what stands in the place of which tensors.
private final class StatedDivergence: QuantizationCalibration {
  private let divergences: [String: Double]
  private var replaced: Set<String> = []

  init(_ divergences: [String: Double]) { self.divergences = divergences }

  func record(_ recorder: InputRecorder) {}
  func replace(_ tensor: String, matrix: Int, with bytes: [UInt8]) { replaced.insert(tensor) }
  func divergence() -> Double { replaced.reduce(0) { $0 + (divergences[$1] ?? 0) } }
  func restore(_ tensor: String) { replaced.remove(tensor) }
}

@Suite struct QuantizerTests {
  @Test("matrices get more bits until the others together stay within the tolerance")
  func tolerance() throws {
    let source = try TemporaryFolder(copying: "tiny/moe-f32")
    let key = "model.layers.0.self_attn.k_proj.weight"
    let value = "model.layers.1.self_attn.v_proj.weight"
    let output = "model.layers.1.self_attn.o_proj.weight"
    for weights in QuantizationOptions.Weights.allCases {
      let target = try TemporaryFolder()
      let path = target.url.path + "/out"
      var options = QuantizationOptions(weights: weights)
      options.calibration = "stated"
      options.measure = .tensors
      options.tolerance = 0.02
      let stated = StatedDivergence([key: 0.5, value: 0.3, output: 0.015])
      let report = try Quantizer(
        source: try CheckpointFiles(directory: source.url.path), options: options, names: names,
        team: WorkTeam(workerCount: 2), calibration: stated
      ).run(to: path) { _, _ in }
      #expect(report.sensitive.map(\.name) == [key, value])
      #expect(report.divergence == 0.015)
      let written = try CheckpointFiles(directory: path)
      let finer: ElementType = weights == .int4 ? .int8 : .float32
      #expect(written[key]?.elementType == finer && written[value]?.elementType == finer)
      #expect(written[output]?.elementType != finer)
      #expect(try load(path).unused.isEmpty)
    }
  }

  @Test("kinds of matrices are measured over all layers, and rounded bytes do not depend on it")
  func kinds() throws {
    let source = try TemporaryFolder(copying: "tiny/moe-f32")
    let target = try TemporaryFolder()
    let kind = "model.layers.self_attn.k_proj.weight"
    let files = try CheckpointFiles(directory: source.url.path)
    let keys = files.names.filter { $0.hasSuffix("k_proj.weight") }
    var options = QuantizationOptions(weights: .int8)
    options.calibration = "stated"
    options.measure = .kinds
    options.tolerance = 0.1
    let report = try Quantizer(
      source: files, options: options, names: names, team: WorkTeam(workerCount: 2),
      calibration: StatedDivergence(Dictionary(uniqueKeysWithValues: keys.map { ($0, 1) }))
    ).run(to: target.url.path + "/measured") { _, _ in }
    #expect(report.sensitive.map(\.name) == [kind] && keys.count > 1)
    #expect(report.sensitive.map(\.divergence) == [Double(keys.count)])
    options = QuantizationOptions(weights: .int8)
    options.keptPatterns = ["k_proj"]
    _ = try quantize(source, to: target.url.path + "/kept", options)
    let name = "/model.safetensors"
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: target.url.path + "/measured" + name))
        == Data(contentsOf: URL(fileURLWithPath: target.url.path + "/kept" + name)))
  }

  @Test(
    "every format is written so that the loader takes all of it",
    arguments: [
      QuantizationOptions.Weights.fp8, .int8, .int4,
    ])
  func loads(weights: QuantizationOptions.Weights) throws {
    for name in TinyCheckpoint.names where !name.contains("fp8") {
      let source = try TemporaryFolder(copying: "tiny/" + name)
      let target = try TemporaryFolder()
      let path = target.url.path + "/out"
      let report = try quantize(source, to: path, QuantizationOptions(weights: weights))
      #expect(report.wasWritten && report.byteCount < report.sourceByteCount)
      let loaded = try load(path)
      #expect(loaded.unused.isEmpty, "\(name): \(loaded.unused)")
      #expect(!loaded.formats.contains("bfloat16") && !loaded.formats.contains("float32"))
    }
  }

  @Test("a run that was stopped keeps its finished shards and ends with the same bytes")
  func resumes() throws {
    let source = try TemporaryFolder(copying: "tiny/moe-f32")
    let target = try TemporaryFolder()
    let path = target.url.path + "/out"
    var options = QuantizationOptions(weights: .int4)
    options.shardByteCount = 1
    _ = try quantize(source, to: path, options)
    let whole = try files(in: path)
    // Back to where a kill during the third shard leaves it: a damaged shard, others missing.
    let partial = path + ".partial"
    try FileManager.default.moveItem(atPath: path, toPath: partial)
    let shards = whole.keys.filter { $0.hasSuffix(".safetensors") }.sorted()
    #expect(shards.count > 3)
    for name in shards[3...] { try FileManager.default.removeItem(atPath: partial + "/" + name) }
    var damaged = try #require(whole[shards[2]])
    damaged[damaged.count - 1] ^= 1
    try damaged.write(to: URL(fileURLWithPath: partial + "/" + shards[2]))
    let report = try quantize(source, to: path, options)
    #expect(report.keptShardCount == 2)
    #expect(try files(in: path) == whole)
    let again = try quantize(source, to: path, options)
    #expect(!again.wasWritten)
  }

  @Test("what cannot be quantised is refused by name")
  func refusals() throws {
    let source = try TemporaryFolder(copying: "tiny/moe-f32")
    let target = try TemporaryFolder()
    let path = target.url.path + "/out"
    var options = QuantizationOptions(weights: .int8)
    options.keptPatterns = ["("]
    #expect(throws: QuantizationError.self) { try quantize(source, to: path, options) }
    options.keptPatterns = ["."]
    #expect(throws: QuantizationError.nothingToQuantize(directory: source.url.path)) {
      try quantize(source, to: path, options)
    }
    options.keptPatterns = []
    #expect(throws: QuantizationError.folderInUse(path: source.url.path)) {
      try quantize(source, to: source.url.path, options)
    }
    _ = try quantize(source, to: path, options)
    let quantized = try CheckpointFiles(directory: path)
    do {
      _ = try Quantizer(
        source: quantized, options: options, names: names, team: WorkTeam(workerCount: 1))
      Issue.record("a quantised checkpoint was quantised again")
    } catch {
      guard case .alreadyQuantized = error else { throw error }
    }
  }

  @Test("companions that are missing or of another shape are named")
  func brokenCompanions() throws {
    let source = try TemporaryFolder(copying: "tiny/moe-f32")
    let target = try TemporaryFolder()
    let path = target.url.path + "/out"
    _ = try quantize(source, to: path, QuantizationOptions(weights: .int8))
    let file = path + "/model.safetensors"
    let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
    var header = 0
    for index in (0..<8).reversed() { header = header << 8 | Int(bytes[index]) }
    var text = String(decoding: bytes[8..<8 + header], as: UTF8.self)
    text = text.replacingOccurrences(of: "_scale\"", with: "_scalf\"")
    try (bytes.prefix(8) + Data(text.utf8) + bytes.dropFirst(8 + header)).write(
      to: URL(fileURLWithPath: file))
    do {
      _ = try load(path)
      Issue.record("INT8 without factors was accepted")
    } catch let error as SafetensorsError {
      guard case .missingTensor(let tensor, _) = error else { throw error }
      #expect(tensor.hasSuffix(WeightNames.factorSuffix))
    }
  }
}
