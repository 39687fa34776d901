extension RemoteFeedForward {
  /// How many dispatches each node lets this process have under way.
  package var creditLimits: [Int] { machine.nodes.map(\.credit) }

  /// How many answers each node owes.
  package var owedCounts: [Int] { machine.nodes.map(\.owedCount) }

  /// Blocks in use, for tests of leaks.
  package var usedBlockCount: Int { sendBlocks.usedCount + answerBlocks.usedCount }

  /// What others may know of the exchange.
  package var counters: ExchangeCounters {
    var counters = ExchangeCounters()
    counters.times = statistics.times
    counters.traffic = statistics.traffic
    counters.lostLinkCount = statistics.lostLinkCount
    counters.failureCount = statistics.failureCount
    counters.resendCount = machine.resendCount
    counters.duplicateCount = machine.duplicateCount
    counters.mapEpoch = options.map.epoch
    for (node, link) in linkOfNode.enumerated() {
      guard let link, let time = hub.link(link)?.roundTrip else { continue }
      counters.roundTrips[node] = time
    }
    return counters
  }
}
