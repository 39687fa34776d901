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

  private func products(_ parameters: Double, _ activeParameters: Double, rows: Double) -> Double {
    smoothMaximum(
      parameters * weightByteCount / (hardware.bandwidth * (efficiency.linearBandwidth ?? 0.85)),
      2 * activeParameters * rows / (hardware.bf16Peak * (efficiency.linearFlops ?? 0.5)),
      exponent: Self.smoothing)
  }

  /// Seconds of one step.
  package func seconds(_ step: Step) -> Double {
    let rows = step.sequences * step.newTokens
    let hidden = model.hiddenDimension
    // New tokens see each other causally: half of themselves on average.
    let attended = step.context + (step.newTokens + 1) / 2
    var sum = efficiency.head ?? 0
    for layer in model.layerClasses {
      let attention = layer.attention
      let visible = attention.attendedTokens(context: attended)
      let bytes =
        step.sequences * attention.attendedTokens(context: step.context + step.newTokens)
        * attention.shape.storedElementCount * kvByteCount
      let flops = rows * visible * attention.shape.coreFlops(.exact)
      let core = smoothMaximum(
        bytes / (hardware.bandwidth * (efficiency.attentionBandwidth ?? 0.7)),
        flops / (hardware.bf16Peak * (efficiency.attentionFlops ?? 0.3)),
        exponent: Self.smoothing)
      let linear = attention.shape.linearParameterCount(hidden: hidden)
      let feedForward = layer.feedForward
      let time =
        core + products(linear, linear, rows: rows)
        + products(
          feedForward.touchedParameterCount(hidden: hidden, tokens: rows),
          feedForward.activeParameterCount(hidden: hidden), rows: rows)
        + (efficiency.attentionOverhead ?? 0) + (efficiency.feedForwardOverhead ?? 0)
      sum += Double(layer.layerCount) * time
    }
    let head = Double(model.vocabularySize * hidden)
    return sum + products(head, head, rows: step.logitRows)
  }
}
