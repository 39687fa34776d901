import Foundation
import TestSupport
import Testing

/// An answer depends on its request alone, whatever else the server does.
@Suite(.serialized) struct ServerSamenessTests {
  /// A path, a body, and a part of the body that tells the crowd's requests from this one.
  private struct Question: Sendable {
    let path: String
    let body: String
  }

  private static let text = "The quick brown fox jumps over the lazy dog and runs far away."

  /// Greedy and drawn, chat and plain, one choice and several, free and constrained.
  private static let questions: [Question] = [
    Question(
      path: "/v1/chat/completions",
      body: """
        {"messages":[{"role":"user","content":"\(text)"}],"max_tokens":24,"temperature":0,
         "logprobs":true,"top_logprobs":3,"ignore_eos":true}
        """),
    Question(
      path: "/v1/chat/completions",
      body: """
        {"messages":[{"role":"user","content":"\(text)"}],"max_tokens":20,"temperature":1,"n":3,
         "seed":11,"top_p":0.9,"logprobs":true,"top_logprobs":1,"ignore_eos":true,
         "frequency_penalty":0.5,"repetition_penalty":1.1}
        """),
    Question(
      path: "/v1/chat/completions",
      body: """
        {"messages":[{"role":"user","content":"\(text)"}],"max_tokens":60,"seed":3,"logprobs":true,
         "thinking_token_budget":5,
         "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":
          {"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"boolean"}},
           "required":["a","b"],"additionalProperties":false}}}}
        """),
    Question(
      path: "/v1/completions",
      body: """
        {"prompt":["\(text)","\(text) \(text)"],"max_tokens":8,"echo":true,"logprobs":2,
         "temperature":0.8,"seed":5}
        """),
  ]

  /// What must not change: the choices with their texts and logprobs.
  private static func choices(_ answer: HTTPAnswer) throws -> String {
    #expect(answer.status == 200, "\(answer.text)")
    let start = try #require(answer.text.range(of: "\"choices\":"))
    let end = try #require(answer.text.range(of: "\"usage\":"))
    return String(answer.text[start.lowerBound..<end.lowerBound])
  }

  private static func cachedCount(_ answer: HTTPAnswer) throws -> Int {
    struct Document: Decodable {
      struct Usage: Decodable {
        struct Details: Decodable { let cached_tokens: Int }
        let prompt_tokens_details: Details
      }
      let usage: Usage
    }
    return try answer.json(Document.self).usage.prompt_tokens_details.cached_tokens
  }

  /// Another request of the crowd: some share the prompt's beginning, all differ in their rest.
  private static func neighbour(_ index: Int) -> String {
    let shared = index % 2 == 0 ? text : ""
    return """
      {"messages":[{"role":"user","content":"\(shared) \(index) \(text.prefix(index))"}],
       "max_tokens":\(4 + index % 30),"seed":\(index),"logprobs":true,"ignore_eos":true}
      """
  }

  private static func inACrowd(_ question: Question, _ server: TestServer) async throws
    -> HTTPAnswer
  {
    let port = server.port
    let answers = await Parallel.map(32) { index in
      (try? HTTPClient(port: port))?.ask(
        "POST", index == 13 ? question.path : "/v1/chat/completions",
        index == 13 ? question.body : neighbour(index)) ?? HTTPAnswer()
    }
    for answer in answers { #expect(answer.status == 200, "\(answer.text)") }
    return answers[13]
  }

  @Test("alone, after a prefix hit, among 31 others, in other chunks, on other threads: same bits")
  func sameAnswers() async throws {
    let model = Fixtures.path("tiny/moe-f32")
    var expected: [String] = []
    let plain = try await TestServer(
      model: model, ["--threads", "2", "--block-size", "16", "--no-prefix-caching"])
    for question in Self.questions {
      expected.append(try Self.choices(try plain.post(question.path, question.body)))
    }
    let shared = try await TestServer(model: model, ["--threads", "2", "--block-size", "16"])
    for (question, expected) in zip(Self.questions, expected) {
      #expect(try Self.choices(try shared.post(question.path, question.body)) == expected)
      let again = try shared.post(question.path, question.body)
      #expect(try Self.choices(again) == expected)
      if question.path.contains("chat") { #expect(try Self.cachedCount(again) > 0) }
      #expect(try Self.choices(try await Self.inACrowd(question, shared)) == expected)
    }
    let other = try await TestServer(
      model: model,
      [
        "--threads", "1", "--max-num-batched-tokens", "24", "--max-num-seqs", "24",
        "--block-size", "64",
      ])
    for (question, expected) in zip(Self.questions, expected) {
      #expect(try Self.choices(try other.post(question.path, question.body)) == expected)
      #expect(try Self.choices(try await Self.inACrowd(question, other)) == expected)
    }
  }

  @Test("the logprobs of an echoed prompt are those of step3 score, and streams say the same")
  func logprobsAreThoseOfScore() async throws {
    struct Document: Decodable {
      struct Choice: Decodable {
        struct Columns: Decodable { let token_logprobs: [Double?] }
        let text: String
        let logprobs: Columns
      }
      let choices: [Choice]
    }
    for name in ["dense-f32", "moe-fp8"] {
      let model = Fixtures.path("tiny/\(name)")
      let ids = (0..<40).map { String(($0 * 37 + 11) % 250) }.joined(separator: ",")
      let result = try await Step3Process.run([
        "score", "--model", model, "--ids", ids, "--format", "json",
      ])
      let score = try result.json(Score.self)
      let server = try await TestServer(model: model)
      let answer = try server.post(
        "/v1/completions",
        #"{"prompt":[[\#(ids)]],"max_tokens":0,"echo":true,"logprobs":1,"temperature":0}"#)
      let choice = try #require(try answer.json(Document.self).choices.first)
      let found = choice.logprobs.token_logprobs
      #expect(found.count == score.logprobs.count && found.first == .some(nil))
      for (found, expected) in zip(found, score.logprobs).dropFirst() {
        #expect(found.map { Float($0) } == expected.map { Float($0) })
      }
      // What is generated has the logprobs that it has as a prompt.
      let longer = try server.post(
        "/v1/completions",
        #"{"prompt":[[\#(ids)]],"max_tokens":12,"echo":true,"logprobs":1,"seed":4,"ignore_eos":true,"return_token_ids":true}"#
      )
      struct Tokens: Decodable {
        struct Choice: Decodable { let token_ids: [Int] }
        let choices: [Choice]
      }
      let tokens = try #require(try longer.json(Tokens.self).choices.first).token_ids
      let whole = ids + "," + tokens.map(String.init).joined(separator: ",")
      let echoed = try server.post(
        "/v1/completions",
        #"{"prompt":[[\#(whole)]],"max_tokens":0,"echo":true,"logprobs":1}"#)
      #expect(
        try longer.json(Document.self).choices[0].logprobs.token_logprobs
          == echoed.json(Document.self).choices[0].logprobs.token_logprobs)
    }
  }
}
