/// A picture of a report: what it shows, not how it is drawn.
package struct Chart: Sendable {
  /// One axis: its label, its unit in tick labels, and its scale.
  package struct Axis: Sendable {
    /// How values map to positions.
    package enum Scale: Sendable {
      case linear
      /// Ticks at powers of two.
      case binary
      /// Ticks at powers of ten.
      case decimal
    }

    let label: String
    let scale: Scale
    /// How tick values look.
    let ticks: TickStyle
    /// Fixed upper end; nil lets the data decide.
    let upper: Double?

    init(
      _ label: String, _ scale: Scale = .linear, ticks: TickStyle = .plain, upper: Double? = nil
    ) {
      self.label = label
      self.scale = scale
      self.ticks = ticks
      self.upper = upper
    }
  }

  /// How tick values are written.
  enum TickStyle: Sendable {
    case plain
    case usd
    case kilotokens
    case billions
    case giga
    case seconds
    case percent
  }

  /// A named set of points joined by a line.
  struct Line: Sendable {
    let name: String
    let points: [(x: Double, y: Double)]
    var isDashed = false
    /// A shaded range around each point, as for confidence intervals.
    var band: [(low: Double, high: Double)] = []
  }

  /// A named value per category.
  struct Bars: Sendable {
    let name: String
    let values: [Double?]
  }

  /// A labelled point.
  struct Point: Sendable {
    let label: String
    let x: Double
    let y: Double
    var isEmphasised = false
  }

  /// A stretch of time on one track.
  package struct Span: Sendable {
    let track: Int
    let start: Double
    let end: Double
    let series: Int
    let label: String

    /// A stretch from `start` to `end` on `track`, in the colour of `series`.
    package init(track: Int, start: Double, end: Double, series: Int, label: String) {
      self.track = track
      self.start = start
      self.end = end
      self.series = series
      self.label = label
    }
  }

  enum Content: Sendable {
    case lines([Line])
    case bars(categories: [String], [Bars])
    case points([Point])
    case timeline(tracks: [String], series: [String], [Span])
  }

  let title: String
  let subtitle: String
  let x: Axis
  let y: Axis
  let content: Content
  /// Whether bars carry their values.
  var showsValues = false
}

extension Chart {
  /// A picture of what each resource does over time, in milliseconds.
  package static func timeline(
    title: String, subtitle: String, tracks: [String], series: [String], spans: [Span]
  ) -> Chart {
    Chart(
      title: title, subtitle: subtitle, x: Axis("time (ms)"), y: Axis(""),
      content: .timeline(tracks: tracks, series: series, spans))
  }
}
