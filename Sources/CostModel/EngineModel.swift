/// Seconds of this engine's steps on one machine: prefill and decode, from bytes and FLOPs.
///
/// The same terms as the time model of GPUs, with what the engine really does: weights are read
/// once per step whatever the number of rows, experts are touched by chance, the output head is
/// computed for the rows that ask for it, and every layer has a fixed part.
package struct EngineModel: Sendable {
  /// What a step computes.
  package struct Step: Equatable, Sendable {
    /// Sequences in the step, new tokens of each, and tokens cached before them.
    package let sequences: Double
    package let newTokens: Double
    package let context: Double
    /// Rows whose logits are wanted.
    package let logitRows: Double

    /// A step of decoding: one new token per sequence, all of them sampled.
    package static func decode(batch: Int, context: Int) -> Step {
      Step(
        sequences: Double(batch), newTokens: 1, context: Double(context),
        logitRows: Double(batch))
    }

    /// A chunk of a prompt, the last row of the prompt sampled.
    package static func prefill(tokens: Int, context: Int) -> Step {
      Step(sequences: 1, newTokens: Double(tokens), context: Double(context), logitRows: 1)
    }
  }

  private let model: ModelArchitecture
  private let hardware: Hardware
  private let efficiency: MeasuredEfficiency
  private let weightByteCount: Double
  private let kvByteCount: Double

  /// - Parameters:
  ///   - weightByteCount: bytes per weight as stored: 4, 2 or 1.
  ///   - kvByteCount: bytes per cached element.
  package init(
    _ model: ModelArchitecture, on hardware: Hardware, efficiency: MeasuredEfficiency,
    weightByteCount: Double, kvByteCount: Double
  ) {
    self.model = model
    self.hardware = hardware
    self.efficiency = efficiency
    self.weightByteCount = weightByteCount
    self.kvByteCount = kvByteCount
  }

  private static let smoothing = 3.0

  private func products(
    _ parameters: Double, _ activeParameters: Double, rows: Double, bandwidth: Double
  ) -> Double {
    smoothMaximum(
      parameters * weightByteCount / (bandwidth * (efficiency.linearBandwidth ?? 0.85)),
      2 * activeParameters * rows / (hardware.bf16Peak * (efficiency.linearFlops ?? 0.5)),
      exponent: Self.smoothing)
  }

  /// Seconds of one step.
  package func seconds(_ step: Step) -> Double {
    let layers = model.layerClasses.reduce(0) { sum, layer in
      sum + Double(layer.layerCount)
        * halves(layer, attending: step, feeding: step, shards: 1, hardware.bandwidth).sum
    }
    return layers + outside(step)
  }

  /// Attention and feed-forward on nodes of this entry's cores, all on one machine, tokens in
  /// micro-batches between them.
  package struct Split: Equatable, Sendable {
    /// Attention nodes, feed-forward nodes, and micro-batches in flight.
    package var attention: Int
    package var feedForward: Int
    package var microBatches: Int

    /// A split.
    package init(attention: Int, feedForward: Int, microBatches: Int) {
      self.attention = attention
      self.feedForward = feedForward
      self.microBatches = microBatches
    }
  }

  /// Seconds of one step in the steady state: per layer the busiest side, or one micro-batch's way
  /// through both sides and back where that is longer. While both sides work they share the
  /// machine's bandwidth; the longer side is alone for the rest of its time.
  package func seconds(_ step: Step, split: Split) -> Double {
    let m = Double(split.microBatches)
    func share(_ parts: Double) -> Step {
      Step(
        sequences: step.sequences / parts, newTokens: step.newTokens, context: step.context,
        logitRows: step.logitRows / Double(split.attention))
    }
    let attending = share(m * Double(split.attention))
    let part = min(
      hardware.bandwidth,
      (efficiency.machineBandwidth ?? .infinity) / Double(split.attention + split.feedForward))
    let layers = model.layerClasses.reduce(0.0) { sum, layer in
      func halves(_ bandwidth: Double) -> Halves {
        self.halves(
          layer, attending: attending, feeding: share(m), shards: split.feedForward, bandwidth)
      }
      let alone = halves(hardware.bandwidth)
      let beside = halves(part)
      let isAttentionLonger = beside.attention > beside.feedForward
      let shorter = min(beside.attention, beside.feedForward)
      let longer = max(beside.attention, beside.feedForward)
      let rest =
        (1 - shorter / longer) * (isAttentionLonger ? alone.attention : alone.feedForward)
      let wayThrough = alone.sum + 2 * (efficiency.exchange ?? 0)
      return sum + Double(layer.layerCount) * max(m * (shorter + rest), wayThrough)
    }
    return layers + outside(attending)
  }

  /// Seconds of a layer's two halves.
  private struct Halves {
    let attention: Double
    let feedForward: Double

    var sum: Double { attention + feedForward }
  }

  private func halves(
    _ layer: LayerClass, attending: Step, feeding: Step, shards: Int, _ bandwidth: Double
  ) -> Halves {
    Halves(
      attention: attention(layer.attention, attending, bandwidth),
      feedForward: feedForward(layer.feedForward, feeding, shards: shards, bandwidth))
  }

  /// Seconds of a layer's attention half.
  private func attention(
    _ attention: AttentionGroup, _ step: Step, _ bandwidth: Double
  ) -> Double {
    let rows = step.sequences * step.newTokens
    // New tokens see each other causally: half of themselves on average.
    let visible = attention.attendedTokens(context: step.context + (step.newTokens + 1) / 2)
    let bytes =
      step.sequences * attention.attendedTokens(context: step.context + step.newTokens)
      * attention.shape.storedElementCount * kvByteCount
    let flops = rows * visible * attention.shape.coreFlops(.exact)
    let core = smoothMaximum(
      bytes / (bandwidth * (efficiency.attentionBandwidth ?? 0.7)),
      flops / (hardware.bf16Peak * (efficiency.attentionFlops ?? 0.3)),
      exponent: Self.smoothing)
    let linear = attention.shape.linearParameterCount(hidden: model.hiddenDimension)
    return core + products(linear, linear, rows: rows, bandwidth: bandwidth)
      + (efficiency.attentionOverhead ?? 0)
  }

  /// Seconds of a layer's feed-forward half on one of `shards` nodes that hold it together.
  private func feedForward(
    _ group: FeedForwardGroup, _ step: Step, shards: Int, _ bandwidth: Double
  ) -> Double {
    let rows = step.sequences * step.newTokens
    let parts = Double(shards)
    let experts =
      group.isMoE
      ? expectedExpertsTouched(expertCount: group.expertCount, topK: group.topK, tokens: rows) : 0
    return products(
      group.touchedParameterCount(hidden: model.hiddenDimension, tokens: rows) / parts,
      group.activeParameterCount(hidden: model.hiddenDimension) / parts, rows: rows,
      bandwidth: bandwidth)
      + (efficiency.feedForwardOverhead ?? 0) + experts / parts * (efficiency.expertOverhead ?? 0)
  }

  /// Seconds of what no layer does: the output head and a fixed part.
  private func outside(_ step: Step) -> Double {
    let head = Double(model.vocabularySize * model.hiddenDimension)
    return (efficiency.head ?? 0)
      + products(head, head, rows: step.logitRows, bandwidth: hardware.bandwidth)
  }
}
