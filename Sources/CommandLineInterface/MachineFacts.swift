#if canImport(FoundationEssentials)
  import FoundationEssentials
#else
  import Foundation
#endif

/// What Linux tells about the machine and the limits of this process; what it does not tell is nil.
package struct MachineFacts: Sendable, Equatable {
  /// The processor's name.
  package var processor: String?
  /// Its instruction set flags.
  package var flags: Set<String> = []
  /// Logical processors, and physical cores.
  package var logicalCount = 0
  /// Physical cores.
  package var coreCount = 0
  /// The frequency governors of the processors.
  package var governors: Set<String> = []
  /// The CPU time the control group may use, in cores.
  package var cpuQuota: Double?
  /// Bytes of memory, of memory free for programs, and of swap.
  package var memoryByteCount: Int?
  /// Bytes that programs could still take.
  package var availableByteCount: Int?
  /// The same within the limit of the control group.
  package var usableByteCount: Int? { availableByteCount.map { min($0, memoryLimit ?? .max) } }
  /// Bytes of swap space.
  package var swapByteCount: Int?
  /// The memory limit of the control group.
  package var memoryLimit: Int?
  /// Transparent huge pages: `always`, `madvise` or `never`.
  package var hugePages: String?
  /// How many NUMA nodes hold memory.
  package var nodeCount = 1
  /// Whether the kernel moves pages between nodes by itself.
  package var isBalancingNodes = false
  /// What the kernel tells the time by.
  package var clockSource: String?
  /// Whether memory is refused before it is used (`vm.overcommit_memory` 2).
  package var refusesOvercommit = false
  /// The most files the process may open; `Int.max` for no limit.
  package var openFileLimit: Int?
  /// The most bytes the process may lock in memory; `Int.max` for no limit.
  package var lockedMemoryLimit: Int?
  /// The most bytes of address space; `Int.max` for no limit.
  package var addressSpaceLimit: Int?

  /// The facts of this machine, or of the file tree at `root`.
  package init(root: String = "") {
    func text(_ path: String) -> String? {
      (try? String(contentsOfFile: root + path, encoding: .utf8)).map { text in
        var text = text[...]
        while text.last?.isWhitespace ?? false { text.removeLast() }
        return String(text)
      }
    }
    func names(_ path: String, prefix: String) -> [String] {
      let all = (try? FileManager.default.contentsOfDirectory(atPath: root + path)) ?? []
      return all.filter { name in
        name.hasPrefix(prefix) && name.dropFirst(prefix.count).allSatisfy(\.isNumber)
          && name.count > prefix.count
      }
    }
    readProcessor(text("/proc/cpuinfo") ?? "")
    let processors = names("/sys/devices/system/cpu", prefix: "cpu")
    governors = Set(
      processors.compactMap { text("/sys/devices/system/cpu/\($0)/cpufreq/scaling_governor") })
    let memory = Self.table(text("/proc/meminfo") ?? "")
    memoryByteCount = memory["MemTotal"].map { $0 << 10 }
    availableByteCount = memory["MemAvailable"].map { $0 << 10 }
    swapByteCount = memory["SwapTotal"].map { $0 << 10 }
    readGroup(text("/proc/self/cgroup") ?? "", text)
    let pages = text("/sys/kernel/mm/transparent_hugepage/enabled") ?? ""
    hugePages = pages.split(separator: " ").first { $0.hasPrefix("[") }
      .map { String($0.dropFirst().dropLast()) }
    nodeCount = max(1, names("/sys/devices/system/node", prefix: "node").count)
    isBalancingNodes = text("/proc/sys/kernel/numa_balancing") == "1"
    clockSource = text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    refusesOvercommit = text("/proc/sys/vm/overcommit_memory") == "2"
    readLimits(text("/proc/self/limits") ?? "")
  }

  private mutating func readProcessor(_ text: String) {
    var cores: Set<String> = []
    var package = ""
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      let key = parts[0].filter { !$0.isWhitespace }
      let value = parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
      switch key {
      case "processor": logicalCount += 1
      case "modelname": processor = processor ?? value
      case "flags", "Features":
        if flags.isEmpty { flags = Set(value.split(separator: " ").map(String.init)) }
      case "physicalid": package = value
      case "coreid": cores.insert(package + "/" + value)
      default: break
      }
    }
    coreCount = cores.isEmpty ? logicalCount : cores.count
  }

  /// The limits of the control group this process is in, in either version of the interface.
  private mutating func readGroup(_ groups: String, _ text: (String) -> String?) {
    for line in groups.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isUnified = parts[1].isEmpty
      let controllers = parts[1].split(separator: ",")
      // Every group above counts too; inside a container only the top may be visible.
      var path = parts[2] == "/" ? "" : String(parts[2])
      while true {
        if isUnified {
          note(memory: text("/sys/fs/cgroup\(path)/memory.max"))
          let quota = (text("/sys/fs/cgroup\(path)/cpu.max") ?? "").split(separator: " ")
          if quota.count == 2 { note(quota: Double(quota[0]), period: Double(quota[1])) }
        } else if controllers.contains("memory") {
          note(memory: text("/sys/fs/cgroup/memory\(path)/memory.limit_in_bytes"))
        } else if controllers.contains("cpu") {
          let folder = "/sys/fs/cgroup/cpu\(path)/cpu.cfs_"
          note(
            quota: text(folder + "quota_us").flatMap { Double($0) },
            period: text(folder + "period_us").flatMap { Double($0) })
        }
        guard let slash = path.lastIndex(of: "/") else { break }
        path = String(path[..<slash])
      }
    }
  }

  private mutating func note(memory text: String?) {
    // The older interface writes no limit as a huge number.
    guard let limit = text.flatMap({ Int($0) }), limit < 1 << 60 else { return }
    memoryLimit = min(memoryLimit ?? limit, limit)
  }

  private mutating func note(quota: Double?, period: Double?) {
    guard let quota, let period, quota > 0, period > 0 else { return }
    cpuQuota = min(cpuQuota ?? .infinity, quota / period)
  }

  private mutating func readLimits(_ text: String) {
    func limit(_ name: String) -> Int? {
      guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }) else {
        return nil
      }
      let soft = line.dropFirst(name.count).split(separator: " ").first
      return soft == "unlimited" ? Int.max : soft.flatMap { Int($0) }
    }
    openFileLimit = limit("Max open files")
    lockedMemoryLimit = limit("Max locked memory")
    addressSpaceLimit = limit("Max address space")
  }

  private static func table(_ text: String) -> [String: Int] {
    var values: [String: Int] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(whereSeparator: { $0 == ":" || $0 == " " })
      if parts.count > 1, let value = Int(parts[1]) { values[String(parts[0])] = value }
    }
    return values
  }
}
