import Kernels
import Sampling

/// Chooses tokens and scores prompts by the rows of a step, a row per thread of the team.
///
/// Every job depends on its own rows and its own sequence alone, so the result does not depend on
/// who does it or when. One job is one sequence's, so that no two threads meet in one.
final class SamplingStage {
  private let team: WorkTeam?
  /// Scratch, one for each of the team's threads.
  private let scratch: [SamplerScratch]

  /// A stage for rows of `vocabularyCount` logits; nil does everything in the caller's thread.
  init(vocabularyCount: Int, team: WorkTeam?) {
    self.team = team
    scratch = (0..<(team?.workerCount ?? 1)).map { _ in
      SamplerScratch(sampler: Sampler(vocabularyCount: vocabularyCount))
    }
  }

  /// Does all jobs; their results are in them.
  func run(_ jobs: [SamplingJob], _ rows: borrowing LogitRows) {
    guard let team, jobs.count > 1 else {
      for job in jobs { job.run(rows, &scratch[0].sampler) }
      return
    }
    let (scratch, logits, width) = (scratch, rows.logits, rows.width)
    team.run(chunkCount: jobs.count) { chunk, worker in
      jobs[chunk].run(LogitRows(logits: logits, width: width), &scratch[worker].sampler)
    }
  }
}

/// A sampler with an address, so that threads may each change their own.
private final class SamplerScratch {
  var sampler: Sampler

  init(sampler: consuming Sampler) { self.sampler = sampler }
}

/// What one sequence does with rows of a step.
final class SamplingJob {
  /// What there is to do.
  enum Task {
    /// Report on the prompt's token that stands at `position`, by row `row`.
    case score(row: Int, position: Int, token: Int, topCount: Int)
    /// Choose the next tokens of the entry's sampler of this index.
    case choose(sampler: Int, SequenceRuntime, rows: [Row])
  }

  /// A row to choose by.
  struct Row {
    /// Which of the rows.
    var index: Int
    /// What must have been chosen before, where the row verifies a guess. A guess that was wrong
    /// ends the verification: the rows after it are of another text.
    var guess: Int?
  }

  /// The plan's entry that the rows belong to.
  let entry: Int
  let task: Task
  /// The last token chosen before these rows, where guesses go on from other rows.
  private let previous: Int?
  private(set) var tokens: [SampledToken] = []
  private(set) var report: TokenLogprobs?
  private(set) var error: SamplingError?

  init(entry: Int, previous: Int? = nil, _ task: Task) {
    self.entry = entry
    self.previous = previous
    self.task = task
  }

  fileprivate func run(_ rows: borrowing LogitRows, _ sampler: inout Sampler) {
    do throws(SamplingError) {
      switch task {
      case .score(let row, let position, let token, let topCount):
        report = try sampler.logprobs(
          rows[row], of: token, topCount: topCount, position: position)
      case .choose(_, let sequence, let wanted):
        for row in wanted where sequence.finishReason == nil {
          if let guess = row.guess, (tokens.last?.id ?? previous) != guess { return }
          tokens.append(try sequence.next(rows[row.index], &sampler))
        }
      }
    } catch { self.error = error }
  }
}
