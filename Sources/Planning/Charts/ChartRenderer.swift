/// Draws a chart as SVG: white ground, light grid, legend above, nothing that does not inform.
struct ChartRenderer {
  private let chart: Chart
  private var svg: SVGDocument
  private var plot = (left: 78.0, top: 108.0, right: 930.0, bottom: 470.0)

  /// Colours that stay apart for readers who see colours differently.
  static let palette = [
    "#2563eb", "#f97316", "#0d9488", "#a855f7", "#dc2626", "#64748b", "#ca8a04", "#0ea5e9",
    "#65a30d", "#be185d",
  ]
  private static let ink = "#0f172a"
  private static let faint = "#e2e8f0"
  private static let muted = "#64748b"

  init(_ chart: Chart) {
    self.chart = chart
    var height = 540.0
    if case .timeline(let tracks, _, _) = chart.content {
      height = max(260, 150 + 34 * Double(tracks.count))
      plot.left = 150
    }
    plot.bottom = height - 64
    svg = SVGDocument(width: 960, height: height)
  }

  mutating func rendered() -> String {
    svg.rectangle(x: 0, y: 0, width: svg.width, height: svg.height, fill: "#ffffff")
    svg.text(chart.title, at: (24, 34), size: 20, fill: Self.ink, isBold: true)
    svg.text(chart.subtitle, at: (24, 56), size: 13, fill: Self.muted)
    switch chart.content {
    case .lines(let lines): draw(lines)
    case .bars(let categories, let series): draw(categories, series)
    case .points(let points): draw(points)
    case .timeline(let tracks, let series, let spans): draw(tracks, series, spans)
    }
    return svg.rendered
  }

  private static func colour(_ index: Int) -> String { palette[index % palette.count] }

  private func x(_ position: Double) -> Double { plot.left + position * (plot.right - plot.left) }

  private func y(_ position: Double) -> Double { plot.bottom - position * (plot.bottom - plot.top) }

  // MARK: Furniture

  private mutating func legend(_ entries: [(name: String, isDashed: Bool)]) {
    var left = 24.0
    for (index, entry) in entries.enumerated() {
      let width = 38 + SVGDocument.width(of: entry.name, size: 13)
      let colour = Self.colour(index)
      if entry.isDashed {
        svg.line((left, 76), (left + 14, 76), stroke: colour, width: 2.5, dash: "4 3")
      } else {
        svg.rectangle(x: left, y: 70, width: 14, height: 12, fill: colour, radius: 3)
      }
      svg.text(entry.name, at: (left + 20, 80.5), size: 13)
      left += width
    }
  }

  private mutating func verticalAxis(_ scale: AxisScale) {
    let step = scale.ticks.count > 1 ? scale.ticks[1] - scale.ticks[0] : 1
    for tick in scale.ticks {
      let height = y(scale.position(tick))
      svg.line((plot.left, height), (plot.right, height), stroke: Self.faint)
      let tickStep = chart.y.scale == .linear ? step : tick
      svg.text(
        chart.y.ticks.text(tick, step: tickStep), at: (plot.left - 8, height + 4), size: 12,
        fill: Self.muted, anchor: .end)
    }
    svg.text(
      chart.y.label, at: (20, (plot.top + plot.bottom) / 2), size: 13, anchor: .middle,
      rotation: -90)
    svg.line((plot.left, plot.bottom), (plot.right, plot.bottom), stroke: "#94a3b8", width: 1.2)
  }

  private mutating func horizontalAxis(_ scale: AxisScale) {
    let step = scale.ticks.count > 1 ? scale.ticks[1] - scale.ticks[0] : 1
    for tick in scale.ticks {
      let place = x(scale.position(tick))
      svg.line((place, plot.bottom), (place, plot.bottom + 5), stroke: "#94a3b8")
      let tickStep = chart.x.scale == .linear ? step : tick
      svg.text(
        chart.x.ticks.text(tick, step: tickStep), at: (place, plot.bottom + 21), size: 12,
        fill: Self.muted, anchor: .middle)
    }
    svg.text(
      chart.x.label, at: ((plot.left + plot.right) / 2, plot.bottom + 46), size: 13,
      anchor: .middle)
  }

  // MARK: Content

  private mutating func draw(_ lines: [Chart.Line]) {
    legend(lines.map { ($0.name, $0.isDashed) })
    let points = lines.flatMap(\.points)
    let bands = lines.flatMap(\.band)
    let horizontal = AxisScale(chart.x, values: points.map(\.x), startsAtZero: true)
    let vertical = AxisScale(
      chart.y, values: points.map(\.y) + bands.map(\.high), startsAtZero: true)
    verticalAxis(vertical)
    horizontalAxis(horizontal)
    for (index, line) in lines.enumerated() {
      let inside = line.points.filter { $0.x <= horizontal.upper * 1.001 }
      let places = inside.map {
        (x(horizontal.position($0.x)), y(min(1, max(0, vertical.position($0.y)))))
      }
      if line.band.count == line.points.count, !line.band.isEmpty {
        let upper = zip(places, line.band).map { ($0.0, y(vertical.position($1.high))) }
        let lower = zip(places, line.band).map { ($0.0, y(vertical.position($1.low))) }
        svg.polygon(upper + lower.reversed(), fill: Self.colour(index), opacity: 0.15)
      }
      svg.polyline(
        places, stroke: Self.colour(index), width: line.isDashed ? 1.8 : 2.6,
        dash: line.isDashed ? "6 4" : nil)
      guard !line.isDashed, places.count <= 24 else { continue }
      for place in places { svg.circle(place, radius: 4.5, fill: Self.colour(index)) }
    }
  }

  private mutating func draw(_ categories: [String], _ series: [Chart.Bars]) {
    legend(series.map { ($0.name, false) })
    let headroom = chart.showsValues ? 1.04 : 1
    let scale = AxisScale(
      chart.y, values: series.flatMap { $0.values.compactMap { $0.map { $0 * headroom } } },
      startsAtZero: true)
    verticalAxis(scale)
    let slot = (plot.right - plot.left) / Double(max(1, categories.count))
    let bar = slot * 0.8 / Double(max(1, series.count))
    for (category, label) in categories.enumerated() {
      let left = plot.left + slot * (Double(category) + 0.1)
      for (index, bars) in series.enumerated() {
        guard let value = bars.values[category] else { continue }
        let top = y(scale.position(value))
        let place = left + bar * Double(index)
        svg.rectangle(
          x: place + 1, y: top, width: bar - 2, height: plot.bottom - top,
          fill: Self.colour(index), radius: min(2.5, bar / 5),
          title: "\(label), \(bars.name): \(significantText(value, digits: 4))")
        if chart.showsValues, bar >= 15 {
          let size = min(12, bar / 2.6)
          svg.text(
            significantText(value, digits: 3), at: (place + bar / 2, top - 5), size: size,
            anchor: .middle)
        }
      }
      for (row, line) in label.split(separator: "\n").enumerated() {
        svg.text(
          String(line), at: (left + slot * 0.4, plot.bottom + 20 + 16 * Double(row)), size: 12.5,
          fill: row == 0 ? "#334155" : Self.muted, anchor: .middle)
      }
    }
  }

  private mutating func draw(_ points: [Chart.Point]) {
    let horizontal = AxisScale(chart.x, values: points.map(\.x), startsAtZero: true)
    let vertical = AxisScale(chart.y, values: points.map(\.y), startsAtZero: true)
    verticalAxis(vertical)
    horizontalAxis(horizontal)
    var taken: [(x: Double, y: Double, width: Double)] = []
    for point in points {
      let place = (x(horizontal.position(point.x)), y(vertical.position(point.y)))
      let colour = point.isEmphasised ? Self.palette[1] : Self.palette[0]
      svg.circle(place, radius: point.isEmphasised ? 8 : 6, fill: colour)
      let width = SVGDocument.width(of: point.label, size: 13)
      let isRight = place.0 + 14 + width < plot.right
      let offsets: [Double] = [4, -12, 20, -28, 36]
      let anchorX = isRight ? place.0 + 12 : place.0 - 12 - width
      let offset =
        offsets.first { offset in
          !taken.contains {
            abs($0.y - (place.1 + offset)) < 15 && $0.x < anchorX + width
              && anchorX < $0.x + $0.width
          }
        } ?? 4
      taken.append((anchorX, place.1 + offset, width))
      svg.text(
        point.label, at: (isRight ? place.0 + 12 : place.0 - 12, place.1 + offset), size: 13,
        fill: point.isEmphasised ? Self.ink : "#334155", anchor: isRight ? .start : .end,
        isBold: point.isEmphasised)
    }
  }

  private mutating func draw(_ tracks: [String], _ series: [String], _ spans: [Chart.Span]) {
    legend(series.map { ($0, false) })
    let horizontal = AxisScale(
      chart.x, values: [0] + spans.map(\.end), startsAtZero: true)
    horizontalAxis(horizontal)
    let slot = (plot.bottom - plot.top) / Double(max(1, tracks.count))
    for (index, track) in tracks.enumerated() {
      let top = plot.top + slot * Double(index)
      svg.text(
        track, at: (plot.left - 10, top + slot / 2 + 4), size: 12.5, anchor: .end)
      svg.line((plot.left, top + slot), (plot.right, top + slot), stroke: Self.faint)
    }
    for span in spans {
      let left = x(horizontal.position(span.start))
      let right = x(horizontal.position(span.end))
      let top = plot.top + slot * Double(span.track) + slot * 0.14
      svg.rectangle(
        x: left, y: top, width: max(0.6, right - left - 0.6), height: slot * 0.72,
        fill: Self.colour(span.series), radius: 2, title: span.label)
      if right - left > SVGDocument.width(of: span.label, size: 11) + 4 {
        svg.text(
          span.label, at: ((left + right) / 2, top + slot * 0.36 + 4), size: 11, fill: "#ffffff",
          anchor: .middle)
      }
    }
  }
}

extension Chart {
  /// The picture as an SVG document.
  package var svg: String {
    var renderer = ChartRenderer(self)
    return renderer.rendered()
  }
}
