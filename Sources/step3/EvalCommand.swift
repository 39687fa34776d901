import CommandLineInterface
import Foundation
import Inference
import JSONScanning
import ModelConfiguration
import Sampling
import Tokenization

/// `step3 eval perplexity`: how well a model predicts a text.
struct EvalPerplexityCommand: Command {
  static let specification = CommandSpecification(
    "eval perplexity", abstract: "Measure how well a model predicts a text.",
    example: "step3 eval perplexity --model DIR --text FILE", takesModel: true,
    flags: [
      .string("text", "FILE", required: true, help: "the text, UTF-8"),
      .integer(
        "context", in: 2...(1 << 31),
        help: "tokens per window (default: 1024, or the model's context)"),
      .integer(
        "stride", in: 1...(1 << 31), help: "tokens between windows (default: the window's length)"),
      ModelFlags.dtype, ModelFlags.cacheType, ModelFlags.chunk,
    ],
    discussion: """
      The text is cut into windows. Each token that has one before it in its window counts once;
      with --stride smaller than --context a window's first tokens are context only. The result is
      one JSON document: tokens counted, their mean negative log-likelihood, and its exponential.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let folder = try ModelFolder(path: arguments.model)
    let limit = folder.configuration.text.contextLength
    let context = arguments.optionalInteger("context") ?? min(1024, limit)
    let step = arguments.optionalInteger("stride") ?? context
    guard step <= context else {
      throw CommandFailure(
        .usage, code: "usage",
        "--stride \(step) is longer than the window of \(context) tokens: tokens would be skipped")
    }
    let path = arguments.string("text")
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CommandFailure(.usage, code: "file_not_found", "\(path): cannot be read")
    }
    let ids = try Tokenizer(directory: arguments.model)
      .encode(String(decoding: data, as: UTF8.self)).map(Int.init)
    guard ids.count > 1 else { throw InferenceError.emptyPrompt }
    var session = try ScoringSession(
      folder, options: ModelFlags.options(arguments), contextLength: min(context, ids.count))

    var sampler = Sampler(vocabularyCount: folder.configuration.text.vocabularySize)
    let log = arguments.log
    var sum = 0.0
    var count = 0
    var scoredEnd = 1
    for start in stride(from: 0, to: ids.count - 1, by: step) {
      let window = Array(ids[start..<min(ids.count, start + context)])
      // Rows whose next token has not been counted by an earlier window.
      let first = max(0, scoredEnd - start - 1)
      var failure: (any Error)?
      session.reset()
      try session.feed(window, logitsOf: first..<window.count - 1) { index, logits in
        do {
          let report = try sampler.logprobs(
            logits, of: window[index + 1], topCount: 0, position: start + index + 1)
          sum -= Double(report.chosen.logprob)
          count += 1
        } catch { failure = error }
      }
      if let failure { throw failure }
      scoredEnd = start + window.count
      log.info(
        "\(start + window.count) of \(ids.count) tokens, perplexity \(exp(sum / Double(count)))")
      if start + window.count >= ids.count { break }
    }
    let result: JSONValue = [
      "tokens": .integer(count), "nll": .number(sum / Double(count)),
      "perplexity": .number(exp(sum / Double(count))),
    ]
    StandardOutput.write(result.text() + "\n")
  }
}
