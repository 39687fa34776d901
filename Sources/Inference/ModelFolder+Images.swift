package import ModelConfiguration

extension ModelFolder {
  /// How the images of the checkpoint in a folder become pixels and tokens, from config.json and
  /// preprocessor_config.json; nil for a text-only checkpoint. Weights are not looked at.
  package static func imagePreprocessing(
    directory path: String
  ) throws(InferenceError) -> ImagePreprocessorConfiguration? {
    do {
      let configuration = try readConfiguration(path + "/config.json")
      guard let vision = configuration.vision else { return nil }
      let file = path + "/preprocessor_config.json"
      return try ImagePreprocessorConfiguration(
        vision: vision, projectorStride: configuration.projectorStride,
        preprocessor: readJSON(file), path: file)
    } catch { throw .configuration(error) }
  }

  /// The id of the token that stands for images, from the config.json in a folder.
  static func imageTokenID(directory path: String) throws(InferenceError) -> Int {
    do { return try readConfiguration(path + "/config.json").imageTokenID } catch {
      throw .configuration(error)
    }
  }
}
