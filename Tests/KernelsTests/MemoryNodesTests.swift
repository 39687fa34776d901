import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct MemoryNodesTests {
  /// A folder as the kernel makes it; nodes without cores have memory only.
  private func nodes(_ lists: [Int: String]) throws -> MemoryNodes {
    let folder = try TemporaryFolder()
    let numbers = lists.keys.sorted().map(String.init).joined(separator: ",")
    try Data((numbers + "\n").utf8).write(to: folder.file("online"))
    for (number, list) in lists {
      let node = folder.file("node\(number)")
      try FileManager.default.createDirectory(at: node, withIntermediateDirectories: true)
      try Data((list + "\n").utf8).write(to: node.appendingPathComponent("cpulist"))
    }
    return MemoryNodes(path: folder.url.path)
  }

  @Test("one node leaves the cores in their order")
  func oneNode() throws {
    let one = try nodes([0: "0-3"])
    #expect(one.spread([0, 1, 2, 3]) == [0, 1, 2, 3])
    one.interleavePages()
  }

  @Test("threads are spread over the nodes, whatever cores the process may use")
  func manyNodes() throws {
    let two = try nodes([0: "0-3,8-11", 1: "4-7,12-15", 2: ""])
    #expect(two.cores == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]])
    #expect(two.numbers == [0, 1])
    #expect(two.spread([0, 1, 2, 3, 4, 5, 6, 7]) == [0, 4, 1, 5, 2, 6, 3, 7])
    #expect(two.spread([1, 2, 3, 4, 20]) == [1, 4, 2, 3, 20])
    #expect(Set(two.spread(Array(0..<16))) == Set(0..<16))
  }

  @Test("a machine that tells nothing keeps its cores")
  func unknown() {
    let none = MemoryNodes(path: "/nonexistent")
    #expect(none.spread([2, 0]) == [2, 0])
  }
}
