import Disaggregation
import Testing

@Suite("Where an attention process waits")
struct StepTimesTests {
  private func span(_ began: Int, _ ended: Int) -> TimeSpan {
    TimeSpan(began: .microseconds(began), ended: .microseconds(ended))
  }

  @Test("a wait is imbalance while any node has any of the work, and communication otherwise")
  func split() {
    var times = StepTimes()
    // The second span of work is another micro-batch's, the third lies within the second.
    times.addWaits(
      [span(0, 100), span(200, 260), span(300, 310)],
      work: [span(220, 400), span(20, 50), span(230, 240), span(45, 60)])
    #expect(times.imbalance == .microseconds(40 + 40 + 10))
    #expect(times.communication == .microseconds(60 + 20))
    #expect(times.wall == .microseconds(170))
  }
}
