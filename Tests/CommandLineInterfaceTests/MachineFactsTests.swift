import CommandLineInterface
import Foundation
import Testing

@Suite("The machine")
struct MachineFactsTests {
  /// A file tree like Linux's, with these files in it.
  private func facts(_ files: [String: String]) throws -> MachineFacts {
    let root = FileManager.default.temporaryDirectory
      .appendingPathComponent("step3-machine-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    for (path, text) in files {
      let file = root.appendingPathComponent(path)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    }
    return MachineFacts(root: root.path)
  }

  @Test("a machine that is set up well needs nothing")
  func good() throws {
    let facts = try facts([
      "proc/cpuinfo": """
      processor\t: 0
      model name\t: Some CPU
      flags\t\t: avx2 fma f16c avx512f avx512bw avx512vl avx512dq avx512_bf16
      physical id\t: 0
      core id\t\t: 0

      processor\t: 1
      physical id\t: 0
      core id\t\t: 0

      """,
      "proc/meminfo": "MemTotal:       24684096 kB\nMemAvailable:   20000000 kB\nSwapTotal: 0 kB\n",
      "proc/self/cgroup": "0::/a/b\n",
      "sys/fs/cgroup/a/memory.max": "8589934592\n", "sys/fs/cgroup/a/b/memory.max": "max\n",
      "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
      "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
      "sys/devices/system/node/node0/x": "", "sys/devices/system/node/nodelist": "",
      "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
      "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
      "proc/self/limits": """
      Limit                     Soft Limit           Hard Limit           Units
      Max open files            20000                20000                files
      Max locked memory         unlimited            unlimited            bytes
      Max address space         unlimited            unlimited            bytes
      """,
    ])
    #expect(facts.logicalCount == 2 && facts.coreCount == 1 && facts.nodeCount == 1)
    #expect(facts.processor == "Some CPU" && facts.flags.contains("avx512_bf16"))
    #expect(facts.memoryByteCount == 24_684_096 << 10 && facts.memoryLimit == 8 << 30)
    #expect(facts.cpuQuota == 1.5 && facts.openFileLimit == 20000)
    #expect(facts.addressSpaceLimit == .max && facts.clockSource == "tsc")
    #expect(facts.findings.allSatisfy { $0.verdict == .good && $0.advice == nil })
  }

  @Test("what should be changed is found, with what to do")
  func bad() throws {
    let facts = try facts([
      "proc/cpuinfo": "processor: 0\nprocessor: 1\nflags: sse2\n",
      "proc/meminfo": "MemTotal: 900000 kB\nMemAvailable: 500000 kB\nSwapTotal: 1000 kB\n",
      "proc/self/cgroup": "4:memory:/x\n1:cpu,cpuacct:/\n",
      "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
      "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
      "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
      "sys/devices/system/node/node0/x": "", "sys/devices/system/node/node1/x": "",
      "proc/sys/kernel/numa_balancing": "1\n", "proc/sys/vm/overcommit_memory": "2\n",
      "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
      "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
      "proc/self/limits": "Max open files            1024                 4096           files\n",
    ])
    #expect(facts.memoryLimit == nil)
    let verdicts = Dictionary(
      uniqueKeysWithValues: facts.findings.map { ($0.name, $0.verdict) })
    #expect(verdicts["instructions"] == .problem && verdicts["memory"] == .problem)
    for name in [
      "frequency governor", "CPU quota", "huge pages", "NUMA", "swap", "overcommit", "clock",
      "open files",
    ] { #expect(verdicts[name] == .warning, "\(name)") }
    #expect(facts.findings.allSatisfy { $0.verdict == .good || $0.advice != nil })
  }

  @Test("a machine that tells nothing is no reason to stop")
  func unknown() throws {
    let facts = try facts([:])
    #expect(facts.memoryByteCount == nil && facts.nodeCount == 1)
    #expect(facts.findings.map(\.name) == ["processor", "instructions", "NUMA"])
  }
}
