#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Maps values to positions and chooses round tick values.
struct AxisScale {
  let lower: Double
  let upper: Double
  let ticks: [Double]
  private let isLogarithmic: Bool

  init(_ axis: Chart.Axis, values: [Double], startsAtZero: Bool) {
    let finite = values.filter(\.isFinite)
    let high = axis.upper ?? finite.max() ?? 1
    switch axis.scale {
    case .linear:
      isLogarithmic = false
      let low = startsAtZero ? min(0, finite.min() ?? 0) : finite.min() ?? 0
      let step = Self.roundStep((high > low ? high - low : max(abs(high), 1)) / 5)
      let first = (low / step).rounded(.down) * step
      let last = max((high / step).rounded(.up) * step, first + step)
      lower = first
      upper = last
      ticks = (0...Int(((last - first) / step).rounded())).map { first + Double($0) * step }
    case .binary, .decimal:
      isLogarithmic = true
      let base: Double = axis.scale == .binary ? 2 : 10
      let positive = finite.filter { $0 > 0 }
      let first = (log(positive.min() ?? 1) / log(base) + 1e-9).rounded(.down)
      let last = max((log(max(high, 1e-300)) / log(base) - 1e-9).rounded(.up), first + 1)
      lower = pow(base, first)
      upper = pow(base, last)
      ticks = (Int(first)...Int(last)).map { pow(base, Double($0)) }
    }
  }

  /// Position from 0 to 1.
  func position(_ value: Double) -> Double {
    guard isLogarithmic else { return (value - lower) / (upper - lower) }
    return log(max(value, lower / 1e6) / lower) / log(upper / lower)
  }

  /// 1, 2, 2.5 or 5 times a power of ten, at least `step`.
  private static func roundStep(_ step: Double) -> Double {
    let power = pow(10, log10(step).rounded(.down))
    let choices: [Double] = [1, 2, 2.5, 5, 10]
    return (choices.first { $0 * power >= step * 0.999 } ?? 10) * power
  }
}

extension Chart.TickStyle {
  /// A tick value as the axis shows it; every tick of an axis has the decimals its step needs.
  func text(_ value: Double, step: Double) -> String {
    switch self {
    case .plain, .seconds:
      value >= 10_000 ? NumberStyle.integer.shown(value) : Self.plain(value, step)
    case .usd: "$" + Self.plain(value, step)
    case .kilotokens: Self.plain(value / 1024, step / 1024) + "K"
    case .billions: Self.plain(value / 1e9, step / 1e9) + "B"
    case .giga: Self.plain(value / 1e9, step / 1e9)
    case .percent: Self.plain(value * 100, step * 100) + "%"
    }
  }

  private static func plain(_ value: Double, _ step: Double) -> String {
    let decimals =
      (0...6).first { decimals in
        let scaled = step * pow(10, Double(decimals))
        return scaled >= 1 && abs(scaled - scaled.rounded()) < 1e-6 * scaled
      } ?? 6
    return fixedText(value, decimals: decimals)
  }
}
