import Conversion
import Foundation
import JSONScanning
import ModelConfiguration
import Tensors
import TestSupport
import Testing

/// A source of Tests/Fixtures/conversion, and how its golden checkpoint was made.
struct Sample: Sendable, CustomTestStringConvertible {
  let name: String
  let source: String
  let mixture: ConversionOptions.Mixture

  init(_ name: String, _ source: String? = nil, _ mixture: ConversionOptions.Mixture = .none) {
    self.name = name
    self.source = Fixtures.path("conversion/\(source ?? name + ".gguf")")
    self.mixture = mixture
  }

  var golden: String { Fixtures.path("conversion/\(name)-step3") }
  var testDescription: String { name }

  /// The options that lead to the golden checkpoint; its own router stands for a measured one.
  var options: ConversionOptions {
    var options = ConversionOptions()
    options.elementType = .float32
    options.mixture = mixture
    if case .upcycled = mixture { options.routerFolder = golden }
    return options
  }

  static let all = [
    Sample("gqa", nil, .upcycled(layers: [1], expertCount: 4)),
    Sample("mha-factors", nil, .exactSplit(layers: [1], expertCount: 3)),
    Sample("mqa"), Sample("yarn"), Sample("hf-llama3", "hf-llama3"),
  ]
}

private func json(_ path: String) throws -> JSONValue {
  try JSONValue(parsing: [UInt8](Data(contentsOf: URL(fileURLWithPath: path))))
}

@discardableResult
private func convert(
  _ sample: Sample, to directory: String, _ change: (inout ConversionOptions) -> Void = { _ in }
) throws -> ConversionReport {
  var options = sample.options
  change(&options)
  return try Converter(path: sample.source, options: options).run(to: directory) { _, _ in }
}

@Suite struct ConverterTests {
  @Test("the tensors are those of the independent mapping", arguments: Sample.all)
  func matchesGolden(_ sample: Sample) throws {
    let folder = try TemporaryFolder()
    let directory = folder.file("out").path
    let report = try convert(sample, to: directory)
    #expect(report.wasWritten)
    let found = try CheckpointFiles(directory: directory)
    let expected = try CheckpointFiles(directory: sample.golden)
    #expect(found.names == expected.names)
    for name in expected.names {
      let (a, b) = (try found.tensor(name), try expected.tensor(name))
      #expect(a.shape == b.shape, "\(name)")
      let (x, y) = (try #require(a.floats()), try #require(b.floats()))
      // Only the query rows are computed; their factor may differ in a double's last bit.
      let far = zip(x, y).filter { abs($0 - $1) > abs($1) * 0x1p-23 }
      #expect(far.isEmpty, "\(name): \(far.prefix(3))")
    }
  }

  @Test("config.json holds the facts of the independent mapping", arguments: Sample.all)
  func writesConfiguration(_ sample: Sample) throws {
    let folder = try TemporaryFolder()
    let directory = folder.file("out").path
    try convert(sample, to: directory)
    let found = try json(directory + "/config.json")
    let expected = try json(sample.golden + "/config.json")
    for member in try #require(expected.object).members where member.key != "rope_scaling" {
      if let number = member.value.number {
        #expect(found[member.key]?.number == number, "\(member.key)")
      } else {
        #expect(found[member.key] == member.value, "\(member.key)")
      }
    }
    let configuration = try Step3Configuration(json: found, path: "config.json")
    let same = try Step3Configuration(json: expected, path: "config.json")
    let (a, b) = (configuration.text.rotary, same.text.rotary)
    #expect(a.theta == b.theta && a.magnitude == 1 && a.factors?.count == b.factors?.count)
    for (x, y) in zip(a.factors ?? [], b.factors ?? []) { #expect(abs(x / y - 1) < 1e-12) }
    #expect(configuration.text.isMixtureLayer == same.text.isMixtureLayer)
  }

  @Test("BF16 holds the F32 values rounded once to nearest", arguments: Sample.all)
  func roundsToBFloat16(_ sample: Sample) throws {
    let folder = try TemporaryFolder()
    try convert(sample, to: folder.file("wide").path)
    try convert(sample, to: folder.file("narrow").path) { $0.elementType = .bfloat16 }
    let wide = try CheckpointFiles(directory: folder.file("wide").path)
    let narrow = try CheckpointFiles(directory: folder.file("narrow").path)
    for name in wide.names {
      let tensor = try narrow.tensor(name)
      #expect(tensor.elementType == .bfloat16)
      let rounded = try wide.tensor(name).floats()?.map { value in
        Float(bitPattern: UInt32(bfloat16Bits(value)) << 16)
      }
      #expect(tensor.floats() == rounded, "\(name)")
    }
  }

  @Test("the same input gives the same bytes, and doing it again does nothing")
  func isDeterministic() throws {
    let folder = try TemporaryFolder()
    let sample = Sample.all[0]
    let (first, second) = (folder.file("a").path, folder.file("b").path)
    try convert(sample, to: first) { $0.routerFolder = nil }
    try convert(sample, to: second) { $0.routerFolder = nil }
    let names = try FileManager.default.contentsOfDirectory(atPath: first).sorted()
    #expect(names == (try FileManager.default.contentsOfDirectory(atPath: second).sorted()))
    #expect(
      names == [
        "README.md", "chat_template.jinja", "config.json", "conversion.json",
        "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
      ])
    for name in names {
      #expect(
        FileManager.default.contentsEqual(atPath: first + "/" + name, andPath: second + "/" + name),
        "\(name)")
    }
    let again = try convert(sample, to: first) { $0.routerFolder = nil }
    #expect(!again.wasWritten)
    let other = try convert(sample, to: first) { $0.mixture = .none }
    #expect(other.wasWritten, "other options make the folder anew")
  }

  @Test("a damaged or foreign folder is told apart from our own")
  func guardsFolder() throws {
    let folder = try TemporaryFolder()
    let sample = Sample.all[2]
    let directory = folder.file("out").path
    try convert(sample, to: directory)
    try Data([1]).write(to: folder.file("out/model.safetensors"))
    #expect(try convert(sample, to: directory).wasWritten, "a damaged result is made anew")

    let foreign = folder.file("mine").path
    try FileManager.default.createDirectory(atPath: foreign, withIntermediateDirectories: false)
    #expect(try convert(sample, to: foreign).wasWritten, "an empty folder is filled")
    let full = folder.file("full").path
    try FileManager.default.createDirectory(atPath: full, withIntermediateDirectories: false)
    try Data([1]).write(to: folder.file("full/notes.txt"))
    #expect(throws: ConversionError.folderInUse(path: full)) { try convert(sample, to: full) }
    #expect(FileManager.default.fileExists(atPath: full + "/notes.txt"))
    #expect(!FileManager.default.fileExists(atPath: full + ".partial"))
  }

  @Test("shards hold the same tensors, with an index")
  func writesShards() throws {
    let folder = try TemporaryFolder()
    let sample = Sample.all[1]
    try convert(sample, to: folder.file("one").path)
    try convert(sample, to: folder.file("many").path) { $0.maximumShardByteCount = 50_000 }
    let one = try CheckpointFiles(directory: folder.file("one").path)
    let many = try CheckpointFiles(directory: folder.file("many").path)
    #expect(many.files.count > 3 && one.names == many.names)
    for name in one.names {
      #expect(try one.tensor(name).bytes.bytes() == many.tensor(name).bytes.bytes(), "\(name)")
    }
  }

  @Test("mixtures deal out every neuron once, or in whole copies")
  func laysOutMixtures() throws {
    let model = try LlamaSource(path: Sample.all[0].source).configuration
    let split = try MixtureLayout(.exactSplit, layers: nil, expertCount: 4, of: model)
    #expect(split.layers == [1, 2] && split.expertsPerToken == 4)
    #expect(split.sharedWidth + 4 * split.expertWidth == model.feedForwardSize)
    let copies = try MixtureLayout(.upcycled, layers: nil, expertCount: 4, of: model)
    #expect(copies.layers == [2] && copies.expertsPerToken == 1)
    #expect(copies.sharedWidth + copies.expertWidth == model.feedForwardSize)
    #expect(throws: ConversionError.noSuchLayer(layer: 3, layerCount: 3)) {
      try MixtureLayout(.upcycled, layers: [3], expertCount: 4, of: model)
    }
    #expect(
      throws: ConversionError.expertsDoNotFit(layer: nil, experts: 100, feedForwardSize: 96)
    ) { try MixtureLayout(.exactSplit, layers: nil, expertCount: 100, of: model) }
  }
}
