// How many micro-batches a step should have. With T_A, T_F and T_C for a micro-batch of b rows, a
// layer of m micro-batches takes
//
//     P(m) = max(m·T_A(b), m·T_F(b), T_A(b) + T_F(b) + 2·T_C(b)),   b = rows / m
//
// and a step one such period per layer and, at its end, the way out of the last micro-batch.
// More micro-batches hide communication; but a stage that reads its weights for each of them gets
// no shorter with b, and then m costs what it hides. So the stages' times are kept as lines over b.

/// A stage's time as a line over the rows of a micro-batch, fitted to what was measured lately.
package struct StageLine: Hashable, Sendable {
  private var weight = 0.0
  private var rows = 0.0
  private var rowsSquared = 0.0
  private var seconds = 0.0
  private var product = 0.0
  /// How much a measurement counts after one more.
  private static let decay = 0.998

  /// Nothing measured.
  package init() {}

  /// Adds a measurement.
  package mutating func add(rowCount: Int, seconds time: Double) {
    let x = Double(rowCount)
    weight = weight * Self.decay + 1
    rows = rows * Self.decay + x
    rowsSquared = rowsSquared * Self.decay + x * x
    seconds = seconds * Self.decay + time
    product = product * Self.decay + x * time
  }

  /// Whether anything was measured.
  package var isKnown: Bool { weight > 0 }

  /// Whether different numbers of rows were measured, so that the line has a slope.
  package var hasSlope: Bool { spread > 0.02 * rows * rows / max(1, weight) }

  private var spread: Double { rowsSquared - rows * rows / max(weight, 1e-9) }

  /// Seconds for a number of rows; proportional to them while there is no slope.
  package func seconds(rowCount: Double) -> Double {
    guard isKnown else { return 0 }
    let (meanRows, meanSeconds) = (rows / weight, seconds / weight)
    guard hasSlope else { return meanSeconds * rowCount / max(meanRows, 1e-9) }
    let slope = max(0, (product - rows * seconds / weight) / spread)
    let base = max(0, meanSeconds - slope * meanRows)
    return base + slope * rowCount
  }
}

/// Chooses the number of micro-batches from measured times.
package struct PipelinePlanner: Hashable, Sendable {
  /// The attention half of a layer.
  package var attention = StageLine()
  /// The feed-forward half, as long as the slowest shard takes.
  package var feedForward = StageLine()
  /// One direction on the way.
  package var transfer = StageLine()
  private var choiceCount = 0
  private var lastChoice = 2

  /// Nothing measured.
  package init() {}

  /// The predicted time of a layer.
  package func period(rowCount: Int, microBatchCount m: Int) -> Double {
    let rows = Double(rowCount) / Double(m)
    let a = attention.seconds(rowCount: rows)
    let f = feedForward.seconds(rowCount: rows)
    let c = transfer.seconds(rowCount: rows)
    return max(Double(m) * max(a, f), a + f + 2 * c)
  }

  /// The predicted time of a step's layers: every layer takes a period, and in the end the
  /// feed-forward half of the last micro-batch is waited for.
  package func stepTime(rowCount: Int, microBatchCount m: Int, layerCount: Int) -> Double {
    let rows = Double(rowCount) / Double(m)
    let a = attention.seconds(rowCount: rows)
    let f = feedForward.seconds(rowCount: rows)
    let c = transfer.seconds(rowCount: rows)
    let period = period(rowCount: rowCount, microBatchCount: m)
    return Double(layerCount - 1) * period + max(Double(m) * a, a + Double(m - 1) * f) + f + 2 * c
  }

  /// The number of micro-batches that a step should have, at most `limit`.
  ///
  /// The first steps try one, two and three, to learn the lines; later ones, when all that was
  /// measured of late has the same rows, a neighbour of the last choice.
  package mutating func choose(rowCount: Int, limit: Int, layerCount: Int) -> Int {
    let most = min(limit, rowCount)
    if most < 2 { return max(1, most) }
    choiceCount += 1
    // The first step pays for cold caches and page tables: it teaches nothing.
    if choiceCount == 2 { (attention, feedForward, transfer) = (.init(), .init(), .init()) }
    if choiceCount <= 7 { return min(most, 1 + choiceCount % 3) }
    guard attention.hasSlope, feedForward.hasSlope else {
      let neighbour = choiceCount % 2 == 0 ? lastChoice + 1 : lastChoice - 1
      return (1...most).contains(neighbour) ? neighbour : min(most, lastChoice)
    }
    var best = 1
    var least = stepTime(rowCount: rowCount, microBatchCount: 1, layerCount: layerCount)
    for m in 2...most {
      let time = stepTime(rowCount: rowCount, microBatchCount: m, layerCount: layerCount)
      if time < 0.98 * least { (best, least) = (m, time) }
    }
    lastChoice = best
    return best
  }
}
