import CostModel
package import JSONScanning

/// One value of a report's table.
package enum ReportCell: Equatable, Sendable {
  case text(String)
  case number(Double)
  case missing

  /// A number, or nothing where there is none.
  init(_ number: Double?) {
    self = number.map { .number($0) } ?? .missing
  }
}

/// How a column's numbers are shown to people; files hold them unrounded.
package enum NumberStyle: Equatable, Sendable {
  case text
  case integer
  case fixed(Int)
  case scientific(Int)
  /// Shares as percent.
  case percent(Int)
  /// As many significant digits as given, without an exponent where that is readable.
  case significant(Int)
}

/// One column: its key in files, its heading for people, and how its numbers look.
package struct ReportColumn: Equatable, Sendable {
  /// The key in JSON and the name in CSV.
  package let key: String
  /// The heading for people.
  package let heading: String
  /// How numbers of the column look.
  package let style: NumberStyle

  init(_ key: String, _ heading: String, _ style: NumberStyle = .text) {
    self.key = key
    self.heading = heading
    self.style = style
  }
}

/// One table or figure of the report, regenerated: values, notes on deviations, and a chart.
package struct Report: Sendable {
  /// What it is asked for by, such as `table6`.
  package let name: String
  /// What it shows.
  package let title: String
  /// Columns in order; every row has a cell for each.
  package let columns: [ReportColumn]
  /// The values.
  package let rows: [[ReportCell]]
  /// What a reader must know: assumptions and where the printed report deviates.
  package let notes: [String]
  /// The picture, where there is one.
  package let chart: Chart?

  init(
    name: String, title: String, columns: [ReportColumn], rows: [[ReportCell]],
    notes: [String] = [], chart: Chart? = nil
  ) {
    self.name = name
    self.title = title
    self.columns = columns
    self.rows = rows
    self.notes = notes
    self.chart = chart
    precondition(rows.allSatisfy { $0.count == columns.count }, "\(name): ragged rows")
  }

  /// The number in the first row whose first cells are `labels`, for tests and documents.
  package func number(_ key: String, where labels: [String]) -> Double? {
    guard let column = columns.firstIndex(where: { $0.key == key }) else { return nil }
    let row = rows.first { row in
      zip(labels, row).allSatisfy { label, cell in
        switch cell {
        case .text(let text): text == label
        case .number(let number): Double(label) == number
        case .missing: false
        }
      }
    }
    guard case .number(let value)? = row?[column] else { return nil }
    return value
  }
}

// MARK: Forms

extension Report {
  /// The report as one JSON object, numbers unrounded.
  package var document: JSONValue {
    .members([
      ("report", .string(name)), ("title", .string(title)),
      (
        "columns",
        .array(
          columns.map {
            .members([("key", .string($0.key)), ("heading", .string($0.heading))])
          })
      ),
      (
        "rows",
        .array(
          rows.map { row in
            .members(zip(columns, row).map { ($0.key, Self.json($1)) })
          })
      ), ("notes", .strings(notes)),
    ])
  }

  private static func json(_ cell: ReportCell) -> JSONValue {
    switch cell {
    case .text(let text): .string(text)
    case .number(let number): .finite(number)
    case .missing: .null
    }
  }

  /// The table as CSV (RFC 4180), numbers unrounded, notes left out.
  package var csv: String {
    CSV.line(columns.map(\.key))
      + rows.map { row in
        CSV.line(
          row.map { cell in
            switch cell {
            case .text(let text): text
            case .number(let number): plainNumber(number)
            case .missing: ""
            }
          })
      }.joined()
  }

  /// The table for people: aligned columns, numbers as the report rounds them.
  package var text: String {
    let cells = rows.map { row in
      zip(columns, row).map { column, cell in column.style.shown(cell) }
    }
    let table = TextTable(
      headings: columns.map(\.heading), rows: cells,
      alignments: columns.map { $0.style == .text ? .left : .right })
    return title + "\n\n" + table.text
      + (notes.isEmpty ? "" : "\n" + notes.map { "* \($0)\n" }.joined())
  }
}

/// CSV as RFC 4180 has it.
package enum CSV {
  /// One line with its end.
  package static func line(_ fields: [String]) -> String {
    fields.map { field in
      let needsQuotes = field.contains { $0 == "," || $0 == "\"" || $0.isNewline }
      return needsQuotes ? "\"" + field.replacing("\"", with: "\"\"") + "\"" : field
    }.joined(separator: ",") + "\r\n"
  }
}

/// Columns of text padded to their widest cell.
package struct TextTable {
  /// Where a column's text stands.
  package enum Alignment: Sendable {
    case left
    case right
  }

  private let lines: [[String]]
  private let alignments: [Alignment]

  /// A table with one heading and one alignment per column.
  package init(headings: [String], rows: [[String]], alignments: [Alignment]) {
    lines = [headings] + rows
    self.alignments = alignments
  }

  /// The table, a rule under the headings.
  package var text: String {
    let widths = alignments.indices.map { column in
      lines.map { $0[column].count }.max() ?? 0
    }
    var out = lines.map { line in
      let padded = zip(zip(line, widths), alignments).map { pair, alignment in
        let space = String(repeating: " ", count: pair.1 - pair.0.count)
        return alignment == .left ? pair.0 + space : space + pair.0
      }
      return trimmed(padded.joined(separator: "  ")) + "\n"
    }
    let rule = widths.map { String(repeating: "─", count: $0) }.joined(separator: "  ") + "\n"
    out.insert(rule, at: 1)
    return out.joined()
  }

  private func trimmed(_ line: String) -> String {
    var line = line
    while line.last == " " { line.removeLast() }
    return line
  }
}
