/// Shapes of one SVG picture, in the order in which they are painted.
struct SVGDocument {
  let width: Double
  let height: Double
  private var body: [String] = []

  /// Fonts that are there on most systems, the first that exists is taken.
  static let fonts = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"

  init(width: Double, height: Double) {
    self.width = width
    self.height = height
  }

  /// Where a text stands relative to its point.
  enum Anchor: String {
    case start
    case middle
    case end
  }

  mutating func rectangle(
    x: Double, y: Double, width: Double, height: Double, fill: String, radius: Double = 0,
    opacity: Double = 1, title: String? = nil
  ) {
    let tip = title.map { "><title>\(Self.escaped($0))</title></rect>" } ?? "/>"
    let round = radius > 0 ? " rx=\"\(Self.text(radius))\"" : ""
    let clear = opacity < 1 ? " fill-opacity=\"\(Self.text(opacity))\"" : ""
    body.append(
      "<rect x=\"\(Self.text(x))\" y=\"\(Self.text(y))\" width=\"\(Self.text(max(0, width)))\" "
        + "height=\"\(Self.text(max(0, height)))\" fill=\"\(fill)\"\(round)\(clear)\(tip)")
  }

  mutating func line(
    _ from: (Double, Double), _ to: (Double, Double), stroke: String, width: Double = 1,
    dash: String? = nil
  ) {
    let dashes = dash.map { " stroke-dasharray=\"\($0)\"" } ?? ""
    body.append(
      "<line x1=\"\(Self.text(from.0))\" y1=\"\(Self.text(from.1))\" x2=\"\(Self.text(to.0))\" "
        + "y2=\"\(Self.text(to.1))\" stroke=\"\(stroke)\" "
        + "stroke-width=\"\(Self.text(width))\"\(dashes)/>")
  }

  mutating func polyline(
    _ points: [(Double, Double)], stroke: String, width: Double, dash: String? = nil
  ) {
    let list = points.map { "\(Self.text($0.0)),\(Self.text($0.1))" }.joined(separator: " ")
    let dashes = dash.map { " stroke-dasharray=\"\($0)\"" } ?? ""
    body.append(
      "<polyline points=\"\(list)\" fill=\"none\" stroke=\"\(stroke)\" "
        + "stroke-width=\"\(Self.text(width))\" stroke-linejoin=\"round\" "
        + "stroke-linecap=\"round\"\(dashes)/>")
  }

  mutating func polygon(_ points: [(Double, Double)], fill: String, opacity: Double) {
    let list = points.map { "\(Self.text($0.0)),\(Self.text($0.1))" }.joined(separator: " ")
    let clear = Self.text(opacity)
    body.append("<polygon points=\"\(list)\" fill=\"\(fill)\" fill-opacity=\"\(clear)\"/>")
  }

  mutating func circle(_ centre: (Double, Double), radius: Double, fill: String) {
    body.append(
      "<circle cx=\"\(Self.text(centre.0))\" cy=\"\(Self.text(centre.1))\" "
        + "r=\"\(Self.text(radius))\" fill=\"\(fill)\" stroke=\"#ffffff\" stroke-width=\"1.5\"/>")
  }

  mutating func text(
    _ text: String, at point: (Double, Double), size: Double, fill: String = "#334155",
    anchor: Anchor = .start, isBold: Bool = false, rotation: Double = 0
  ) {
    let weight = isBold ? " font-weight=\"600\"" : ""
    let place = "\(Self.text(point.0)) \(Self.text(point.1))"
    let turn = rotation == 0 ? "" : " transform=\"rotate(\(Self.text(rotation)) \(place))\""
    body.append(
      "<text x=\"\(Self.text(point.0))\" y=\"\(Self.text(point.1))\" "
        + "font-size=\"\(Self.text(size))\" fill=\"\(fill)\" "
        + "text-anchor=\"\(anchor.rawValue)\"\(weight)\(turn)>\(Self.escaped(text))</text>")
  }

  /// Roughly how wide `text` is in a sans-serif font of `size`.
  static func width(of text: String, size: Double) -> Double {
    let ems = text.reduce(0.0) { sum, character in
      switch character {
      case "i", "j", "l", "I", ".", ",", ":", "'", "|", " ", "t", "f", "r": sum + 0.31
      case "m", "w", "M", "W", "%": sum + 0.86
      case _ where character.isUppercase: sum + 0.70
      default: sum + 0.56
      }
    }
    return ems * size
  }

  /// The whole document.
  var rendered: String {
    let size = "width=\"\(Self.text(width))\" height=\"\(Self.text(height))\""
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" \(size) "
      + "viewBox=\"0 0 \(Self.text(width)) \(Self.text(height))\" "
      + "font-family=\"\(Self.fonts)\">\n" + body.joined(separator: "\n") + "\n</svg>\n"
  }

  /// Two decimals are finer than any screen.
  private static func text(_ number: Double) -> String {
    let rounded = (number * 100).rounded() / 100
    return rounded == rounded.rounded() ? String(Int(rounded)) : fixedText(rounded, decimals: 2)
  }

  private static func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
      .replacing("\"", with: "&quot;")
  }
}
