import Tensors

extension WeightMatrix {
  /// Reads the elements' pages from the checkpoint, so that the first product need not wait.
  package func readAhead() { values.touch() }
}
