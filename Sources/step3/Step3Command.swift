import CommandLineInterface

/// The program: one table of commands.
@main
struct Step3Command {
  /// The version that `step3 --version` prints.
  static let version = "0.1.0"

  /// Every command, in the order of the help; a new one is added here.
  static let table = CommandTable(
    [
      RunCommand.self,
      ChatCommand.self,
      InspectCommand.self,
      ConvertCommand.self,
      QuantizeCommand.self,
      TokenizeCommand.self,
      ChatTemplateCommand.self,
      ScoreCommand.self,
      ImageCommand.self,
      EvalPerplexityCommand.self,
      ServeCommand.self,
      AttentionCommand.self,
      FFNCommand.self,
      ClusterUpCommand.self,
      ClusterCheckCommand.self,
      ClusterTopCommand.self,
      ClusterRebalanceCommand.self,
      TraceCommand.self,
      BenchLimitsCommand.self,
      BenchKernelsCommand.self,
      BenchDecodeCommand.self,
      BenchPrefillCommand.self,
      BenchMasksCommand.self,
      BenchVisionCommand.self,
      BenchAFDCommand.self,
      CostCommand.self,
      PlanCommand.self,
      SimulateCommand.self,
      BenchCalibrateCommand.self,
      BenchPredictCommand.self,
      DoctorCommand.self,
      CompletionCommand.self,
    ], version: version)

  static func main() async {
    await table.main()
  }
}
