package import CommandLineInterface
package import Inference
import JSONScanning
import ModelConfiguration
import OutputParsing
import Sampling
import Synchronization
import Tokenization

/// A loaded model that answers prompts one at a time: what `run` and `chat` share.
struct Conversation: Sendable {
  let engine: Engine
  let tokenizer: Tokenizer
  let template: ChatTemplate
  let folder: ModelFolder
  /// Reads images; nil for a checkpoint that takes text only.
  let images: ImageReader?
  let loadSeconds: Double

  /// Loads the model that the arguments name.
  init(_ arguments: ParsedArguments) async throws {
    let clock = ContinuousClock()
    let start = clock.now
    let folder = try ModelFolder(path: arguments.model)
    tokenizer = try Tokenizer(directory: folder.path)
    template = try ChatTemplate(directory: folder.path)
    images = try ImageFlags.reader(arguments, folder) { [tokenizer] in
      tokenizer.id(of: $0).map(Int.init)
    }
    var options = ModelFlags.options(arguments)
    options.sequenceLimit = 1
    // A step has room for the sequence's next token and for at least one of a prompt.
    options.batchedTokenLimit = max(2, options.batchedTokenLimit)
    let context = options.contextLength ?? folder.configuration.text.contextLength
    options.cacheBlockCount = (context + options.blockSize - 1) / options.blockSize + 1
    engine = Engine(folder, options: options)
    try engine.waitUntilLoaded()
    self.folder = folder
    loadSeconds = (clock.now - start).seconds
  }

  /// A conversation up to where the answer begins; `images` stand in the places of its parts of
  /// type image.
  func prompt(
    _ messages: [JSONValue], images: [PromptImage] = []
  ) throws -> (text: String, prompt: Prompt) {
    if template.origin == .step3Default {
      for token in ChatTemplate.step3DefaultTokens { _ = try tokenizer.requiredID(of: token) }
    }
    let begin = tokenizer.beginToken ?? folder.configuration.beginOfSequenceID.map(Int32.init)
    let end = tokenizer.endTokens.first ?? folder.endOfSequenceIDs.first.map(Int32.init)
    let text = try template.render(
      messages: template.placingImages(in: messages),
      bosToken: begin.flatMap { tokenizer.spelling(of: $0) } ?? "",
      eosToken: end.flatMap { tokenizer.spelling(of: $0) } ?? "")
    return (text, try prompt(ids: try tokenizer.encode(text).map(Int.init), images: images))
  }

  /// Token ids whose image placeholders are expanded.
  func prompt(ids: [Int], images: [PromptImage]) throws -> Prompt {
    guard let reader = self.images else { return Prompt(ids: ids, images: []) }
    let (ids, placed) = try reader.expand(ids, images)
    return Prompt(ids: ids, images: placed)
  }

  /// Generates an answer, handing out its text as it comes.
  func answer(
    to prompt: Prompt, _ arguments: ParsedArguments, startsInReasoning: Bool?,
    watching signals: SignalWatch?, onText: (OutputEvent) -> Void
  ) async throws -> Answer {
    let images = prompt.images
    let prompt = prompt.ids
    guard !prompt.isEmpty else { throw InferenceError.emptyPrompt }
    let context = engine.model?.contextLength ?? folder.configuration.text.contextLength
    guard prompt.count < context else {
      throw InferenceError.promptTooLong(tokenCount: prompt.count, contextLength: context)
    }
    let request = GenerationRequest(
      id: "conversation", prompt: prompt,
      sampling: try GenerationFlags.sampling(arguments, folder.generation),
      seed: GenerationFlags.seed(arguments),
      maximumTokens: min(
        arguments.optionalInteger("max-tokens") ?? .max, context - prompt.count), images: images)
    let (events, continuation) = AsyncStream.makeStream(of: GenerationEvent.self)
    try engine.submit(request) { event in
      continuation.yield(event)
      if case .finished = event { continuation.finish() }
    }
    let format = OutputFormat(
      parsesReasoning: startsInReasoning != nil, startsInReasoning: startsInReasoning ?? false,
      parsesTools: false)
    var assembler = TextAssembler(format: format, stops: arguments.strings("stop"))
    var answer = Answer(promptCount: prompt.count)
    let clock = ContinuousClock()
    let start = clock.now
    for await event in events {
      if signals?.received != nil { engine.cancel(request.id) }
      switch event {
      case .promptProcessed:
        answer.prefillSeconds = (clock.now - start).seconds
      case .token(let token):
        // What the engine computed before it heard of the stop is no part of the answer.
        if assembler.stopFound != nil { continue }
        answer.ids.append(token.id)
        if isStop(token.id) { continue }
        let bytes = tokenizer.isSpecial(Int32(token.id)) ? [] : tokenizer.bytes(of: Int32(token.id))
        for event in assembler.append(Array(bytes ?? [])) { answer.take(event, onText) }
        if assembler.stopFound != nil { engine.cancel(request.id) }
      case .finished(let end):
        if case .failed(let failure) = end.reason { throw failure }
        answer.finishReason = end.reason == .length ? "length" : "stop"
      }
    }
    for event in assembler.finish() { answer.take(event, onText) }
    answer.totalSeconds = (clock.now - start).seconds
    return answer
  }

  private func isStop(_ id: Int) -> Bool {
    engine.model?.endOfSequenceIDs.contains(id) ?? false
  }
}

/// Token ids, and the images among them.
struct Prompt: Sendable {
  var ids: [Int]
  var images: [PlacedImage]
}

extension ImagePromptError: CommandError {
  package var exitCode: ExitCode {
    switch self {
    case .missingToken, .otherPlaceholder: .modelFiles
    case .placeholderCount, .noVision: .usage
    }
  }

  package var code: String {
    switch self {
    case .missingToken, .otherPlaceholder: "image_tokens"
    case .placeholderCount: "image_placeholders"
    case .noVision: "no_vision"
    }
  }
}

/// What came of one prompt.
struct Answer {
  let promptCount: Int
  var ids: [Int] = []
  var text = ""
  var reasoning = ""
  var finishReason = "stop"
  var prefillSeconds = 0.0
  var totalSeconds = 0.0

  init(promptCount: Int) { self.promptCount = promptCount }

  mutating func take(_ event: OutputEvent, _ onText: (OutputEvent) -> Void) {
    switch event {
    case .content(let more): text += more
    case .reasoning(let more): reasoning += more
    case .toolCallStarted, .toolArguments, .toolCallFinished: return
    }
    onText(event)
  }

  /// Tokens per second of the prompt, and of the answer after its first token.
  var rates: (prefill: Double, decode: Double) {
    let decodeSeconds = totalSeconds - prefillSeconds
    return (
      prefillSeconds > 0 ? Double(promptCount) / prefillSeconds : 0,
      ids.count > 1 && decodeSeconds > 0 ? Double(ids.count - 1) / decodeSeconds : 0
    )
  }
}
