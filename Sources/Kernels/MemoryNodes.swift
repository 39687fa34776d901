import CKernels

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The machine's memory nodes (NUMA) and the cores beside each.
///
/// Weights are the page cache's own pages and every thread reads all of them, so they belong on all
/// nodes in turn, and threads beside every node. One node needs neither.
package struct MemoryNodes: Sendable, Equatable {
  /// Cores by node, in the order of the nodes' numbers; nodes without cores are left out.
  package let cores: [[Int]]
  /// The nodes' numbers, in the same order.
  package let numbers: [Int]

  /// This machine's.
  package static let current = MemoryNodes(path: "/sys/devices/system/node")

  /// Reads a folder such as the kernel's: `online`, and `nodeN/cpulist` for each node.
  package init(path: String) {
    var found: [(number: Int, cores: [Int])] = []
    for number in Self.list(Self.text(path + "/online")) {
      let cores = Self.list(Self.text("\(path)/node\(number)/cpulist"))
      if !cores.isEmpty { found.append((number, cores)) }
    }
    numbers = found.map(\.number)
    cores = found.map(\.cores)
  }

  /// These cores in an order that takes one of each node in turn, so that few threads have the
  /// bandwidth of all nodes. Those of no known node come last.
  package func spread(_ usable: [Int]) -> [Int] {
    guard cores.count > 1 else { return usable }
    var left = cores.map { node in usable.filter { node.contains($0) } }
    var order: [Int] = []
    while left.contains(where: { !$0.isEmpty }) {
      for node in left.indices where !left[node].isEmpty { order.append(left[node].removeFirst()) }
    }
    return order + usable.filter { !order.contains($0) }
  }

  /// Spreads the pages that this thread, and threads it starts, touch first over all nodes.
  package func interleavePages() {
    guard numbers.count > 1 else { return }
    let nodes = numbers.map { Int32($0) }
    unsafe ck_interleave_memory(nodes, Int32(nodes.count))
  }

  /// The numbers of a list such as "0-3,8".
  static func list(_ text: String) -> [Int] {
    text.split { $0 == "," || $0 == "\n" }.flatMap { piece in
      let ends = piece.split(separator: "-").compactMap { Int($0) }
      guard let first = ends.first, let last = ends.last, first <= last else { return [Int]() }
      return Array(first...last)
    }
  }

  private static func text(_ path: String) -> String {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = unsafe read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }
}
