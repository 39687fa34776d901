import Dispatch
import Foundation
import Inference
import Sampling
import Synchronization
import Testing

@Suite struct EngineSoakTests {
  /// What one request was told, in numbers.
  private struct Tally {
    var finished: [Int]
    var lateEvents = 0
    var promptReports = 0
  }

  @Test(
    "thousands of mixed requests from several threads, many cancelled: all end once, all is free")
  func soak() throws {
    let engine = try hashedEngine(
      sequences: 12, stepTokens: 40, capacity: 200, blockSize: 8, queued: 10_000)
    let tallies = Mutex<[String: Tally]>([:])
    let group = DispatchGroup()
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      for index in 0..<500 {
        let request = makeRequest(thread * 500 + index)
        tallies.withLock {
          $0[request.id] = Tally(finished: [Int](repeating: 0, count: request.choiceCount))
        }
        group.enter()
        do {
          try engine.submit(request) { event in
            let isOver = tallies.withLock { Self.note(event, &$0[request.id]) }
            if isOver { group.leave() }
          }
        } catch {
          Issue.record("\(error)")
          group.leave()
        }
        if index % 10 == 3 { engine.cancel(request.id) }
        if index % 10 == 7 { engine.cancel("q\(thread * 500 + index / 2)", choice: 1) }
      }
    }
    group.wait()
    for (id, tally) in tallies.withLock({ $0 }) {
      #expect(tally.finished.allSatisfy { $0 == 1 } && tally.lateEvents == 0, "\(id)")
      #expect(tally.promptReports <= 1, "\(id)")
    }
    engine.stop()
    let load = engine.load
    #expect(load.cacheUsage == 0)
    #expect(load.runningRequestCount == 0 && load.waitingRequestCount == 0)
    #expect(load.preemptionCount > 0)
  }

  private static func note(_ event: GenerationEvent, _ tally: inout Tally?) -> Bool {
    guard var noted = tally else { return false }
    defer { tally = noted }
    switch event {
    case .promptProcessed:
      noted.promptReports += 1
      return false
    case .token(let token):
      if noted.finished[token.choice] > 0 { noted.lateEvents += 1 }
      return false
    case .finished(let end):
      noted.finished[end.choice] += 1
      return noted.finished.reduce(0, +) == noted.finished.count
    }
  }

  private func makeRequest(_ number: Int) -> GenerationRequest {
    let bits = HashedExecutor.mix(UInt64(number))
    let prompt = (0..<Int(1 + bits % 60)).map { ($0 * 7 + number) % 50 }
    // Sampling parameters that are always valid.
    guard let sampling = try? SamplingParameters(temperature: Double(bits >> 8 & 1)) else {
      preconditionFailure("valid parameters were refused")
    }
    return GenerationRequest(
      id: "q\(number)", prompt: prompt, sampling: sampling, seed: bits,
      choiceCount: bits >> 9 & 7 == 0 ? 3 : 1, maximumTokens: Int(bits >> 12 & 31),
      promptLogprobCount: bits >> 20 & 7 == 0 ? 1 : nil)
  }
}
