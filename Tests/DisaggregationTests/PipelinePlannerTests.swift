import Disaggregation
import Testing

@Suite("Number of micro-batches")
struct PipelinePlannerTests {
  /// A planner that has seen stages of `fixed + rows · slope` microseconds.
  private func planner(
    attention: (fixed: Double, slope: Double), feedForward: (fixed: Double, slope: Double),
    transfer: Double
  ) -> PipelinePlanner {
    var planner = PipelinePlanner()
    // The first step's times are forgotten, and the first choices only learn.
    for _ in 0..<2 { _ = planner.choose(rowCount: 16, limit: 8, layerCount: 32) }
    for rows in [16, 8, 5, 4] {
      planner.attention.add(
        rowCount: rows, seconds: (attention.fixed + Double(rows) * attention.slope) * 1e-6)
      planner.feedForward.add(
        rowCount: rows, seconds: (feedForward.fixed + Double(rows) * feedForward.slope) * 1e-6)
      planner.transfer.add(rowCount: rows, seconds: transfer * 1e-6)
    }
    for _ in 0..<8 { _ = planner.choose(rowCount: 16, limit: 8, layerCount: 32) }
    return planner
  }

  @Test("a slow first step and a disturbed one are forgotten")
  func disturbedStart() {
    var planner = PipelinePlanner()
    var chosen: [Int] = []
    for step in 0..<400 {
      let count = planner.choose(rowCount: 16, limit: 4, layerCount: 12)
      chosen.append(count)
      let rows = 16 / count
      // The first step pays for cold memory; the fifth, of two halves, falls into a busy moment.
      let slowness = step == 0 ? 20.0 : step == 4 ? 5.0 : 1.0
      for _ in 0..<12 * count {
        planner.attention.add(rowCount: rows, seconds: Double(rows) * 100e-6)
        planner.feedForward.add(
          rowCount: rows, seconds: slowness * (200 + Double(rows) * 80) * 1e-6)
        planner.transfer.add(rowCount: rows, seconds: 10e-6)
      }
    }
    // At once, not when later steps have outweighed the first.
    #expect(chosen[6..<30].allSatisfy { $0 == 2 }, "\(chosen)")
    #expect(chosen.suffix(64).count { $0 == 2 } >= 56, "\(chosen)")
  }

  @Test("two are enough for equal halves and no network; a longer way asks for more")
  func balanced() {
    var near = planner(attention: (0, 100), feedForward: (0, 100), transfer: 0)
    #expect(near.choose(rowCount: 16, limit: 8, layerCount: 200) == 2)
    var far = planner(attention: (0, 100), feedForward: (0, 100), transfer: 400)
    #expect(far.choose(rowCount: 16, limit: 8, layerCount: 200) >= 3)
  }

  @Test("a half that reads its weights whatever the rows is not cut in more than it needs")
  func weightBound() {
    var planner = planner(attention: (0, 10), feedForward: (1000, 1), transfer: 20)
    #expect(planner.choose(rowCount: 16, limit: 8, layerCount: 32) == 1)
  }

  @Test("the predicted step is the layers' periods and the way out of the last one")
  func prediction() {
    let planner = planner(attention: (0, 100), feedForward: (0, 50), transfer: 25)
    // b = 8: a 800, f 400, c 25; the attention side is never idle but at the end.
    let seconds = planner.stepTime(rowCount: 16, microBatchCount: 2, layerCount: 10)
    #expect(abs(seconds - (10 * 1600 + 400 + 50) * 1e-6) < 1e-8)
    // One micro-batch goes there and back in every layer.
    let serial = planner.stepTime(rowCount: 16, microBatchCount: 1, layerCount: 10)
    #expect(abs(serial - 10 * (1600 + 800 + 50) * 1e-6) < 1e-8)
  }

  @Test("a step of one row is one micro-batch")
  func oneRow() {
    var planner = PipelinePlanner()
    #expect(planner.choose(rowCount: 1, limit: 8, layerCount: 4) == 1)
  }
}
