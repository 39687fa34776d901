import Foundation
import JSONScanning
package import ModelConfiguration
import Step3Model
package import Tensors

/// A checkpoint folder that was opened: its configuration read, its tensor files mapped.
package struct ModelFolder: Sendable {
  /// The folder.
  package let path: String
  /// The facts of config.json.
  package let configuration: Step3Configuration
  /// The tensors.
  package let files: CheckpointFiles
  /// What generation_config.json says, where there is one.
  package let generation: GenerationConfiguration

  /// Opens a folder; reads headers, no weights. Those of a private one may be replaced in memory.
  package init(path: String, isPrivate: Bool = false) throws(InferenceError) {
    guard (try? FileManager.default.contentsOfDirectory(atPath: path)) != nil else {
      throw .noSuchDirectory(path: path)
    }
    self.path = path
    var configuration: Step3Configuration
    do {
      configuration = try Self.readConfiguration(path + "/config.json")
      generation = try GenerationConfiguration(path: path + "/generation_config.json")
    } catch { throw .configuration(error) }
    do { files = try CheckpointFiles(directory: path, isPrivate: isPrivate) } catch {
      throw .weights(error)
    }
    let names = WeightNames(isNested: files[WeightNames.nestedEmbedding] != nil)
    configuration.resolveMixtureLayers { [files] in files[names.router($0)] != nil }
    self.configuration = configuration
  }

  /// Bytes of the text network's tensors: what a whole pass over the weights reads at most.
  package var textByteCount: Int {
    files.names.reduce(0) { sum, name in
      WeightNames.visionPrefixes.contains { name.hasPrefix($0) }
        ? sum : sum + (files[name]?.bytes.byteCount ?? 0)
    }
  }

  /// Keeps all tensor files in memory for as long as they are mapped.
  package func lockWeights() throws(InferenceError) {
    do { for file in files.files { try file.lock() } } catch { throw .weights(.file(error)) }
  }

  /// Bytes of the vision tower's tensors; 0 for a checkpoint that cannot see.
  package var visionByteCount: Int {
    guard hasVision else { return 0 }
    return files.names.reduce(0) { sum, name in
      WeightNames.visionPrefixes.contains { name.hasPrefix($0) }
        ? sum + (files[name]?.bytes.byteCount ?? 0) : sum
    }
  }

  /// Whether the checkpoint can see: its configuration names a tower and its files hold one.
  package var hasVision: Bool {
    configuration.vision != nil && VisionWeightNames.isPresent(in: files)
  }

  /// Ids that end an answer: those of the generation configuration, else the model's.
  package var endOfSequenceIDs: [Int] {
    generation.endOfSequenceIDs.isEmpty
      ? configuration.endOfSequenceIDs : generation.endOfSequenceIDs
  }

  static func readConfiguration(
    _ path: String
  ) throws(ConfigurationError) -> Step3Configuration {
    guard let json = try readJSON(path) else { throw .missingFile(path: path) }
    return try Step3Configuration(json: json, path: path)
  }
}

/// The defaults for generation that a checkpoint ships.
package struct GenerationConfiguration: Sendable, Equatable {
  /// Tokens that end an answer, and the sampling that the checkpoint suggests.
  package var endOfSequenceIDs: [Int] = []
  package var temperature: Double?
  package var topP: Double?
  package var topK: Int?

  /// Nothing is set.
  package init() {}

  /// Reads the file; a missing one sets nothing.
  package init(path: String) throws(ConfigurationError) {
    guard let json = try readJSON(path) else { return }
    guard json.object != nil else {
      throw .notJSON(path: path, reason: "the top level is not an object")
    }
    if let list = json["eos_token_id"]?.array {
      endOfSequenceIDs = list.compactMap(\.integer)
    } else if let single = json["eos_token_id"]?.integer {
      endOfSequenceIDs = [single]
    }
    temperature = json["temperature"]?.number
    topP = json["top_p"]?.number
    topK = json["top_k"]?.integer
  }
}

/// The JSON in a file, nil when there is no such file.
func readJSON(_ path: String) throws(ConfigurationError) -> JSONValue? {
  guard let data = FileManager.default.contents(atPath: path) else {
    if FileManager.default.fileExists(atPath: path) {
      throw .notJSON(path: path, reason: "it cannot be read")
    }
    return nil
  }
  do { return try JSONValue(parsing: [UInt8](data), duplicateKeys: .keepLast) } catch {
    throw .notJSON(path: path, reason: "\(error)")
  }
}
