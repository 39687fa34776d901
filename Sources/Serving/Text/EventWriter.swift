import Inference
import OutputParsing

/// An answer that is written as named events while a run goes on.
protocol EventWriter {
  /// How the run ended, nil while it goes on.
  var outcome: ChoiceOutcome? { get set }
  /// Writes the events for one piece of the output.
  mutating func write(_ event: OutputEvent, into bytes: inout [UInt8])
}

extension EventWriter {
  /// Takes in what the run produced: the events for it, and the failure that ended it, if one did.
  mutating func absorb(_ outputs: [RunOutput]) -> (bytes: [UInt8], failure: GenerationFailure?) {
    var bytes: [UInt8] = []
    for output in outputs {
      switch output {
      case .prompt: break
      case .token(_, _, let events): for event in events { write(event, into: &bytes) }
      case .finished(_, let outcome, let events):
        for event in events { write(event, into: &bytes) }
        self.outcome = outcome
        if let failure = outcome.failure { return (bytes, failure) }
      }
    }
    return (bytes, nil)
  }
}
