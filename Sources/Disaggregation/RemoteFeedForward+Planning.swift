// What exchanges teach of the stages' times, and what follows for the next step.

import Step3Model

extension RemoteFeedForward {
  /// In how many micro-batches a step is done soonest.
  package func microBatchCount(rowCount: Int, limit: Int) -> Int {
    planner.choose(
      rowCount: rowCount, limit: min(limit, context.microBatchLimit),
      layerCount: context.layers.count)
  }

  /// Takes an exchange's times into the planner's lines.
  func learn(_ record: ExchangeRecord) {
    guard let last = record.work.max(by: { $0.arrived < $1.arrived }) else { return }
    let slowest = record.work.max { $0.finished - $0.started < $1.finished - $1.started } ?? last
    // Packing and adding keep this side's cores busy as attention does; waiting for the peer's
    // cores, or an answer's waiting for this side's, is not time on the way.
    let busy = record.submitted - record.attentionBegan + (record.combined - record.completed)
    planner.attention.add(rowCount: record.tokenCount, seconds: busy.inSeconds)
    planner.feedForward.add(
      rowCount: slowest.jobRowCount, seconds: (slowest.finished - slowest.started).inSeconds)
    planner.transfer.add(
      rowCount: record.tokenCount,
      seconds: last.transferTime(since: record.submitted).inSeconds / 2)
  }
}
