// The entry of the fuzzer: bytes from anywhere through decoding and preparation.

/// Decodes and prepares; every outcome but a crash, a sanitizer's report or a broken promise is
/// fine. The first byte of the input chooses the options.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzImage(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard let start = unsafe start, count > 1 else { return 0 }
  let input = unsafe [UInt8](UnsafeBufferPointer(start: start, count: count))
  let choice = input[0]
  let bytes = Array(input[1...])
  var limits = ImageLimits()
  limits.pixelCount = 1 << 20
  limits.sideLength = 40_000
  limits.cropCount = 64
  limits.duration = .seconds(5)
  let decoder = ImageDecoder(
    limits: limits, transparency: choice & 1 == 0 ? .overWhite : .drop)
  do {
    let measured = try decoder.measure(bytes)
    let image = try decoder.decode(bytes)
    precondition(image.size == measured.size, "the header and the pixels disagree")
    if choice & 2 == 0 { return 0 }
    var configuration = ImagePreprocessorConfiguration()
    configuration.imageSize = 28
    configuration.cropSize = 28
    configuration.maximumSide = 96
    configuration.windowSize = 24
    configuration.wholeImageSide = 36
    let prepared = try ImagePreprocessor(configuration: configuration, limits: limits)
      .prepare(image)
    precondition(prepared.pixels.allSatisfy { $0.isFinite }, "a pixel is not finite")
    if prepared.cropCount > 0 { _ = prepared.cropPixels(prepared.cropCount - 1) }
    precondition(prepared.plan.expansion.count == prepared.tokenCount)
  } catch {
    precondition(!"\(error)".isEmpty)
  }
  return 0
}
