/// One thing that `step3 doctor` looked at.
package struct MachineFinding: Sendable, Equatable {
  /// How it stands.
  package enum Verdict: String, Sendable {
    case good, warning, problem
  }

  /// What was looked at.
  package let name: String
  /// How it stands.
  package let verdict: Verdict
  /// What was found.
  package let value: String
  /// What to change, when there is something.
  package let advice: String?

  /// A finding.
  package init(_ name: String, _ verdict: Verdict, _ value: String, advice: String? = nil) {
    self.name = name
    self.verdict = verdict
    self.value = value
    self.advice = advice
  }

  /// A finding that needs no change.
  package init(_ name: String, _ value: String) {
    self.init(name, .good, value)
  }
}

extension MachineFacts {
  /// What was found, and what to change, in the order of a reading person's interest.
  package var findings: [MachineFinding] {
    [
      processorFinding, instructionFinding, governorFinding, quotaFinding, memoryFinding,
      hugePageFinding, nodeFinding, swapFinding, overcommitFinding, clockFinding,
      openFileFinding, lockedMemoryFinding, addressSpaceFinding,
    ].compactMap { $0 }
  }

  private var processorFinding: MachineFinding {
    MachineFinding(
      "processor",
      "\(processor ?? "unknown"), \(coreCount) cores, \(logicalCount) logical processors")
  }

  private var instructionFinding: MachineFinding {
    let wide = ["avx512f", "avx512bw", "avx512vl", "avx512dq"]
    let wanted = ["avx2", "fma", "f16c"] + wide + ["avx512_vnni", "avx512_bf16", "amx_bf16"]
    let found = wanted.filter(flags.contains)
    let value = found.isEmpty ? "none of AVX2, FMA, AVX-512" : found.joined(separator: " ")
    if flags.contains("asimd") { return MachineFinding("instructions", "asimd (NEON)") }
    if wide.allSatisfy(flags.contains) { return MachineFinding("instructions", value) }
    guard ["avx2", "fma", "f16c"].allSatisfy(flags.contains) else {
      return MachineFinding(
        "instructions", .problem, value,
        advice: "only the slow reference kernels can run; use a machine with AVX2 and FMA, or let "
          + "the virtual machine show them (CPU type 'host')")
    }
    return MachineFinding(
      "instructions", .warning, value,
      advice:
        "no AVX-512: the AVX2 kernels run; if the processor has it, the virtual machine hides it")
  }

  private var governorFinding: MachineFinding? {
    guard !governors.isEmpty else { return nil }
    let value = governors.sorted().joined(separator: ", ")
    if governors == ["performance"] { return MachineFinding("frequency governor", value) }
    return MachineFinding(
      "frequency governor", .warning, value,
      advice: "cpupower frequency-set -g performance makes the timing steady")
  }

  private var quotaFinding: MachineFinding? {
    guard let cpuQuota else { return nil }
    let value = "\(ByteSize.decimal(cpuQuota, digits: 1)) cores"
    if cpuQuota >= Double(coreCount) { return MachineFinding("CPU quota", value) }
    let threads = max(1, Int(cpuQuota))
    return MachineFinding(
      "CPU quota", .warning, value,
      advice: "the control group stops threads that use more; raise it or use --threads \(threads)")
  }

  private var memoryFinding: MachineFinding? {
    guard let memoryByteCount, let availableByteCount, let usableByteCount else { return nil }
    var value =
      "\(ByteSize.words(memoryByteCount)), \(ByteSize.words(availableByteCount)) available"
    if let memoryLimit, memoryLimit < memoryByteCount {
      value += ", limited to \(ByteSize.words(memoryLimit)) by the control group"
    }
    if usableByteCount < 1 << 30 {
      return MachineFinding(
        "memory", .problem, value, advice: "less than 1 GiB is left; end other programs")
    }
    return MachineFinding("memory", value)
  }

  private var hugePageFinding: MachineFinding? {
    guard let hugePages else { return nil }
    if hugePages != "never" { return MachineFinding("huge pages", "transparent, \(hugePages)") }
    return MachineFinding(
      "huge pages", .warning, "transparent, never",
      advice: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled lets caches and scratch "
        + "memory use 2 MiB pages")
  }

  private var nodeFinding: MachineFinding {
    let value = nodeCount == 1 ? "1 node" : "\(nodeCount) nodes"
    guard nodeCount > 1 else { return MachineFinding("NUMA", value) }
    return MachineFinding(
      "NUMA", .warning, value + (isBalancingNodes ? ", automatic balancing" : ""),
      advice: "run one process per node (numactl --cpunodebind=N --membind=N), or spread the "
        + "weights with numactl --interleave=all"
        + (isBalancingNodes ? "; sysctl kernel.numa_balancing=0 stops pages from moving" : ""))
  }

  private var swapFinding: MachineFinding? {
    guard let swapByteCount, swapByteCount > 0 else { return nil }
    return MachineFinding(
      "swap", .warning, ByteSize.words(swapByteCount),
      advice: "a cache that is swapped out stalls every request; swapoff -a, or sysctl "
        + "vm.swappiness=1")
  }

  private var overcommitFinding: MachineFinding? {
    guard refusesOvercommit else { return nil }
    return MachineFinding(
      "overcommit", .warning, "refused",
      advice: "sysctl vm.overcommit_memory=0, or large mappings may be refused")
  }

  private var clockFinding: MachineFinding? {
    guard let clockSource else { return nil }
    let good = ["tsc", "arch_sys_counter", "kvm-clock"].contains(clockSource)
    return MachineFinding(
      "clock", good ? .good : .warning, clockSource,
      advice: good
        ? nil
        : "reading this clock is slow and makes measurements coarse; boot with clocksource=tsc")
  }

  private var openFileFinding: MachineFinding? {
    guard let openFileLimit else { return nil }
    if openFileLimit >= 4096 {
      return MachineFinding("open files", Self.words(openFileLimit))
    }
    return MachineFinding(
      "open files", .warning, Self.words(openFileLimit),
      advice: "ulimit -n 65536 before `step3 serve`, which needs one per connection")
  }

  private var lockedMemoryFinding: MachineFinding? {
    guard let lockedMemoryLimit else { return nil }
    let value = lockedMemoryLimit == .max ? "no limit" : ByteSize.words(lockedMemoryLimit)
    if lockedMemoryLimit >= 1 << 30 { return MachineFinding("locked memory", value) }
    return MachineFinding(
      "locked memory", .good, value,
      advice: "ulimit -l unlimited, if FFN nodes are reached over RDMA")
  }

  private var addressSpaceFinding: MachineFinding? {
    guard let addressSpaceLimit, addressSpaceLimit != .max else { return nil }
    return MachineFinding(
      "address space", .warning, ByteSize.words(addressSpaceLimit),
      advice: "ulimit -v unlimited: weights are mapped, so they count though they are shared")
  }

  private static func words(_ limit: Int) -> String {
    limit == .max ? "no limit" : String(limit)
  }
}
