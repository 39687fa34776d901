package import Tensors

/// The names of the vision tower's tensors in published checkpoints.
///
/// Files that were saved again by the transformers library put `model.` before all of them.
package struct VisionWeightNames: Sendable {
  /// Empty or `model.`.
  package let prefix: String

  /// Names with or without the outer prefix.
  package init(isNested: Bool) { prefix = isNested ? "model." : "" }

  /// A tensor that every checkpoint with a tower and the outer prefix has.
  package static let nestedClassToken = "model.vision_model.embeddings.class_embedding"

  /// Whether the files hold a tower.
  package static func isPresent(in files: CheckpointFiles) -> Bool {
    [true, false].contains { files[VisionWeightNames(isNested: $0).classToken] != nil }
  }

  var classToken: String { prefix + "vision_model.embeddings.class_embedding" }
  var patches: String { prefix + "vision_model.embeddings.patch_embedding" }
  var positions: String { prefix + "vision_model.embeddings.position_embedding.weight" }
  var firstConvolution: String { prefix + "vit_downsampler" }
  var secondConvolution: String { prefix + "vit_downsampler2" }
  var projector: String { prefix + "vit_large_projector" }

  /// Queries, keys and values fused, as published files have them.
  func fused(_ layer: Int) -> String { name(layer, "self_attn.qkv_proj") }
  /// The same as three tensors.
  func separate(_ layer: Int) -> [String] {
    ["q", "k", "v"].map { name(layer, "self_attn.\($0)_proj") }
  }
  func attentionOutput(_ layer: Int) -> String { name(layer, "self_attn.out_proj") }
  func attentionNorm(_ layer: Int) -> String { name(layer, "layer_norm1") }
  func expand(_ layer: Int) -> String { name(layer, "mlp.fc1") }
  func contract(_ layer: Int) -> String { name(layer, "mlp.fc2") }
  func mlpNorm(_ layer: Int) -> String { name(layer, "layer_norm2") }

  static func weight(_ name: String) -> String { name + ".weight" }
  static func bias(_ name: String) -> String { name + ".bias" }

  private func name(_ layer: Int, _ part: String) -> String {
    "\(prefix)vision_model.transformer.layers.\(layer).\(part)"
  }
}
