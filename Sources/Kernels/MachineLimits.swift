import CKernels
import Tensors

/// Rates of repeated runs, in units per second.
package struct MeasuredRate: Sendable, Equatable {
  /// The middle one.
  package let median: Double
  /// The highest.
  package let best: Double

  /// Of `repeats` runs of `body`, each of which does `work` units.
  package static func of(
    work: Double, repeats: Int, _ body: () -> Void
  ) -> MeasuredRate {
    let clock = ContinuousClock()
    let rates = (0..<max(1, repeats)).map { _ in
      let duration = clock.measure(body).components
      return work / (Double(duration.seconds) + Double(duration.attoseconds) * 1e-18)
    }.sorted()
    return MeasuredRate(median: rates[rates.count / 2], best: rates[rates.count - 1])
  }
}

/// What bounds an engine on this machine, measured by loops that do nothing else.
package struct MachineLimits: Sendable, Equatable {
  /// The instruction that a peak is of.
  package enum Peak: Int32, Sendable, CaseIterable {
    case float32 = 0
    case bfloat16 = 1
    case int8 = 2

    /// Its name in reports.
    package var title: String {
      switch self {
      case .float32: "Float32"
      case .bfloat16: "BF16"
      case .int8: "INT8"
      }
    }
  }

  /// Threads that ran.
  package let threadCount: Int
  /// Bytes per second of memory far larger than the caches.
  package let read: MeasuredRate
  /// Operations per second, where the CPU has the instruction; an add and a multiply are two.
  package let peaks: [Peak: MeasuredRate]

  /// The instruction by which products of BF16 values are fastest here: dot products of BF16, or
  /// multiply-adds after widening.
  package var bestForBFloat16: Peak {
    (peaks[.bfloat16]?.median ?? 0) > (peaks[.float32]?.median ?? 0) ? .bfloat16 : .float32
  }

  /// Measures with all workers of a team; `byteCount` of memory are read.
  package static func measure(
    team: WorkTeam, byteCount: Int = 512 << 20, repeats: Int = 7
  ) -> MachineLimits {
    var peaks: [Peak: MeasuredRate] = [:]
    for peak in Peak.allCases {
      if let rate = measure(peak, team: team, repeats: repeats) { peaks[peak] = rate }
    }
    return MachineLimits(
      threadCount: team.workerCount,
      read: measureRead(team: team, byteCount: byteCount, repeats: repeats), peaks: peaks)
  }

  /// Bytes per second that the team reads.
  package static func measureRead(
    team: WorkTeam, byteCount: Int, repeats: Int
  ) -> MeasuredRate {
    let piece = 1 << 20
    let count = max(1, byteCount / piece)
    // Written once, so that every page is there.
    var memory = Buffer<UInt64>(count: count * piece / 8)
    for index in stride(from: 0, to: memory.count, by: 512) { memory[index] = UInt64(index) }
    return unsafe memory.withUnsafePointer { base in
      MeasuredRate.of(work: Double(count * piece), repeats: repeats) {
        team.run(chunkCount: count) { chunk, _ in
          blackHole(unsafe ck_probe_read(base + chunk * piece / 8, piece))
        }
      }
    }
  }

  /// Times per second that the team begins and ends a job without work, a chunk for each worker.
  package static func measureForkJoin(team: WorkTeam, repeats: Int = 7) -> MeasuredRate {
    let jobs = 10_000
    return MeasuredRate.of(work: Double(jobs), repeats: repeats) {
      for _ in 0..<jobs { team.run(chunkCount: team.workerCount) { _, _ in } }
    }
  }

  private static func measure(
    _ peak: Peak, team: WorkTeam, repeats: Int
  ) -> MeasuredRate? {
    var sink: Float = 0
    let rounds = 500_000
    let work = unsafe ck_probe_peak(peak.rawValue, rounds, &sink)
    if work == 0 { return nil }
    let chunks = 4 * team.workerCount
    return MeasuredRate.of(work: work * Double(chunks), repeats: repeats) {
      team.run(chunkCount: chunks) { _, _ in
        var sink: Float = 0
        blackHole(unsafe ck_probe_peak(peak.rawValue, rounds, &sink))
        blackHole(sink)
      }
    }
  }
}

/// Keeps the optimiser from dropping a measured result.
@inline(never)
private func blackHole<T>(_ value: T) {}
