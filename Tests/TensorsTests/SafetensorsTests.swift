import Foundation
import Tensors
import TestSupport
import Testing

extension TemporaryFolder {
  fileprivate var path: String { url.path }

  fileprivate func write(_ name: String, _ bytes: Data) throws {
    try bytes.write(to: url.appendingPathComponent(name))
  }

  /// A safetensors file with this header text and so many bytes of data.
  fileprivate func write(
    _ name: String, header: String, dataBytes: Int, length: UInt64? = nil
  ) throws {
    let claimed = length ?? UInt64(header.utf8.count)
    var data = Data((0..<8).map { UInt8(truncatingIfNeeded: claimed >> (8 * UInt64($0))) })
    data.append(contentsOf: header.utf8)
    data.append(Data(count: dataBytes))
    try write(name, data)
  }
}

private let file = "model.safetensors"
private let good =
  #"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#

@Suite struct SafetensorsTests {
  @Test("tensors are views of the file")
  func readsTensors() throws {
    let folder = try TemporaryFolder()
    try folder.write(file, header: good, dataBytes: 32)
    let files = try CheckpointFiles(directory: folder.path)
    #expect(files.names == ["a", "b"])
    let tensor = try files.tensor("a", shape: [2, 3])
    #expect(tensor.elementType == .float32 && tensor.bytes.byteCount == 24)
    #expect(tensor.slice(1).shape == [3])
    #expect(
      throws: SafetensorsError.wrongShape(
        tensor: "a", path: folder.path + "/" + file, expected: [3, 2], found: [2, 3])
    ) { try files.tensor("a", shape: [3, 2]) }
    #expect(throws: SafetensorsError.missingTensor(tensor: "c", directory: folder.path)) {
      try files.tensor("c")
    }
  }

  @Test("a file cut anywhere is refused with the fact")
  func truncated() throws {
    let folder = try TemporaryFolder()
    try folder.write(file, header: good, dataBytes: 32)
    let whole = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/" + file))
    for length in 0..<whole.count {
      try folder.write(file, whole.prefix(length))
      #expect(throws: SafetensorsError.self) { try CheckpointFiles(directory: folder.path) }
    }
  }

  @Test(
    "malformed headers give a typed error",
    arguments: [
      "", "[]", "{", "nonsense", #"{"a":3}"#, #"{"a":{}}"#,
      #"{"a":{"dtype":"F32","shape":[2]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.5]}}"#,
      #"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
      #"{"a":{"dtype":"F32","shape":[1e30],"data_offsets":[0,8]}}"#,
      #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
      #"{"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}}"#,
      #"{"a":{"dtype":"F32","shape":[200],"data_offsets":[0,800]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
    ])
  func malformed(header: String) throws {
    let folder = try TemporaryFolder()
    try folder.write(file, header: header, dataBytes: 64)
    #expect(throws: SafetensorsError.self) { try CheckpointFiles(directory: folder.path) }
  }

  @Test("an absurd header length is named")
  func absurdLength() throws {
    let folder = try TemporaryFolder()
    try folder.write(file, header: good, dataBytes: 32, length: .max)
    #expect(
      throws: SafetensorsError.absurdHeaderLength(
        path: folder.path + "/" + file, length: .max)
    ) { try CheckpointFiles(directory: folder.path) }
  }

  @Test("shards are found by the index, and must hold what it says")
  func shards() throws {
    let folder = try TemporaryFolder()
    let index = "model.safetensors.index.json"
    try folder.write(
      "x-1.safetensors", header: #"{"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#,
      dataBytes: 4)
    try folder.write(
      "x-2.safetensors", header: #"{"b":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#,
      dataBytes: 4)
    try folder.write(
      index, Data(#"{"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}}"#.utf8))
    #expect(try CheckpointFiles(directory: folder.path).names == ["a", "b"])
    try folder.write(
      index, Data(#"{"weight_map":{"a":"x-1.safetensors","b":"x-1.safetensors"}}"#.utf8))
    #expect(
      throws: SafetensorsError.notInShard(
        tensor: "b", path: folder.path + "/x-1.safetensors")
    ) { try CheckpointFiles(directory: folder.path) }
    try folder.write(index, Data(#"{"weight_map":{"a":"../x"}}"#.utf8))
    #expect(throws: SafetensorsError.self) { try CheckpointFiles(directory: folder.path) }
    try folder.write(index, Data(#"{"weight_map":{"a":"x-3.safetensors"}}"#.utf8))
    #expect(throws: SafetensorsError.file(.notFound(path: folder.path + "/x-3.safetensors"))) {
      try CheckpointFiles(directory: folder.path)
    }
  }

  @Test("an empty folder and a missing one hold no weights")
  func noWeights() throws {
    let folder = try TemporaryFolder()
    for path in [folder.path, folder.path + "/nowhere"] {
      #expect(throws: SafetensorsError.noWeights(directory: path)) {
        try CheckpointFiles(directory: path)
      }
    }
  }
}
