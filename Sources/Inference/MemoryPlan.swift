import Foundation

/// What a model takes in memory, and what this machine has.
package struct MemoryPlan: Sendable, Equatable {
  /// Bytes of the mapped weights.
  package var weightByteCount: Int
  /// Bytes of the KV cache.
  package var cacheByteCount: Int
  /// Bytes of activations and scratch.
  package var scratchByteCount: Int

  package init(weightByteCount: Int, cacheByteCount: Int, scratchByteCount: Int) {
    self.weightByteCount = weightByteCount
    self.cacheByteCount = cacheByteCount
    self.scratchByteCount = scratchByteCount
  }

  /// The sum.
  package var totalByteCount: Int { weightByteCount + cacheByteCount + scratchByteCount }

  /// Refuses a plan that does not fit into what is free.
  package func check(available: Int? = availableMemory()) throws(InferenceError) {
    guard let available, totalByteCount > available else { return }
    throw .notEnoughMemory(plan: self, available: available)
  }
}

/// Bytes that this process could still take: free memory and reclaimable page cache, cut by the
/// cgroup's limit and by the process's own; nil when the system does not tell.
package func availableMemory() -> Int? {
  var candidates: [Int] = []
  if let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) {
    for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
      let digits = line.drop { !$0.isNumber }.prefix { $0.isNumber }
      if let kibibytes = Int(digits) { candidates.append(kibibytes << 10) }
    }
  }
  func number(_ path: String) -> Int? {
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return nil }
    return Int(text.prefix { $0.isNumber })
  }
  let cgroup = "/sys/fs/cgroup/"
  if let limit = number(cgroup + "memory.max"), let used = number(cgroup + "memory.current") {
    let cached = fileCache(cgroup + "memory.stat")
    candidates.append(max(0, limit - used + cached))
  }
  if let own = addressSpaceLeft() { candidates.append(own) }
  return candidates.min()
}

/// Page cache charged to the cgroup; the kernel gives it back before it refuses memory.
private func fileCache(_ path: String) -> Int {
  guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return 0 }
  for line in text.split(separator: "\n") where line.hasPrefix("file ") {
    return Int(line.dropFirst(5)) ?? 0
  }
  return 0
}

/// What `ulimit -v` leaves; nil when there is no limit.
private func addressSpaceLeft() -> Int? {
  guard let limits = try? String(contentsOfFile: "/proc/self/limits", encoding: .utf8),
    let line = limits.split(separator: "\n").first(where: { $0.hasPrefix("Max address space") }),
    let limit = Int(line.dropFirst(17).drop { $0 == " " }.prefix { $0.isNumber }),
    let statm = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
    let pages = Int(statm.prefix { $0.isNumber })
  else { return nil }
  return max(0, limit - pages * 4096)
}
