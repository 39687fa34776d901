import Foundation
import JSONScanning
package import Tensors

/// What to make of a source.
package struct ConversionOptions: Sendable, Equatable {
  /// Which layers become mixtures of experts.
  package enum Mixture: Sendable, Equatable {
    case none
    case upcycled(layers: [Int]?, expertCount: Int)
    case exactSplit(layers: [Int]?, expertCount: Int)
  }

  /// BF16 or F32.
  package var elementType = ElementType.bfloat16
  package var mixture = Mixture.upcycled(layers: nil, expertCount: 4)
  package var maximumShardByteCount = 5_000_000_000
  /// A folder whose safetensors hold router rows for upcycled layers.
  package var routerFolder: String?
  /// A folder with tokenizer.json, instead of the source's own tokenizer.
  package var tokenizerFolder: String?
  /// A folder with a vision tower to go with the model (see `VisionAddition`).
  package var visionFolder: String?
  /// Files to put beside the weights unchanged, such as the licence.
  package var licenseFiles: [String] = []

  package init() {}
}

/// What a conversion did.
package struct ConversionReport: Sendable, Equatable {
  /// Tensors of one kind.
  package struct Group: Sendable, Equatable {
    /// What they are, how many, how large, and how they relate to the source.
    package let name: String
    package var tensorCount: Int
    package var byteCount: Int
    package let remark: String
  }

  /// The folder written.
  package let directory: String
  /// False when the folder was already there, complete and from the same input.
  package let wasWritten: Bool
  package let groups: [Group]
  /// Bytes of all tensors.
  package var byteCount: Int { groups.reduce(0) { $0 + $1.byteCount } }
}

/// Turns a Llama-family model into a Step3 checkpoint with the same answers.
///
/// Tensors are produced and written in pieces, so memory stays bounded whatever the model's size;
/// the same input and options give the same bytes.
package struct Converter: Sendable {
  /// Raised when the output for the same input changes, so that folders are made anew.
  static let version = 2

  /// What is converted, and into what.
  package let source: LlamaSource
  package let options: ConversionOptions
  /// The mixture layers; nil for a dense model.
  package let mixture: MixtureLayout?
  /// The vision tower to add; nil for a model of text alone.
  private let vision: VisionAddition?

  /// Opens `path`, a GGUF file or an HF folder, and checks that it can be converted.
  package init(path: String, options: ConversionOptions) throws(ConversionError) {
    try self.init(try LlamaSource(path: path), options: options)
  }

  package init(_ source: LlamaSource, options: ConversionOptions) throws(ConversionError) {
    precondition(
      options.elementType == .bfloat16 || options.elementType == .float32,
      "checkpoints are written in BF16 or F32")
    var source = source
    if let folder = options.tokenizerFolder {
      source.tokenizer = .folder(path: folder, ids: source.tokenizer.specialIDs)
    }
    source.provenance.licenseFiles += options.licenseFiles
    if let folder = options.visionFolder {
      guard case .vocabulary = source.tokenizer else {
        throw .cannotAddTokens(path: source.path, folder: folder)
      }
      let addition = try VisionAddition(
        directory: folder, hiddenSize: source.configuration.hiddenSize)
      try addition.adapt(&source)
      vision = addition
    } else {
      vision = nil
    }
    self.source = source
    self.options = options
    let model = source.configuration
    switch options.mixture {
    case .none: mixture = nil
    case .upcycled(let layers, let count):
      mixture = try MixtureLayout(.upcycled, layers: layers, expertCount: count, of: model)
    case .exactSplit(let layers, let count):
      mixture = try MixtureLayout(.exactSplit, layers: layers, expertCount: count, of: model)
    }
  }

  /// Writes the checkpoint to `directory`; `progress` is told the bytes of every piece written, and
  /// the bytes of all of them.
  ///
  /// The folder appears complete or not at all. One that holds the result of the same conversion is
  /// left alone; one that this program did not write is refused.
  package func run(
    to directory: String, progress: @escaping (_ piece: Int, _ total: Int) -> Void
  ) throws(ConversionError) -> ConversionReport {
    let router = try routerRows()
    let tensors = try Step3Plan(
      source, mixture: mixture, elementType: options.elementType, router: router, vision: vision
    ).tensors()
    let groups = groups(tensors)
    let record = try self.record()
    let folder = CheckpointFolder(directory)
    if folder.isComplete(record) {
      return ConversionReport(directory: folder.final, wasWritten: false, groups: groups)
    }
    let texts = try textFiles(inputs: record["inputs"]?.array ?? [])
    try folder.begin()
    do throws(ConversionError) {
      let total = groups.reduce(0) { $0 + $1.byteCount }
      try write(tensors, to: folder.partial) { progress($0, total) }
      for (name, text) in texts { try folder.write(text, to: name) }
      for path in try copiedFiles() { try folder.copy(path, to: Self.fileName(path)) }
      try folder.finish(record)
    } catch {
      folder.abandon()
      throw error
    }
    return ConversionReport(directory: folder.final, wasWritten: true, groups: groups)
  }

  // MARK: Weights

  private func routerRows() throws(ConversionError) -> RouterRows {
    guard let folder = options.routerFolder else { return .embeddingClusters }
    do throws(SafetensorsError) {
      return .checkpoint(try CheckpointFiles(directory: folder))
    } catch {
      throw .checkpoint(error)
    }
  }

  private func write(
    _ tensors: [PlannedTensor], to directory: String, progress: @escaping (Int) -> Void
  ) throws(ConversionError) {
    let writer: SafetensorsWriter
    do throws(SafetensorsWriterError) {
      writer = try SafetensorsWriter(
        directory: directory, tensors: tensors.map(\.declaration),
        maximumShardByteCount: options.maximumShardByteCount)
    } catch {
      throw .writing(error)
    }
    var sink = TensorSink(writer, elementType: options.elementType, progress: progress)
    for tensor in tensors { try tensor.write(&sink) }
    _ = try sink.finish()
  }

  // MARK: Small files

  private func textFiles(inputs: [JSONValue]) throws(ConversionError) -> [(String, String)] {
    var indented = JSONFormat()
    indented.indent = 2
    let configuration = Step3ConfigurationFile(
      source: source, mixture: mixture, elementType: options.elementType, vision: vision)
    let card = ModelCard(
      source: source, sourceName: Self.fileName(source.path),
      sourceHash: inputs.count == 1 || source.isGGUF ? inputs.first?["sha256"]?.string : nil,
      mixture: mixture, elementTypeName: options.elementType.rawValue,
      hasMeasuredRouter: options.routerFolder != nil, visionCard: vision?.card,
      isAdapted: vision?.hasAdapter ?? false)
    var files = [
      ("config.json", configuration.json.text(indented) + "\n"), ("README.md", card.text),
    ]
    guard case .vocabulary(let vocabulary) = source.tokenizer else { return files }
    let export = TokenizerExport(
      vocabulary: vocabulary, contextLength: source.configuration.contextLength,
      imageTokens: (vision?.tokens ?? []).enumerated().map { index, text in
        (source.configuration.vocabularySize + index, text)
      }, visionTemplate: vision?.chatTemplate)
    files.append(("tokenizer.json", try export.tokenizer().text(indented) + "\n"))
    files.append(("tokenizer_config.json", export.configuration.text(indented) + "\n"))
    if let template = export.chatTemplate { files.append(("chat_template.jinja", template)) }
    var generation = JSONObject()
    let ids = TokenizerExport.specialIDs(vocabulary)
    if let begin = ids.begin { generation["bos_token_id"] = .integer(begin) }
    generation["eos_token_id"] = .array(ids.end.map { .integer($0) })
    if let padding = ids.padding { generation["pad_token_id"] = .integer(padding) }
    files.append(("generation_config.json", JSONValue.object(generation).text(indented) + "\n"))
    return files
  }

  private static let tokenizerFiles = [
    "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json",
    "generation_config.json", "special_tokens_map.json",
  ]

  /// Files that go along unchanged: the tokenizer of a folder, and the licence.
  private func copiedFiles() throws(ConversionError) -> [String] {
    var paths = source.provenance.licenseFiles
    if case .folder(let folder, _) = source.tokenizer {
      let found = Self.tokenizerFiles.map { folder + "/" + $0 }
        .filter { FileManager.default.fileExists(atPath: $0) }
      guard found.contains(where: { $0.hasSuffix("/tokenizer.json") }) else {
        throw .unsupportedTokenizer(path: folder, model: "without a tokenizer.json")
      }
      paths += found
    }
    return paths
  }

  /// What the result depends on: every input file by hash, the options, and the converter.
  private func record() throws(ConversionError) -> JSONValue {
    var paths = source.isGGUF ? [source.path] : try LlamaSource.inputFiles(folder: source.path)
    paths += try copiedFiles()
    if let folder = options.routerFolder {
      do throws(SafetensorsError) {
        paths += try CheckpointFiles(directory: folder).files.map(\.path)
      } catch {
        throw .checkpoint(error)
      }
    }
    paths += vision?.paths ?? []
    var inputs: [JSONValue] = []
    for path in paths {
      let file: MappedFile
      do throws(FileError) { file = try MappedFile(path: path) } catch { throw .file(error) }
      inputs.append([
        "file": .string(Self.fileName(path)),
        "sha256": .string(ContentHash.hexadecimal(of: file.contents)),
      ])
    }
    return [
      "converter": .integer(Self.version), "inputs": .array(inputs),
      "options": [
        "dtype": .string(options.elementType.rawValue),
        "mixture": .string(mixture?.kind.rawValue ?? "none"),
        "mixture_layers": .array((mixture?.layers ?? []).map { .integer($0) }),
        "experts": .integer(mixture?.expertCount ?? 0),
        "shard_bytes": .integer(options.maximumShardByteCount),
      ],
    ]
  }

  private static func fileName(_ path: String) -> String {
    String(path.split(separator: "/").last ?? "")
  }

  private func groups(_ tensors: [PlannedTensor]) -> [ConversionReport.Group] {
    var groups: [ConversionReport.Group] = []
    for tensor in tensors {
      let isVision = vision?.towerNames.contains(tensor.declaration.name) ?? false
      let (name, remark) =
        isVision
        ? ("vision tower", "as given") : Step3Names.group(of: tensor.declaration.name)
      let bytes = tensor.declaration.byteCount
      if let index = groups.firstIndex(where: { $0.name == name }) {
        groups[index].tensorCount += 1
        groups[index].byteCount += bytes
      } else {
        groups.append(
          ConversionReport.Group(name: name, tensorCount: 1, byteCount: bytes, remark: remark))
      }
    }
    return groups
  }
}
