package import CostModel

/// The reports that can be asked for, and the one that follows from a name.
package enum ReportCatalogue {
  private typealias Maker = @Sendable (ReportInputs) throws(CostModelError) -> Report

  private static let makers: [(name: String, make: Maker)] = [
    ("table1", { inputs throws(CostModelError) in try inputs.table1() }),
    ("table2", { inputs throws(CostModelError) in try inputs.table2() }),
    ("table3", { inputs throws(CostModelError) in try inputs.table3() }),
    ("table4", { inputs throws(CostModelError) in try inputs.table4() }),
    ("table5", { inputs throws(CostModelError) in try inputs.table5() }),
    ("table6", { inputs throws(CostModelError) in try inputs.table6() }),
    ("table7", { inputs throws(CostModelError) in try inputs.table7() }),
    ("table8", { inputs throws(CostModelError) in try inputs.table8() }),
    ("table9", { inputs throws(CostModelError) in try inputs.table9() }),
    ("figure1", { inputs throws(CostModelError) in try inputs.figure1() }),
    ("figure2", { inputs throws(CostModelError) in try inputs.figure2() }),
    ("figure3", { inputs throws(CostModelError) in try inputs.figure3() }),
    ("figure4", { inputs throws(CostModelError) in try inputs.figure4() }),
    ("figure5", { inputs throws(CostModelError) in try inputs.figure5() }),
    ("pairs", { inputs throws(CostModelError) in try inputs.pairsReport() }),
    ("budget", { inputs throws(CostModelError) in try inputs.budgetReport() }),
    ("sparsity", { inputs throws(CostModelError) in try inputs.sparsityReport() }),
    ("weak-hardware", { inputs throws(CostModelError) in try inputs.weakHardwareReport() }),
    ("efficiency", { inputs throws(CostModelError) in try inputs.efficiencyReport() }),
    ("mtp", { inputs throws(CostModelError) in try inputs.speculationReport() }),
    ("kv4", { inputs throws(CostModelError) in try inputs.fourBitReport() }),
    ("imbalance", { inputs throws(CostModelError) in try inputs.imbalanceReport() }),
    ("claims", { inputs throws(CostModelError) in try inputs.claimReport() }),
    ("slips", { inputs throws(CostModelError) in try inputs.slipReport() }),
  ]

  /// Every name, in the order of the report.
  package static var names: [String] { makers.map(\.name) }

  /// The report called `name`, nil when there is none.
  package static func report(
    _ name: String, from inputs: ReportInputs
  ) throws(CostModelError) -> Report? {
    guard let maker = makers.first(where: { $0.name == name }) else { return nil }
    return try maker.make(inputs)
  }
}
