/// The facts of the vision tower, read from `vision_config`.
package struct VisionConfiguration: Sendable, Equatable {
  /// Width of the tower.
  package var hiddenSize = 1792
  /// Transformer layers.
  package var layerCount = 63
  /// Attention heads.
  package var headCount = 16
  /// Width of the MLP (the class default is 3072; the real model's is derived as 15360).
  package var intermediateSize = 3072
  /// Output channels of the first downsampling convolution; the second doubles them.
  package var outputSize = 4096
  /// Side of the global image in pixels.
  package var imageSize = 728
  /// Side of a patch in pixels.
  package var patchSize = 14
  /// Colour channels.
  package var channelCount = 3
  /// ε of the layer norms.
  package var normEpsilon = 1e-5
  /// Whether large images are cut into crops.
  package var cropsPatches = true

  /// The class defaults.
  package init() {}
}

extension VisionConfiguration {
  init(_ reader: inout ConfigurationReader) throws(ConfigurationError) {
    let standard = VisionConfiguration()
    hiddenSize = try reader.integer("hidden_size", classDefault: standard.hiddenSize)
    layerCount = try reader.integer(
      "num_hidden_layers", classDefault: standard.layerCount, in: 0...4096)
    headCount = try reader.integer(
      "num_attention_heads", classDefault: standard.headCount, in: 1...4096)
    intermediateSize = try reader.integer(
      "intermediate_size", classDefault: standard.intermediateSize)
    outputSize = try reader.integer("output_hidden_size", classDefault: standard.outputSize)
    imageSize = try reader.integer("image_size", classDefault: standard.imageSize, in: 1...16_384)
    patchSize = try reader.integer("patch_size", classDefault: standard.patchSize, in: 1...16_384)
    channelCount = try reader.integer(
      "num_channels", classDefault: standard.channelCount, in: 1...4)
    normEpsilon = try reader.positive("layer_norm_eps", classDefault: standard.normEpsilon)
    cropsPatches = try reader.bool("enable_patch", classDefault: true)
    if !hiddenSize.isMultiple(of: headCount) {
      throw reader.unsupported(
        "num_attention_heads", "\(headCount)", "hidden_size \(hiddenSize) is not a multiple of it")
    }
  }
}
