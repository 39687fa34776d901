package import KVCaching

/// One choice of one request.
package struct SequenceID: Hashable, Comparable, Sendable {
  /// The number under which the request was submitted.
  package let request: Int
  /// 0 ..< the request's choice count.
  package let choice: Int

  /// Names choice `choice` of request `request`.
  package init(request: Int, choice: Int = 0) {
    self.request = request
    self.choice = choice
  }

  package static func < (a: SequenceID, b: SequenceID) -> Bool {
    (a.request, a.choice) < (b.request, b.choice)
  }
}

/// A request as the scheduler sees it: numbers, no text, no sampling.
package struct SchedulingRequest: Sendable {
  /// Unique and ascending in the order of submission.
  package var id: Int
  package var prompt: [Int]
  /// The most tokens that one choice generates; 0 only processes the prompt.
  package var maximumTokens: Int
  /// Sequences that continue the one prompt.
  package var choiceCount: Int
  /// Lower is earlier; anything but 0 needs `AdmissionLimits.handicapPerPriority`.
  package var priority: Int
  /// What besides the tokens determines keys and values.
  package var identity: PrefixIdentity
  /// Whether the logits of every prompt position are wanted; then nothing is taken from the cache.
  package var needsPromptLogits: Bool

  /// A request for up to `maximumTokens` tokens after `prompt`, which is not empty.
  package init(
    id: Int, prompt: [Int], maximumTokens: Int, choiceCount: Int = 1, priority: Int = 0,
    identity: PrefixIdentity = PrefixIdentity(), needsPromptLogits: Bool = false
  ) {
    precondition(!prompt.isEmpty, "a prompt has at least one token")
    precondition(choiceCount > 0 && maximumTokens >= 0, "request \(id) asks for nothing")
    self.id = id
    self.prompt = prompt
    self.maximumTokens = maximumTokens
    self.choiceCount = choiceCount
    self.priority = priority
    self.identity = identity
    self.needsPromptLogits = needsPromptLogits
  }
}

/// Who goes first: the earlier arrival, where a priority counts as a later or earlier one.
struct Precedence: Comparable, Sendable {
  let arrival: Duration
  let id: SequenceID

  static func < (a: Precedence, b: Precedence) -> Bool {
    (a.arrival, a.id) < (b.arrival, b.id)
  }
}

/// Everything the scheduler knows of a sequence between its submission and its end.
struct SequenceState: Sendable {
  /// The choices that share this state: all of them until the prompt is processed, then one.
  var choices: [Int]
  /// Its place among the others; kept through preemption.
  var precedence: Precedence
  let promptCount: Int
  let maximumTokens: Int
  let identity: PrefixIdentity
  let needsPromptLogits: Bool
  /// Prompt and output. The last one is not computed yet.
  var tokens: [Int]
  /// Positions whose keys and values are in the cache.
  var computedCount = 0
  var table = BlockTable()
  /// Prompt tokens that came from the prefix cache when the sequence was first admitted.
  var cachedCount = 0
  /// Prompt positions whose logits have been delivered.
  var deliveredPromptRows = 0
  var preemptionCount = 0
  /// Tokens that a drafter expects next.
  var draft: [Int] = []
  /// Ends with the step in flight.
  var isCancelled = false
  var isRunning = false

  init(_ request: SchedulingRequest, choices: Range<Int>, arrival: Duration) {
    self.choices = Array(choices)
    precedence = Precedence(
      arrival: arrival, id: SequenceID(request: request.id, choice: choices.lowerBound))
    promptCount = request.prompt.count
    maximumTokens = request.maximumTokens
    identity = request.identity
    needsPromptLogits = request.needsPromptLogits
    tokens = request.prompt
  }

  /// Choice `choice` after the shared prompt, with its own table.
  init(fork state: SequenceState, choice: Int, table: BlockTable) {
    self = state
    choices = [choice]
    self.table = table
    precedence = Precedence(
      arrival: state.precedence.arrival,
      id: SequenceID(request: state.precedence.id.request, choice: choice))
  }

  var id: SequenceID { SequenceID(request: precedence.id.request, choice: choices.first ?? 0) }
  var generatedCount: Int { tokens.count - promptCount }
  var remainingCount: Int { tokens.count - computedCount }
  /// One token to go: a decode step, or the end of a prompt that costs no more than one.
  var isDecoding: Bool { remainingCount == 1 }
}
