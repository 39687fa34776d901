import CommandLineInterface
import Disaggregation
import Foundation
import Inference
import JSONScanning
import Kernels

/// `step3 bench afd`: both halves of the network on a core each, against one process with both.
struct BenchAFDCommand: Command {
  static let specification = CommandSpecification(
    "bench afd",
    abstract: "Measure attention and FFN apart against both together.",
    example: "step3 bench afd --model DIR --batches 16 --contexts 4096 --delays 0,100,500",
    takesModel: true,
    flags: [
      .integerList("batches", help: "sequences per step (16)"),
      .integerList("contexts", help: "tokens in each cache (512)"),
      .integerList(
        "micro-batches", help: "numbers to try (1,2,3,4); the program's choice is added"),
      .integerList("delays", help: "additional one-way delays in microseconds (0)"),
      .choice(
        "transport", ["loopback", "shm", "tcp"], default: "shm",
        help: "threads of one process, or two processes over shared memory or TCP"),
      .choice(
        "progress", ["adaptive", "busy", "events"], default: "adaptive",
        help: "spin then sleep, never sleep, or sleep at once while nothing happens"),
      .choice(
        "exchange", ["exact", "bf16", "fp8"], default: "exact", help: "how values travel"),
      .integer("steps", in: 1...10_000, default: 4, help: "steps of a row in each round"),
      .integer("repeats", in: 1...100, default: 5, help: "rounds, each with all rows in turn"),
      .string(
        "serve", "HOST:PORT", help: "be the FFN side of one such measurement, and end with it"),
      .string("peer", "HOST:PORT", help: "use the FFN side that was started with --serve there"),
      ClusterNodeSetup.coresFlag,
      .string("trace", "FILE", help: "write the last row's steps for Perfetto"),
      BenchReport.file, ModelFlags.dtype, ModelFlags.cacheType,
    ],
    discussion: """
      The FFN side is a thread or a process on the first core, the attention side is on the last;
      --cores names others. In every round each row is measured in turn, so that what disturbs the
      machine disturbs all. The link is not authenticated: for a private network.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let settings = try DisaggregationSettings(arguments)
    if let address = arguments.optionalString("serve") {
      try FeedForwardSide.serve(arguments, settings, at: address)
      return
    }
    var report = BenchReport(arguments)
    let side = FeedForwardSide()
    defer { side.stop() }
    // Made before this thread is pinned: its helpers take every core.
    let together = try DisaggregationBenchmark(arguments, settings, threads: nil, nil)
    let alone = try DisaggregationBenchmark(arguments, settings, threads: 1, nil)
    let apart = try DisaggregationBenchmark(arguments, settings, threads: 1, side)
    var bench = DisaggregationRuns(
      settings, side, together: together, alone: alone, apart: apart)
    report.add(
      text: "attention and FFN on a core each, joined by \(bench.apart.carrier); "
        + "load \(MachineLoad.average)",
      row: [
        "name": "link", "transport": .string(arguments.string("transport")),
        "carrier": .string(bench.apart.carrier),
        "progress": .string(arguments.string("progress")),
        "exchange": .string(arguments.string("exchange")), "load": .string(MachineLoad.average),
      ])
    for context in settings.contexts {
      bench.fill(context: context)
      for batch in settings.batches {
        let table = try bench.measure(batch: batch, context: context)
        table.write(to: &report)
      }
    }
    if let path = arguments.optionalString("trace") { try bench.apart.writeTrace(path) }
    try report.finish()
  }
}

/// The rows of one measurement, and the halves that they run on.
private struct DisaggregationRuns: ~Copyable {
  private let settings: DisaggregationSettings
  private let side: FeedForwardSide
  private var together: DisaggregationBenchmark
  private var alone: DisaggregationBenchmark
  var apart: DisaggregationBenchmark

  init(
    _ settings: DisaggregationSettings, _ side: FeedForwardSide,
    together: consuming DisaggregationBenchmark, alone: consuming DisaggregationBenchmark,
    apart: consuming DisaggregationBenchmark
  ) {
    self.settings = settings
    self.side = side
    self.together = together
    self.alone = alone
    self.apart = apart
  }

  mutating func fill(context: Int) {
    together.fill(context: context)
    alone.fill(context: context)
    apart.fill(context: context)
  }

  /// All rows of one setting, in rounds.
  mutating func measure(batch: Int, context: Int) throws -> DisaggregationTable {
    let limit = min(batch, EngineOptions.microBatchLimit)
    let counts = settings.microBatches.filter { $0 <= limit }
    var table = DisaggregationTable(
      batch: batch, context: context, layerCount: apart.layerCount,
      groups: settings.delays.map { DisaggregationTable.Group(delay: $0, counts: counts) })
    settings.useAttentionCore()
    for index in table.groups.indices { try learn(&table.groups[index], batch, context) }
    for _ in 0..<settings.repeats {
      try side.pause {
        settings.useAllCores()
        try together.run(
          batch: batch, context: context, microBatches: 1, steps: settings.steps
        ) { table.together.seconds.append($0) }
        settings.useAttentionCore()
        try alone.run(batch: batch, context: context, microBatches: 1, steps: settings.steps) {
          table.alone.seconds.append($0)
        }
      }
      for index in table.groups.indices { try measure(&table.groups[index], batch, context) }
    }
    return table
  }

  /// Lets the program find its number of micro-batches by itself, as an engine does, and times the
  /// stages for the model's predictions.
  private mutating func learn(
    _ group: inout DisaggregationTable.Group, _ batch: Int, _ context: Int
  ) throws {
    apart.setDelay(.microseconds(group.delay))
    apart.forgetStages()
    try apart.run(batch: batch, context: context, microBatches: nil, steps: 12) { _ in }
    group.choosing = apart.planner
    apart.forgetStages()
    for row in group.fixed {
      try apart.run(batch: batch, context: context, microBatches: row.microBatches, steps: 1) { _ in
      }
    }
    group.stages = apart.planner
  }

  private mutating func measure(
    _ group: inout DisaggregationTable.Group, _ batch: Int, _ context: Int
  ) throws {
    apart.setDelay(.microseconds(group.delay))
    apart.planner = group.stages
    for index in group.fixed.indices {
      try measure(&group.fixed[index], batch, context, group.fixed[index].microBatches)
    }
    group.stages = apart.planner
    apart.planner = group.choosing
    try measure(&group.chosen, batch, context, nil)
    group.choosing = apart.planner
  }

  private mutating func measure(
    _ row: inout DisaggregationTable.Row, _ batch: Int, _ context: Int, _ microBatches: Int?
  ) throws {
    let began = (MachineLoad.ownProcessorSeconds, side.processorSeconds)
    try apart.run(
      batch: batch, context: context, microBatches: microBatches, steps: settings.steps
    ) { row.seconds.append($0) }
    row.attentionProcessor += MachineLoad.ownProcessorSeconds - began.0
    row.feedForwardProcessor += side.processorSeconds - began.1
    row.add(apart.statistics)
    row.microBatches = apart.lastMicroBatchCount
  }
}
