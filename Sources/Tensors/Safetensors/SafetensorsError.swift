/// What is wrong with a checkpoint's tensor files.
package enum SafetensorsError: Error, Equatable, Sendable {
  /// A file could not be opened.
  case file(FileError)
  /// The folder holds no safetensors file.
  case noWeights(directory: String)
  /// The file is shorter than its header says, or has no header.
  case truncatedHeader(path: String, needed: Int, found: Int)
  /// The header length is beyond any sane limit.
  case absurdHeaderLength(path: String, length: UInt64)
  /// The header is not the JSON that the format demands.
  case malformedHeader(path: String, reason: String)
  /// One tensor's entry is malformed.
  case malformedEntry(path: String, tensor: String, reason: String)
  /// An element type this engine does not know.
  case unknownElementType(path: String, tensor: String, found: String)
  /// The entry's bytes lie outside the file.
  case outOfRange(path: String, tensor: String, begin: Int, end: Int, available: Int)
  /// The entry's byte count is not that of its shape.
  case sizeMismatch(path: String, tensor: String, expected: Int, found: Int)
  /// Two tensors claim the same bytes.
  case overlap(path: String, first: String, second: String)
  /// The same tensor stands in two files.
  case duplicate(tensor: String, first: String, second: String)
  /// The index file is malformed.
  case malformedIndex(path: String, reason: String)
  /// The index names a file whose header lacks the tensor.
  case notInShard(tensor: String, path: String)
  /// The checkpoint lacks a tensor that the model needs.
  case missingTensor(tensor: String, directory: String)
  /// A tensor has another shape than the configuration demands.
  case wrongShape(tensor: String, path: String, expected: [Int], found: [Int])
  /// A tensor has an element type that cannot be used in its place.
  case wrongElementType(tensor: String, path: String, found: String, expected: String)
  /// A quantised tensor and its companions do not fit together, or not these kernels.
  case wrongQuantization(tensor: String, path: String, reason: String)
}

extension SafetensorsError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .file(let error): "\(error)"
    case .noWeights(let directory):
      "\(directory): holds no *.safetensors file; is this a checkpoint folder?"
    case .truncatedHeader(let path, let needed, let found):
      "\(path): truncated: the header needs \(needed) bytes, the file has \(found); "
        + "fetch the file again"
    case .absurdHeaderLength(let path, let length):
      "\(path): the header claims \(length) bytes (the format allows 100 MB); "
        + "this is not a safetensors file"
    case .malformedHeader(let path, let reason):
      "\(path): malformed safetensors header: \(reason)"
    case .malformedEntry(let path, let tensor, let reason):
      "\(path): tensor \(tensor): \(reason)"
    case .unknownElementType(let path, let tensor, let found):
      "\(path): tensor \(tensor): unknown dtype \"\(found)\""
    case .outOfRange(let path, let tensor, let begin, let end, let available):
      "\(path): tensor \(tensor): bytes \(begin)..<\(end) lie outside the file's \(available) "
        + "bytes of data; the file is truncated or damaged, fetch it again"
    case .sizeMismatch(let path, let tensor, let expected, let found):
      "\(path): tensor \(tensor): its shape takes \(expected) bytes, its offsets span \(found)"
    case .overlap(let path, let first, let second):
      "\(path): tensors \(first) and \(second) overlap"
    case .duplicate(let tensor, let first, let second):
      "tensor \(tensor) stands in both \(first) and \(second)"
    case .malformedIndex(let path, let reason):
      "\(path): malformed index: \(reason)"
    case .notInShard(let tensor, let path):
      "\(path): the index says that it holds tensor \(tensor), but it does not"
    case .missingTensor(let tensor, let directory):
      "\(directory): tensor \(tensor) is missing; the checkpoint is incomplete, or config.json "
        + "describes another model"
    case .wrongShape(let tensor, let path, let expected, let found):
      "\(path): tensor \(tensor) has shape \(found), config.json demands \(expected)"
    case .wrongElementType(let tensor, let path, let found, let expected):
      "\(path): tensor \(tensor) is \(found), usable here: \(expected)"
    case .wrongQuantization(let tensor, let path, let reason):
      "\(path): quantised tensor \(tensor): \(reason)"
    }
  }
}
