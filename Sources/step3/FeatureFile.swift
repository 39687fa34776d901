import CommandLineInterface
import ImageProcessing
import Inference
import ModelConfiguration
import Step3Model
import Tensors
import Tokenization

/// What the vision tower makes of images, as a file.
enum FeatureFile {
  /// Encodes the images at `paths` and writes `features.<i>` F32 [tokens, hidden] of each: those of
  /// its crops in order, then those of the whole.
  static func write(_ path: String, _ paths: [String], _ arguments: ParsedArguments) throws {
    let folder = try ModelFolder(path: arguments.model)
    let tokenizer = try Tokenizer(directory: folder.path)
    let reader = try ImageFlags.reader(arguments, folder) { tokenizer.id(of: $0).map(Int.init) }
    let images = try paths.map { try ImageFlags.read($0, reader, arguments) }
    let width = folder.configuration.text.hiddenSize
    var writer = try ImageCommand.fileWriter(
      path,
      images.enumerated().map { index, image in
        TensorDeclaration(
          name: "features.\(index)", elementType: .float32,
          shape: [image.prepared.plan.featureCount, width])
      })
    var session = try ScoringSession(
      folder, options: ModelFlags.options(arguments), contextLength: 1)
    for (index, image) in images.enumerated() {
      for features in session.runtime.encode(image) {
        let values = features.values.array(0..<features.values.count)
        try writer.append(ImageCommand.littleEndian(values), to: "features.\(index)")
      }
    }
    _ = try writer.finish()
  }
}
