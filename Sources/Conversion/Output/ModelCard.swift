/// The README.md of a converted model: what it is, where it comes from, what was changed.
struct ModelCard {
  let source: LlamaSource
  let sourceName: String
  let sourceHash: String?
  let mixture: MixtureLayout?
  let elementTypeName: String
  let hasMeasuredRouter: Bool
  /// The card of an added vision tower, Markdown from its title on.
  var visionCard: String?
  /// Whether attention matrices were changed by training.
  var isAdapted = false

  var text: String {
    let provenance = source.provenance
    let name = provenance.name ?? sourceName
    var lines = ["---"]
    if let license = provenance.license { lines.append("license: \(license)") }
    lines += [
      "pipeline_tag: " + (visionCard == nil ? "text-generation" : "image-text-to-text"), "tags:",
      "- step3", "---", "",
      "# \(title), in the Step3 architecture", "",
      "A plain Llama model rewritten as a Step3 checkpoint (MFA attention"
        + (mixture == nil ? "" : ", mixture-of-experts layers")
        + (visionCard == nil ? ")." : ") with a vision tower."),
      isAdapted
        ? "Its attention was trained a little to read images; what that changes is measured below."
        : "Its answers are those of its source: the text model was not trained.", "", "## Source",
      "",
      "- Model: \(name)" + (provenance.organization.map { " by \($0)" } ?? ""),
      "- File: `\(sourceName)`" + (sourceHash.map { ", SHA-256 `\($0)`" } ?? ""),
      "- Weights as found: \(provenance.encodings)",
      "- Licence: \(provenance.license ?? "not stated by the source")"
        + (provenance.licenseFiles.isEmpty ? "" : "; its text is in this folder"),
      "", "## Changes", "",
    ]
    lines += changes.map { "- \($0)" }
    lines += [
      "", "## Shape", "", "| | |", "|---|---|",
    ]
    lines += shape.map { "| \($0.0) | \($0.1) |" }
    if let visionCard { lines += ["", visionCard] }
    return lines.joined(separator: "\n") + "\n"
  }

  private var title: String {
    sourceName.hasSuffix(".gguf") ? String(sourceName.dropLast(5)) : sourceName
  }

  private var changes: [String] {
    let model = source.configuration
    var list = [
      "Weights were widened from their encoding and stored as \(elementTypeName).",
      "The \(model.groupCount) key and value heads of \(model.headDimension) lie side by side in "
        + "one head of \(model.wideHeadDimension); query and output projections are zero outside "
        + "their own head's part, and queries carry the difference of the softmax scales.",
      "Rotary pairs are interleaved over the heads; per-pair LongRoPE factors restore each head's "
        + "own frequencies.",
      "The first query matrix is a small multiple of the identity, so small that the norm behind "
        + "it is linear; the factor is undone by the norm's weight and the second query matrix. "
        + "Compute in BF16 or Float32: such values are subnormal in Float16.",
    ]
    if source.outputProjection == nil {
      list.append("The output projection is a copy of the embedding, which the source shares.")
    }
    guard let mixture else {
      list.append("Every feed-forward layer is dense, as in the source.")
      return list
    }
    let layers = mixture.layers.map(String.init).joined(separator: ", ")
    switch mixture.kind {
    case .upcycled:
      list.append(
        "Layers \(layers) are mixtures: \(mixture.sharedWidth) neurons are the shared expert, the "
          + "other \(mixture.expertWidth) are \(mixture.expertCount) identical experts of which "
          + "one runs per token. Router: "
          + (hasMeasuredRouter
            ? "directions found in the source's own activations."
            : "cluster centres of the embedding (no activations were measured).")
          + " All other layers are dense.")
    case .exactSplit:
      list.append(
        "Layers \(layers) are mixtures: \(mixture.sharedWidth) neurons are the shared expert, the "
          + "others are split over \(mixture.expertCount) experts of \(mixture.expertWidth) that "
          + "all run, with equal weights.")
    }
    return list
  }

  private var shape: [(String, String)] {
    let model = source.configuration
    return [
      ("layers", "\(model.layerCount)"), ("hidden size", "\(model.hiddenSize)"),
      ("query heads × head dimension", "\(model.headCount) × \(model.wideHeadDimension)"),
      ("dense feed-forward", "\(model.feedForwardSize)"),
      ("vocabulary", "\(model.vocabularySize)"), ("context", "\(model.contextLength)"),
    ]
  }
}
