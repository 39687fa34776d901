package import CostModel

/// What one resource does for one micro-batch in one layer.
package struct TimelineSpan: Equatable, Sendable {
  /// The stages of a layer, in the order in which a micro-batch passes them.
  package enum Stage: Int, Sendable, CaseIterable {
    case attention
    case outbound
    case feedForward
    case inbound
  }

  /// What, for which micro-batch and layer, and from when to when in seconds.
  package let stage: Stage
  package let microBatch: Int
  package let layer: Int
  package let start: Double
  package let end: Double
}

/// The pipeline of attention, links and FFN, event by event: the report's Figure 7 from numbers.
package struct PipelineTimeline: Sendable {
  /// Everything that happened, in the order in which it began.
  package let spans: [TimelineSpan]
  /// Seconds per layer once the pipeline is in its stride: the mean over the second half.
  package let steadyPeriod: Double

  private struct Arrival: Sendable {
    let microBatch: Int
    let layer: Int
    let stage: TimelineSpan.Stage
  }

  /// - Parameters:
  ///   - layers: stage times of each layer in order.
  ///   - duplex: whether both directions share the link.
  ///   - jitter: deviation of a stage's time over its mean.
  package init(
    layers: [LayerTiming], microBatches: Int, duplex: Duplex, jitter: Double = 0, seed: UInt64 = 1
  ) {
    var random = SeededGenerator(seed: seed)
    var queue = EventQueue<Double, Arrival>()
    var freeAt = [Double](repeating: 0, count: TimelineSpan.Stage.allCases.count)
    var spans: [TimelineSpan] = []
    var layerEnds = [Double](repeating: 0, count: layers.count)
    for microBatch in 0..<microBatches {
      queue.insert(Arrival(microBatch: microBatch, layer: 0, stage: .attention), at: 0)
    }
    while let (time, arrival) = queue.popFirst() {
      let timing = layers[arrival.layer]
      // With half duplex both transfers wait for the same link.
      let resource =
        duplex == .half && arrival.stage == .inbound
        ? TimelineSpan.Stage.outbound.rawValue : arrival.stage.rawValue
      if freeAt[resource] > time {
        queue.insert(arrival, at: freeAt[resource])
        continue
      }
      let noise = jitter > 0 ? max(0, 1 + jitter * random.normal()) : 1
      let end = time + Self.seconds(timing, arrival.stage) * noise
      freeAt[resource] = end
      spans.append(
        TimelineSpan(
          stage: arrival.stage, microBatch: arrival.microBatch, layer: arrival.layer, start: time,
          end: end))
      if let next = TimelineSpan.Stage(rawValue: arrival.stage.rawValue + 1) {
        queue.insert(
          Arrival(microBatch: arrival.microBatch, layer: arrival.layer, stage: next), at: end)
      } else {
        layerEnds[arrival.layer] = max(layerEnds[arrival.layer], end)
        if arrival.layer + 1 < layers.count {
          queue.insert(
            Arrival(
              microBatch: arrival.microBatch, layer: arrival.layer + 1, stage: .attention), at: end)
        }
      }
    }
    self.spans = spans
    let middle = layers.count / 2
    steadyPeriod =
      layers.count > 1 && middle > 0
      ? (layerEnds[layers.count - 1] - layerEnds[middle - 1]) / Double(layers.count - middle)
      : layerEnds.first ?? 0
  }

  /// A third of the bytes goes out (FP8), two thirds come back (BF16).
  private static func seconds(_ timing: LayerTiming, _ stage: TimelineSpan.Stage) -> Double {
    switch stage {
    case .attention: timing.attention.total
    case .outbound: timing.network.roundTrip / 3
    case .feedForward: timing.feedForward.total
    case .inbound: timing.network.roundTrip * 2 / 3
    }
  }
}
