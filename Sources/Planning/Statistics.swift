#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Natural logarithm of a ratio: symmetric where percentages are not.
func logRatio(_ value: Double, _ reference: Double) -> Double { log(value / reference) }

/// Root mean square; 0 for no values.
func rootMeanSquare(_ values: [Double]) -> Double {
  guard !values.isEmpty else { return 0 }
  return (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
}

/// Middle value, or the mean of the two middle ones.
func median(_ values: [Double]) -> Double? {
  guard !values.isEmpty else { return nil }
  let sorted = values.sorted()
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
