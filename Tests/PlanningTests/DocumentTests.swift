import Foundation
import Planning
import TestSupport
import Testing

@Suite("docs/cost-model.md")
struct DocumentTests {
  @Test("every marked number is what the program computes today")
  func markedNumbers() throws {
    let page = Fixtures.packageRoot.appendingPathComponent("docs/cost-model.md")
    let text = try String(contentsOf: page, encoding: .utf8)
    let inputs = try ReportInputs()
    var reports: [String: Report] = [:]
    for name in ReportCatalogue.names {
      reports[name] = try ReportCatalogue.report(name, from: inputs)
    }
    var count = 0
    let parts = text.split(separator: "<!--=")
    for piece in parts.indices.dropFirst() {
      let mark = parts[piece].prefix { $0 != ">" }.dropLast(2)
      let shown = parts[piece - 1].split { $0 == " " || $0 == "\n" || $0 == "|" || $0 == "(" }
      let fields = mark.split(separator: ";").map(String.init)
      guard fields.count >= 4, let style = fields.last else {
        Issue.record("mark without style: \(mark)")
        continue
      }
      let report = try #require(reports[fields[0]], "\(mark)")
      let value = try #require(
        report.number(fields[1], where: Array(fields.dropFirst(2).dropLast())), "\(mark)")
      let expected = try #require(Self.text(value, style), "\(mark)")
      let written = (shown.last ?? "").replacing("\u{A0}", with: " ")
      #expect(written == expected, "\(mark)")
      count += 1
    }
    #expect(count > 40)
  }

  private static func text(_ value: Double, _ style: String) -> String? {
    guard let digits = Int(style.dropFirst()) else { return nil }
    return switch style.first {
    case ".": fixedText(value, decimals: digits)
    case ",": grouped(fixedText(value, decimals: digits))
    case "%": NumberStyle.percent(digits).shown(value)
    case "e": NumberStyle.scientific(digits).shown(value)
    default: nil
    }
  }

  private static func grouped(_ text: String) -> String {
    guard text.count > 3 else { return text }
    return grouped(String(text.dropLast(3))) + "," + text.suffix(3)
  }
}
