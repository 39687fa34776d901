package import Tensors

/// Why a GGUF file cannot be read: what is wrong, in which item, at which byte.
package enum GGUFError: Error, Equatable, Sendable {
  case file(FileError)
  case notGGUF(path: String, firstBytes: [UInt8])
  case bigEndian(path: String)
  case unsupportedVersion(path: String, version: UInt32)
  case truncated(path: String, item: String, offset: Int, needed: UInt64, available: Int)
  case invalidText(path: String, item: String, offset: Int)
  case unknownValueType(path: String, key: String, offset: Int, type: UInt32)
  case nestedTooDeep(path: String, key: String, offset: Int)
  case duplicateKey(path: String, key: String)
  case invalidAlignment(path: String, alignment: UInt64)
  case splitFile(path: String, parts: UInt64)
  case missingKey(path: String, key: String)
  case wrongValue(path: String, key: String, expected: String, found: String)
  case unsupportedTensorType(path: String, tensor: String, type: String)
  case invalidShape(path: String, tensor: String, shape: [UInt64])
  case rowNotWholeBlocks(path: String, tensor: String, columns: Int, blockSize: Int)
  case misalignedTensor(path: String, tensor: String, offset: UInt64, alignment: Int)
  case tensorOutsideFile(
    path: String, tensor: String, offset: UInt64, byteCount: Int, available: Int)
  case duplicateTensor(path: String, tensor: String)
  case overlappingTensors(path: String, first: String, second: String)
}

extension GGUFError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .file(let error): error.description
    case .notGGUF(let path, let bytes):
      "\(path): not a GGUF file (it starts with bytes \(bytes), not with \"GGUF\")"
    case .bigEndian(let path):
      "\(path): a big-endian GGUF file; only little-endian ones are read"
    case .unsupportedVersion(let path, let version):
      "\(path): GGUF version \(version); versions 2 and 3 are read, write the file anew"
    case .truncated(let path, let item, let offset, let needed, let available):
      "\(path): cut off in \(item) at byte \(offset): \(needed) bytes needed, "
        + "\(available) left; fetch the file again"
    case .invalidText(let path, let item, let offset):
      "\(path): \(item) at byte \(offset) is not UTF-8 text"
    case .unknownValueType(let path, let key, let offset, let type):
      "\(path): the key \(key) at byte \(offset) has the unknown value type \(type)"
    case .nestedTooDeep(let path, let key, let offset):
      "\(path): the key \(key) holds arrays nested too deeply at byte \(offset)"
    case .duplicateKey(let path, let key):
      "\(path): the key \(key) occurs twice"
    case .invalidAlignment(let path, let alignment):
      "\(path): general.alignment is \(alignment), not a power of two from 8 to 65536"
    case .splitFile(let path, let parts):
      "\(path): one of \(parts) parts of a split GGUF; merge the parts into one file first"
    case .missingKey(let path, let key):
      "\(path): the key \(key) is missing"
    case .wrongValue(let path, let key, let expected, let found):
      "\(path): the key \(key) is \(found); expected \(expected)"
    case .unsupportedTensorType(let path, let tensor, let type):
      "\(path): the tensor \(tensor) is stored as \(type); supported are "
        + BlockType.allCases.map(\.name).joined(separator: ", ")
    case .invalidShape(let path, let tensor, let shape):
      "\(path): the tensor \(tensor) has the impossible shape \(shape)"
    case .rowNotWholeBlocks(let path, let tensor, let columns, let blockSize):
      "\(path): a row of the tensor \(tensor) has \(columns) elements, "
        + "not a multiple of its block of \(blockSize)"
    case .misalignedTensor(let path, let tensor, let offset, let alignment):
      "\(path): the tensor \(tensor) starts at offset \(offset), not a multiple of \(alignment)"
    case .tensorOutsideFile(let path, let tensor, let offset, let byteCount, let available):
      "\(path): the tensor \(tensor) takes \(byteCount) bytes from offset \(offset), but the "
        + "file has \(available) bytes of tensor data; fetch it again"
    case .duplicateTensor(let path, let tensor):
      "\(path): the tensor \(tensor) occurs twice"
    case .overlappingTensors(let path, let first, let second):
      "\(path): the tensors \(first) and \(second) overlap"
    }
  }
}
