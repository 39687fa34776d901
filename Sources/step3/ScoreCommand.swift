import CommandLineInterface
import Foundation
import Inference
import JSONScanning
import ModelConfiguration
import Sampling
import Tensors
import Tokenization

/// `step3 score`: the log-probability of every token of a text.
struct ScoreCommand: Command {
  static let specification = CommandSpecification(
    "score", abstract: "Print the log-probability of every token given those before it.",
    example: "step3 score --model DIR --text 'The sky is blue.' --top 5", takesModel: true,
    flags: [
      .integerList("ids", help: "the tokens as ids"),
      .string("ids-file", "FILE", help: "a JSON array of ids"),
      .string("text", "T", help: "the text (default: standard input)"),
      .integer("top", "K", default: 0, help: "list the K most likely tokens at each position"),
      .string("logits-out", "FILE", help: "write all logits, F32 [tokens, vocabulary]"),
      ModelFlags.dtype, ModelFlags.cacheType, ModelFlags.chunk, ImageFlags.files,
    ] + ImageFlags.all,
    discussion: """
      Each <im_patch> among the tokens is the place of an image, in order; token counts and
      positions are those of the expanded prompt.
      The result is one JSON document. Entry i of "logprobs" belongs to token i; the first is null.
      "greedy" is the most likely token after the last.
      """)

  static func run(_ arguments: ParsedArguments) throws {
    let folder = try ModelFolder(path: arguments.model)
    let prompt = try prompt(arguments, folder)
    let ids = prompt.ids
    guard !ids.isEmpty else { throw InferenceError.emptyPrompt }
    var session = try ScoringSession(
      folder, options: ModelFlags.options(arguments),
      contextLength: min(ids.count, folder.configuration.text.contextLength))
    var scores = Scores(ids: ids, topCount: arguments.integer("top"), folder)
    if let path = arguments.optionalString("logits-out") {
      scores.writer = try LogitsWriter(
        path: path, rows: ids.count, columns: folder.configuration.text.vocabularySize)
    }
    try session.feed(ids, images: prompt.images, logitsOf: 0..<ids.count) { index, logits in
      scores.add(index, logits)
    }
    StandardOutput.write(try scores.finish().text() + "\n")
  }

  private static func prompt(
    _ arguments: ParsedArguments, _ folder: ModelFolder
  ) throws -> Prompt {
    let ids = try ids(arguments)
    let files = arguments.strings(ImageFlags.files.name)
    // Without images ids are taken as they are, the placeholder's too.
    if files.isEmpty { return Prompt(ids: ids, images: []) }
    let tokenizer = try Tokenizer(directory: arguments.model)
    let reader = try ImageFlags.reader(arguments, folder) { tokenizer.id(of: $0).map(Int.init) }
    let images = try files.map { try ImageFlags.read($0, reader, arguments) }
    guard let reader else { throw ImagePromptError.noVision }
    let (expanded, placed) = try reader.expand(ids, images)
    return Prompt(ids: expanded, images: placed)
  }

  private static func ids(_ arguments: ParsedArguments) throws -> [Int] {
    let given = ["ids", "ids-file", "text"].filter { arguments.isGiven($0) }
    guard given.count <= 1 else {
      throw CommandFailure(
        .usage, code: "usage", "--\(given[0]) and --\(given[1]) exclude each other; keep one")
    }
    if given == ["ids"] { return arguments.integers("ids") }
    if let path = arguments.optionalString("ids-file") { return try idsInFile(path) }
    let text = arguments.optionalString("text") ?? StandardInput.text()
    return try Tokenizer(directory: arguments.model).encode(text).map(Int.init)
  }

  private static func idsInFile(_ path: String) throws -> [Int] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw CommandFailure(.usage, code: "file_not_found", "\(path): cannot be read")
    }
    guard let list = try? JSONValue(parsing: [UInt8](data)).array,
      case let ids = list.compactMap(\.integer), ids.count == list.count
    else {
      throw CommandFailure(.usage, code: "bad_ids", "\(path): is not a JSON array of token ids")
    }
    return ids
  }
}

/// Collects what `score` prints, row by row.
private struct Scores: ~Copyable {
  let ids: [Int]
  let topCount: Int
  var writer: LogitsWriter?
  private var sampler: Sampler
  private var logprobs: [JSONValue] = [.null]
  private var top: [JSONValue] = [.null]
  private var greedy = 0
  private var failure: (any Error)?

  init(ids: [Int], topCount: Int, _ folder: ModelFolder) {
    self.ids = ids
    self.topCount = topCount
    sampler = Sampler(vocabularyCount: folder.configuration.text.vocabularySize)
  }

  /// Takes the logits after token `index`, which are about token `index + 1`.
  mutating func add(_ index: Int, _ logits: Span<Float>) {
    do {
      try writer?.append(logits)
      let next = index + 1
      let report = try sampler.logprobs(
        logits, of: next < ids.count ? ids[next] : 0, topCount: max(1, topCount), position: next)
      guard next < ids.count else {
        greedy = report.top[0].token
        return
      }
      logprobs.append(json(report.chosen.logprob))
      top.append(
        .array(
          report.top.prefix(topCount).map {
            ["id": .integer($0.token), "logprob": json($0.logprob)]
          }))
    } catch { failure = failure ?? error }
  }

  consuming func finish() throws -> JSONValue {
    if let failure { throw failure }
    try writer.take()?.finish()
    var document: JSONValue = [
      "tokens": .integer(ids.count), "logprobs": .array(logprobs),
    ]
    if topCount > 0, case .object(var members) = document {
      members["top"] = .array(top)
      document = .object(members)
    }
    if case .object(var members) = document {
      members["greedy"] = .integer(greedy)
      document = .object(members)
    }
    return document
  }

  /// A logprob as JSON, which has no infinities.
  private func json(_ logprob: Float) -> JSONValue {
    logprob.isFinite ? .number(Double(logprob)) : .null
  }
}

/// Streams logits into a safetensors file.
private struct LogitsWriter: ~Copyable {
  private var writer: SafetensorsWriter

  init(path: String, rows: Int, columns: Int) throws {
    let url = URL(fileURLWithPath: path)
    writer = try SafetensorsWriter(
      directory: url.deletingLastPathComponent().path,
      tensors: [
        TensorDeclaration(name: "logits", elementType: .float32, shape: [rows, columns])
      ],
      maximumShardByteCount: .max, singleFileName: url.lastPathComponent)
  }

  mutating func append(_ row: Span<Float>) throws {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(4 * row.count)
    for index in row.indices {
      let bits = row[index].bitPattern
      for shift in stride(from: UInt32(0), to: 32, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: bits >> shift))
      }
    }
    try writer.append(bytes, to: "logits")
  }

  consuming func finish() throws { _ = try writer.finish() }
}
