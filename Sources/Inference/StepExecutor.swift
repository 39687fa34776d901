package import Kernels
package import Scheduling
package import Step3Model

/// Computes a step: the model, or something that stands in for it.
///
/// The loop on top knows requests, tokens and time; what is below knows rows, positions and slots.
package protocol StepExecutor: ~Copyable, SendableMetatype {
  /// Performs the plan's copies, computes its rows and keeps their keys and values.
  ///
  /// - Parameters:
  ///   - body: gets the logits of every position that the plan asks for, in the plan's order and
  ///     as many rows at once as there are; on an error, of none.
  ///   - images: for each entry of the plan, the features that stand in its sequence.
  mutating func run(
    _ plan: StepPlan, images: [[PlacedFeatures]],
    _ body: (_ positions: [LogitPosition], _ rows: borrowing LogitRows) -> Void
  ) throws(FeedForwardError)

  /// Who shares the work on rows of logits; nil leaves it to the calling thread.
  var team: WorkTeam? { get }

  /// How often `idle` wants to be called while there are no steps; nil for never.
  var idleInterval: Duration? { get }
  /// Looks after what needs it while there are no steps.
  mutating func idle()
  /// Peers without which no step can be computed now.
  var missingPeers: [String] { get }
  /// Tokens by the experts they were sent to.
  var expertTokens: ExpertTokens { get }

  /// Rows of the vision tower that a view of `side` pixels takes.
  func encodingRowCount(side: Int) -> Int

  /// Rows of the tower that one batch of views may have; a single view may exceed it.
  var encodingRowLimit: Int { get }

  /// Takes up a batch of views; the last one has ended.
  mutating func beginEncoding(_ views: [PixelView])

  /// Goes on with the batch for about as long as a prefill chunk takes; its features in the end.
  mutating func advanceEncoding() -> [VisionFeatures]?
}

extension StepExecutor where Self: ~Copyable {
  /// The calling thread.
  package var team: WorkTeam? { nil }
  /// As many as the tower's memory is planned for.
  package var encodingRowLimit: Int { VisionWork.rowLimit }

  /// Never.
  package var idleInterval: Duration? { nil }
  /// Nothing to look after.
  package mutating func idle() {}
  /// There are no experts.
  package var expertTokens: ExpertTokens { ExpertTokens() }
  /// Needs nobody.
  package var missingPeers: [String] { [] }
}

/// Whose logits a row holds.
package struct LogitPosition: Sendable, Equatable {
  /// Which of the plan's entries.
  package let entry: Int
  /// The position in the sequence whose successor the row foretells.
  package let position: Int

  /// The row of `position` in entry `entry`.
  package init(entry: Int, position: Int) {
    self.entry = entry
    self.position = position
  }
}

/// Rows of logits [rows, V].
package struct LogitRows: ~Escapable {
  let logits: Span<Float>
  /// V.
  let width: Int

  /// Rows of `width` logits, one behind the other.
  @_lifetime(copy logits)
  package init(logits: Span<Float>, width: Int) {
    self.logits = logits
    self.width = width
  }

  /// One row [V].
  package subscript(row: Int) -> Span<Float> {
    @_lifetime(copy self)
    get { logits.extracting(row * width..<(row + 1) * width) }
  }
}

/// A model that is ready to run, with the facts and bounds that requests are held to.
package struct LoadedModel<Executor: StepExecutor & ~Copyable>: ~Copyable {
  /// Runs the steps.
  package var executor: Executor
  /// What requests are checked against; its cache capacity and block size describe the executor's.
  package let facts: ModelFacts
  /// The scheduler's bounds.
  package let limits: AdmissionLimits
  /// Whether prompts share cached blocks.
  package let sharesPrefixes: Bool
  /// Bytes of image features that are kept for images that come again.
  package let featureCacheByteCount: Int

  /// Puts an executor together with its facts.
  package init(
    executor: consuming Executor, facts: ModelFacts, limits: AdmissionLimits,
    sharesPrefixes: Bool = true, featureCacheByteCount: Int = 0
  ) {
    self.executor = executor
    self.facts = facts
    self.limits = limits
    self.sharesPrefixes = sharesPrefixes
    self.featureCacheByteCount = featureCacheByteCount
  }
}
