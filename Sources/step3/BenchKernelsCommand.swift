import CommandLineInterface
import JSONScanning
import Kernels
import Tensors

/// `step3 bench kernels`: kernels against what the machine can do.
struct BenchKernelsCommand: Command {
  static let specification = CommandSpecification(
    "bench kernels", abstract: "Time the kernels as shares of the machine's measured limits.",
    example: "step3 bench kernels --threads 1",
    flags: [
      BenchReport.file,
      .integerList("columns", help: "inputs of the matrices (default: 2048,7168,16384)"),
      .integerList("tokens", help: "rows of activations (default: 1,4,16,512)"),
      .byteCount("memory", default: "256MiB", help: "weights to read, far more than the caches"),
      .integer("repeats", in: 1...1000, default: 7, help: "runs of each shape"),
    ],
    discussion: """
      Bandwidth counts the bytes of weights or cache that a run reads once, and its share is of
      what as many plain readers get. Arithmetic is a share of the peak of the instruction that
      the operands allow: Float32 multiply-adds, or BF16 dot products where these are faster.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let kernels = try KernelSet.select(KernelChoice(rawValue: arguments.kernels) ?? .auto)
    let team = WorkTeam(workerCount: arguments.threads)
    let memory = arguments.optionalByteCount("memory") ?? 256 << 20
    let repeats = arguments.integer("repeats")
    let limits = MachineLimits.measure(team: team, byteCount: memory)
    let benchmark = KernelBenchmark(
      compute: Compute(kernels: kernels, team: team), byteCount: memory, repeats: repeats)
    var report = KernelReport(
      report: BenchReport(arguments), kernels: kernels.name, limits: limits)
    let columns =
      arguments.isGiven("columns") ? arguments.integers("columns") : [2048, 7168, 16384]
    let tokens = arguments.isGiven("tokens") ? arguments.integers("tokens") : [1, 4, 16, 512]
    for format in WeightMatrix.Format.allCases {
      for activation in ActivationType.allCases where format != .float32 || activation == .float32 {
        for columns in columns {
          for tokens in tokens {
            // Prefill is bounded by arithmetic: 2048 rows are enough to see it.
            let rows = tokens > 16 ? 2048 : nil
            report.add(
              benchmark.linear(
                format, activation, rows: rows, columns: columns, tokens: tokens))
          }
        }
      }
    }
    for type in KVElementType.allCases {
      for (rows, positions) in [(1, 8192), (1, 512), (512, 4096)] {
        report.add(
          try benchmark.attention(
            type, heads: 64, headDimension: 256, rows: rows, positions: positions))
      }
    }
    try report.report.finish()
  }
}

/// Kernel results with their shares of the limits.
private struct KernelReport {
  var report: BenchReport
  let kernels: String
  let limits: MachineLimits

  mutating func add(_ result: KernelBenchmark.Result) {
    let bandwidth = result.bytesPerSecond
    let arithmetic = result.operationsPerSecond
    let usesFloat32 = result.name.contains("float32 ×") || result.name == "attention float32"
    let peak = limits.peaks[usesFloat32 ? .float32 : limits.bestForBFloat16]
    let bandwidthShare = bandwidth / limits.read.median
    let arithmeticShare = peak.map { arithmetic / $0.median } ?? 0
    report.add(
      text: report.pad(result.name, 28) + report.pad(result.shape, 44)
        + report.number(bandwidth / 1e9, 7) + " GB/s " + report.number(100 * bandwidthShare, 6)
        + " % " + report.number(arithmetic / 1e9, 8) + " GFLOP/s "
        + report.number(100 * arithmeticShare, 6) + " %",
      row: [
        "name": .string(result.name), "shape": .string(result.shape),
        "kernels": .string(kernels), "threads": .integer(limits.threadCount),
        "gigabytes_per_second": .number(bandwidth / 1e9),
        "share_of_read": .number(bandwidthShare),
        "gigaflops": .number(arithmetic / 1e9), "share_of_peak": .number(arithmeticShare),
      ])
  }
}
