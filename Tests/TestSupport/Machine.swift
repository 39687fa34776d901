import Foundation

/// What this machine can run.
package enum Machine {
  /// The kernel sets that this CPU has the instructions for, slowest first.
  package static let kernelSets: [String] = {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
    let flags = Set(line.split(separator: " ").map(String.init))
    let needed = [
      "avx2": ["avx2", "fma", "f16c"],
      "avx512-fma": ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"],
      "avx512": ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"],
    ]
    let present = ["avx2", "avx512-fma", "avx512"].filter { flags.isSuperset(of: needed[$0] ?? []) }
    return ["reference"] + present
  }()
}
