import ConstrainedDecoding
import JSONScanning
import TestSupport
import Testing

/// Documents under a schema, with the verdicts of an independent validator.
struct SchemaGolden: Sendable, CustomTestStringConvertible {
  let name: String
  let schema: JSONValue
  let valid: [String]
  let invalid: [String]
  var testDescription: String { name }

  static let all: [SchemaGolden] = {
    let document = try? JSONValue(parsing: Fixtures.bytes("constrained-decoding/schemas.json"))
    return (document?.array ?? []).compactMap { entry in
      guard let name = entry["name"]?.string, let schema = entry["schema"] else { return nil }
      return SchemaGolden(
        name: name, schema: schema,
        valid: (entry["valid"]?.array ?? []).compactMap(\.string),
        invalid: (entry["invalid"]?.array ?? []).compactMap(\.string))
    }
  }()

  func grammar() throws -> Grammar {
    try Grammar.compile(.jsonSchema(schema), vocabulary: SmallVocabulary.vocabulary)
  }
}

@Suite("Schemas against an independent validator")
struct SchemaGoldenTests {
  @Test("documents are accepted exactly when they are valid", arguments: SchemaGolden.all)
  func verdicts(_ golden: SchemaGolden) throws {
    let grammar = try golden.grammar()
    #expect(golden.valid.count + golden.invalid.count >= 10)
    for text in golden.valid { #expect(grammar.accepts(Array(text.utf8)), "\(text)") }
    for text in golden.invalid { #expect(!grammar.accepts(Array(text.utf8)), "\(text)") }
  }

  @Test("no schema is lost on the way")
  func fixturesArePresent() {
    #expect(SchemaGolden.all.count == 29)
  }
}
