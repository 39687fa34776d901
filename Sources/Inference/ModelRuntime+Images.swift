package import Step3Model

extension ModelRuntime {
  /// Rows that a view of `side` pixels has within the tower.
  package func encodingRowCount(side: Int) -> Int { encoder?.rowCount(side: side) ?? 0 }

  /// So many that a layer of the tower, the smallest piece, costs no more than a prefill chunk.
  package var encodingRowLimit: Int {
    guard let encoder else { return 0 }
    return min(VisionWork.rowLimit, encodingBudget / encoder.layerWorkPerRow)
  }

  /// Takes up a batch of views.
  package mutating func beginEncoding(_ views: [PixelView]) {
    guard let encoder else { preconditionFailure("this model takes no images") }
    if vision == nil { vision = VisionWork(encoder: encoder) }
    vision?.begin(views)
  }

  /// Encodes a piece that costs about as much as one prefill chunk; the features in the end.
  package mutating func advanceEncoding() -> [VisionFeatures]? {
    vision?.advance(budget: encodingBudget)
  }

  /// Encodes all images of a prompt at once.
  package mutating func encode(_ images: [PlacedImage]) -> [PlacedFeatures] {
    var result: [PlacedFeatures] = []
    for placed in images {
      for (position, features) in zip(placed.viewPositions, encode(placed.image)) {
        result.append(PlacedFeatures(position: position, features: features))
      }
    }
    return result
  }

  /// Encodes one image: the features of each view, the crops' in order, then the whole's.
  package mutating func encode(_ image: PromptImage) -> [VisionFeatures] {
    (0..<image.viewCount).flatMap { index in
      beginEncoding([image.view(index)])
      while true {
        if let features = advanceEncoding() { return features }
      }
    }
  }

  /// Features that stand at rows `row ..< row + count`, which hold positions from `start` on.
  static func embeddedRows(
    _ placed: [PlacedFeatures], start: Int, count: Int, row: Int
  ) -> [EmbeddedRows] {
    placed.compactMap { one in
      let wanted = (one.position..<one.position + one.features.count)
        .clamped(to: start..<start + count)
      if wanted.isEmpty { return nil }
      return EmbeddedRows(
        row: row + wanted.lowerBound - start, count: wanted.count, features: one.features,
        first: wanted.lowerBound - one.position)
    }
  }
}
