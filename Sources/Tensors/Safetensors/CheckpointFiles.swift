import JSONScanning

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// The tensors of a checkpoint folder: one file, or shards with an index.
///
/// Opening maps the files and checks their headers; no tensor data is touched, so the cost does not
/// depend on the model's size.
package struct CheckpointFiles: Sendable {
  /// The folder.
  package let directory: String
  /// The mapped files, in name order.
  package let files: [MappedFile]
  private let tensors: [String: Tensor]
  private let paths: [String: String]

  /// Opens `model.safetensors.index.json` and its shards, or else every *.safetensors file. What is
  /// opened as private may be replaced in memory.
  package init(directory: String, isPrivate: Bool = false) throws(SafetensorsError) {
    let indexPath = directory + "/model.safetensors.index.json"
    var weightMap: [(tensor: String, file: String)]?
    if unsafe access(indexPath, F_OK) == 0 {
      weightMap = try Self.readIndex(indexPath)
    }
    var names = Set<String>()
    if let weightMap {
      for (_, file) in weightMap { names.insert(file) }
    } else {
      names = Set(listDirectory(directory).filter { $0.hasSuffix(".safetensors") })
    }
    guard !names.isEmpty else { throw .noWeights(directory: directory) }

    var files: [MappedFile] = []
    var tensors: [String: Tensor] = [:]
    var paths: [String: String] = [:]
    for name in names.sorted() {
      let file: MappedFile
      do { file = try MappedFile(path: directory + "/" + name, isPrivate: isPrivate) } catch {
        throw .file(error)
      }
      for entry in try SafetensorsHeader(file).entries {
        if let first = paths[entry.name] {
          throw .duplicate(tensor: entry.name, first: first, second: file.path)
        }
        paths[entry.name] = file.path
        tensors[entry.name] = Tensor(
          name: entry.name, elementType: entry.elementType, shape: entry.shape,
          bytes: file.region(entry.range))
      }
      files.append(file)
    }
    for (tensor, file) in weightMap ?? [] where tensors[tensor] == nil {
      throw .notInShard(tensor: tensor, path: directory + "/" + file)
    }
    self.directory = directory
    self.files = files
    self.tensors = tensors
    self.paths = paths
  }

  /// The tensor called `name`, nil when there is none.
  package subscript(name: String) -> Tensor? { tensors[name] }

  /// The tensor called `name`.
  package func tensor(_ name: String) throws(SafetensorsError) -> Tensor {
    guard let tensor = tensors[name] else {
      throw .missingTensor(tensor: name, directory: directory)
    }
    return tensor
  }

  /// The tensor called `name`, which must have `shape`.
  package func tensor(_ name: String, shape: [Int]) throws(SafetensorsError) -> Tensor {
    let tensor = try tensor(name)
    guard tensor.shape == shape else {
      throw .wrongShape(
        tensor: name, path: path(of: name), expected: shape, found: tensor.shape)
    }
    return tensor
  }

  /// The file that holds `name`; the folder when no file does.
  package func path(of name: String) -> String { paths[name] ?? directory }

  /// Writes over bytes of a tensor of a private mapping, for this process alone.
  package func replace(_ name: String, at offset: Int, with bytes: [UInt8]) {
    guard let tensor = tensors[name] else { preconditionFailure("no tensor \(name)") }
    files.first { $0.path == paths[name] }?.replace(tensor.bytes, at: offset, with: bytes)
  }

  /// Gives a tensor of a private mapping the file's bytes back.
  package func restore(_ name: String) {
    guard let tensor = tensors[name] else { preconditionFailure("no tensor \(name)") }
    files.first { $0.path == paths[name] }?.restore(tensor.bytes)
  }

  /// All names, sorted.
  package var names: [String] { tensors.keys.sorted() }

  /// Bytes of all files.
  package var byteCount: Int { files.reduce(0) { $0 + $1.byteCount } }

  private static func readIndex(
    _ path: String
  ) throws(SafetensorsError) -> [(tensor: String, file: String)] {
    let file: MappedFile
    do { file = try MappedFile(path: path) } catch { throw .file(error) }
    let json: JSONValue
    do { json = try JSONValue(parsing: file.contents.bytes()) } catch {
      throw .malformedIndex(path: path, reason: "\(error)")
    }
    guard case .object(let members)? = json["weight_map"] else {
      throw .malformedIndex(path: path, reason: "weight_map is missing or no object")
    }
    var map: [(tensor: String, file: String)] = []
    for member in members.members {
      guard let name = member.value.string, !name.isEmpty, !name.contains("/"), name != ".." else {
        throw .malformedIndex(path: path, reason: "\(member.key) is mapped to no file name")
      }
      map.append((member.key, name))
    }
    return map
  }
}

/// The names in a folder, sorted; empty when it cannot be read.
private func listDirectory(_ path: String) -> [String] {
  guard let stream = unsafe opendir(path) else { return [] }
  defer { unsafe closedir(stream) }
  var names: [String] = []
  while let entry = unsafe readdir(stream) {
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
      unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
    }
    names.append(name)
  }
  return names.sorted()
}
