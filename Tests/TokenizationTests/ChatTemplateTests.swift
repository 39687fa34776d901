import Foundation
import JSONScanning
import TestSupport
import Testing
import Tokenization

@Suite("Chat templates render as jinja2 does in transformers' environment")
struct ChatTemplateTests {
  private static let folder = "chat-templates/"

  private static func document(_ name: String) throws -> JSONValue {
    try JSONValue(parsing: Fixtures.bytes(folder + name), duplicateKeys: .keepLast)
  }

  private static func variables(_ value: JSONValue?) -> [String: JSONValue] {
    var result: [String: JSONValue] = [:]
    for member in value?.object?.members ?? [] { result[member.key] = member.value }
    return result
  }

  private static func date(_ value: JSONValue?) -> TemplateDate {
    let parts = value?.array?.compactMap(\.integer) ?? []
    return TemplateDate(
      year: parts[0], month: parts[1], day: parts[2], hour: parts[3], minute: parts[4],
      second: parts[5])
  }

  /// What rendering gives: a text, "raised" with the template's message, or "failed".
  private static func outcome(_ body: () throws(TemplateError) -> String) -> String {
    do {
      return "=" + (try body())
    } catch {
      if case .raised(let message) = error { return "raised " + message }
      return "failed"
    }
  }

  private static func expectation(_ value: JSONValue) -> String {
    if let text = value["expected"]?.string { return "=" + text }
    return value["error"] == "raised" ? "raised " + (value["message"]?.string ?? "") : "failed"
  }

  @Test(
    "conversations come out as the template's author meant",
    arguments: [
      "deepseek-r1-style", "gemma-style", "hermes-style", "llama31-style", "mistral-style",
      "qwen3-style", "smollm2", "step3-default", "step3-head",
    ])
  func conversations(name: String) throws {
    let document = try Self.document("cases.json")
    let template = try ChatTemplate(source: Fixtures.text(Self.folder + name + ".jinja"))
    var count = 0
    for value in document["cases"]?.array ?? [] where value["template"]?.string == name + ".jinja" {
      let conversation = value["conversation"]?.string ?? ""
      let variant = document["variants"]?.array?[value["variant"]?.integer ?? 0]
      let found = Self.outcome { () throws(TemplateError) in
        try template.render(
          messages: document["conversations"]?[conversation]?.array ?? [],
          tools: variant?["tools"]?.array,
          addGenerationPrompt: variant?["add_generation_prompt"] == true, bosToken: "<s>",
          eosToken: "</s>", extra: Self.variables(variant?["extra"]),
          date: Self.date(document["now"]))
      }
      #expect(
        found == Self.expectation(value), "\(name), \(conversation), \(value["variant"] ?? 0)")
      count += 1
    }
    #expect(count == 70)
  }

  @Test("every construct means what it means in Jinja")
  func expressions() throws {
    let document = try Self.document("expressions.json")
    let variables = Self.variables(document["variables"])
    let date = Self.date(try Self.document("cases.json")["now"])
    let values = document["cases"]?.array ?? []
    for value in values {
      let source = value["source"]?.string ?? ""
      let found = Self.outcome { () throws(TemplateError) in
        try ChatTemplate(source: source).render(
          messages: [], tools: nil, extra: variables, date: date)
      }
      #expect(found == Self.expectation(value), "\(source)")
    }
    #expect(values.count > 150)
  }

  @Test("the built-in default is the fixture, so that its goldens hold for it")
  func builtInDefault() throws {
    let fixture = try Fixtures.text(Self.folder + "step3-default.jinja")
    #expect(ChatTemplate.step3DefaultSource == fixture)
  }

  @Test(
    "what templates do not use is refused with its line and name",
    arguments: [
      (
        "\n{% include 'x' %}",
        TemplateError.unsupported(line: 2, construct: "the statement 'include'")
      ),
      ("{% extends 'x' %}", .unsupported(line: 1, construct: "the statement 'extends'")),
      ("\n\n{{ 1|nofilter }}", .unsupported(line: 3, construct: "the filter 'nofilter'")),
      ("{{ 1 is notest }}", .unsupported(line: 1, construct: "the test 'notest'")),
      ("{{ [].append(1) }}", .forbidden(line: 1, construct: "access to 'append' of a list")),
      ("\n{{ nobody.there }}", .undefined(line: 2, name: "'nobody'")),
      ("{{ 1", .syntax(line: 1, expected: "'}}'", found: "the end of the template")),
    ])
  func refusals(source: String, error: TemplateError) {
    #expect(throws: error) { try ChatTemplate(source: source).render(messages: []) }
  }

  private static func nested(_ open: String, _ close: String) -> String {
    let count = 999
    let inner = String(repeating: open, count: count) + "1" + String(repeating: close, count: count)
    return "{{ \(inner) }}"
  }

  @Test(
    "templates that would run away are stopped",
    arguments: [
      ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", TemplateLimit.depth),
      ("{{ 'x' * 999999999999 }}", .stringBytes),
      ("{{ range(99999999) }}", .rangeLength),
      (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        .steps
      ),
      (
        "{% set n = namespace(x=[]) %}{% for a in range(9999) %}{% set n.x = [n.x] %}{% endfor %}",
        .depth
      ),
      ("{% set n = namespace() %}{% set n.n = n %}{% set n.m = n %}{{ n }}", .depth),
      (nested("(", ")"), .depth),
      (nested("not ", ""), .depth),
      (nested("1 + ", ""), .depth),
      (
        nested("(", ")").replacing("{{", with: "{% for").replacing("1", with: "a")
          .replacing("}}", with: "in x %}"), .depth
      ),
    ] as [(String, TemplateLimit)])
  func limits(source: String, limit: TemplateLimit) throws {
    do {
      _ = try ChatTemplate(source: source).render(messages: [])
      Issue.record("\(source.prefix(60)) was not stopped")
    } catch TemplateError.limitExceeded(_, let exceeded) {
      #expect(exceeded == limit)
    }
  }

  @Test("a damaged template gives a text or an error, never a trap")
  func damage() throws {
    let marks = ["{", "}", "%", "'", "(", "|", "\n", "", "{% raw %}", "-%}", "[::-1]", "é"]
    let messages: [JSONValue] = [["role": "user", "content": "hi"]]
    for name in ["hermes-style", "qwen3-style", "mistral-style", "step3-default"] {
      let source = Array(try Fixtures.text(Self.folder + name + ".jinja").unicodeScalars)
      for place in stride(from: 0, to: source.count, by: 13) {
        var damaged = String.UnicodeScalarView(source[..<place])
        damaged.append(contentsOf: marks[place % marks.count].unicodeScalars)
        damaged.append(contentsOf: source[(place + 1)...])
        _ = try? ChatTemplate(source: String(damaged)).render(
          messages: messages, tools: [["function": ["name": "f"]]])
      }
    }
  }

  @Test("a checkpoint's own template is found in the order of its files")
  func loadingOrder() throws {
    let folder = try TemporaryFolder()
    let message: [JSONValue] = [["role": "user", "content": "hi"]]
    func rendered(_ tools: [JSONValue]? = nil) throws -> String {
      try ChatTemplate(directory: folder.url.path).render(messages: message, tools: tools)
    }
    #expect(try ChatTemplate(directory: folder.url.path).origin == .step3Default)
    #expect(try rendered() == "<|BOT|>user\nhi<|EOT|><|BOT|>assistant\n<think>\n")

    func write(_ name: String, _ text: String) throws {
      try text.write(to: folder.file(name), atomically: true, encoding: .utf8)
    }
    try write(
      "tokenizer_config.json",
      #"{"chat_template":[{"name":"default","template":"plain"},"#
        + #"{"name":"tool_use","template":"tools"}]}"#
    )
    #expect(try rendered() == "plain")
    #expect(try rendered([]) == "tools")
    try write("chat_template.json", #"{"chat_template":"from json"}"#)
    #expect(try rendered() == "from json")
    try write("chat_template.jinja", "from {{ 'jinja' }}\n")
    #expect(try rendered() == "from jinja")
    #expect(
      try ChatTemplate(directory: folder.url.path).origin == .file("chat_template.jinja"))
  }
}
