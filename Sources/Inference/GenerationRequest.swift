package import Sampling

/// One request for generated tokens, as the edge hands it to the engine.
///
/// A request with `choiceCount` n is one group of n sequences that share the prompt's cache
/// blocks; choice i samples with `seed &+ i`. `sampling` carries `minTokens` and the number of
/// logprobs to report with every token.
package struct GenerationRequest: Sendable {
  /// The request's name in events, logs and `cancel`; unique among the requests in flight.
  package var id: String
  /// Token ids of the prompt, special tokens included; never empty.
  package var prompt: [Int]
  /// How tokens are drawn; the same for every choice.
  package var sampling: SamplingParameters
  /// Names the random numbers of choice 0.
  package var seed: UInt64
  /// How many sequences are generated from the one prompt, at least 1.
  package var choiceCount: Int
  /// The most tokens one choice may generate; 0 only scores the prompt.
  package var maximumTokens: Int
  /// Ids that end a choice, besides the model's own end-of-sequence ids.
  package var stopTokenIDs: [Int]
  /// Whether the model's end-of-sequence ids are sampled like any other token.
  package var ignoreEndOfSequence: Bool
  /// How many alternatives each token of the prompt reports: nil for no logprobs at all, 0 for the
  /// prompt's token alone, -1 for the whole vocabulary.
  package var promptLogprobCount: Int?
  /// Lower runs earlier under priority scheduling; 0 is usual.
  package var priority: Int
  /// Separates prefix-cache entries of tenants that must not see each other's timing.
  package var cacheSalt: String?
  /// The most tokens spent inside the think block before its end is forced; nil for no bound.
  package var thinkingTokenBudget: Int?
  /// The tokens that close the think block which the prompt leaves open; empty when it leaves none
  /// open. The budget counts and the constraint waits until they have come.
  package var thinkEnd: [Int]
  /// Which tokens the answer may consist of; nil for all.
  package var constraint: (any TokenConstraint)?
  /// How many of the prompt's last tokens are the beginning of the answer, generated elsewhere
  /// before: the one choice goes on behind them as if it had generated them itself, and
  /// `maximumTokens` counts what is still to come.
  package var resumedTokenCount = 0
  /// The images that stand in the prompt, by position.
  package var images: [PlacedImage]

  package init(
    id: String, prompt: [Int], sampling: SamplingParameters, seed: UInt64, choiceCount: Int = 1,
    maximumTokens: Int, stopTokenIDs: [Int] = [], ignoreEndOfSequence: Bool = false,
    promptLogprobCount: Int? = nil, priority: Int = 0, cacheSalt: String? = nil,
    thinkingTokenBudget: Int? = nil, thinkEnd: [Int] = [],
    constraint: (any TokenConstraint)? = nil, images: [PlacedImage] = []
  ) {
    self.id = id
    self.prompt = prompt
    self.sampling = sampling
    self.seed = seed
    self.choiceCount = choiceCount
    self.maximumTokens = maximumTokens
    self.stopTokenIDs = stopTokenIDs
    self.ignoreEndOfSequence = ignoreEndOfSequence
    self.promptLogprobCount = promptLogprobCount
    self.priority = priority
    self.cacheSalt = cacheSalt
    self.thinkingTokenBudget = thinkingTokenBudget
    self.thinkEnd = thinkEnd
    self.constraint = constraint
    self.images = images
  }
}
