import Kernels
import Synchronization
import Testing

@Suite struct WorkTeamTests {
  @Test("every chunk runs once, whatever the number of threads", arguments: [1, 2, 3, 8])
  func everyChunkOnce(threads: Int) {
    let team = WorkTeam(workerCount: threads)
    let total = Atomic<Int>(0)
    for round in 0..<200 {
      let count = round % 17
      total.store(0, ordering: .relaxed)
      team.run(chunkCount: count) { chunk, worker in
        #expect(worker >= 0 && worker < threads)
        total.add(1 << chunk, ordering: .relaxed)
      }
      #expect(total.load(ordering: .relaxed) == (1 << count) - 1)
    }
  }

  @Test("teams start and end without work")
  func startAndEnd() {
    for _ in 0..<50 { _ = WorkTeam(workerCount: 2) }
  }

  @Test("a set that this CPU lacks is named in the error")
  func unavailable() throws {
    #expect(throws: Never.self) { try KernelSet.select(.reference) }
    let names = KernelSet.available.map(\.name)
    #expect(names.last == "reference")
    for choice in KernelChoice.allCases where choice != .auto {
      if names.contains(choice.rawValue) { continue }
      #expect(throws: KernelError.self) { try KernelSet.select(choice) }
    }
  }
}
