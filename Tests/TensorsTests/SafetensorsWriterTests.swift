import Foundation
import Tensors
import TestSupport
import Testing

@Suite struct SafetensorsWriterTests {
  private let tensors = [
    TensorDeclaration(name: "a", elementType: .float32, shape: [3, 5]),
    TensorDeclaration(name: "empty", elementType: .int32, shape: [0, 4]),
    TensorDeclaration(name: "quote\"d", elementType: .uint8, shape: [7]),
    TensorDeclaration(name: "scalar", elementType: .bfloat16, shape: []),
  ]

  private func bytes(_ count: Int, from start: UInt8) -> [UInt8] {
    (0..<count).map { start &+ UInt8(truncatingIfNeeded: $0) }
  }

  private func write(to folder: TemporaryFolder, shard: Int = 1 << 30) throws -> [String] {
    var writer = try SafetensorsWriter(
      directory: folder.url.path, tensors: tensors, maximumShardByteCount: shard)
    try writer.append(Array(bytes(60, from: 1)[..<13]), to: "a")
    try writer.append(Array(bytes(60, from: 1)[13...]), to: "a")
    try writer.append(ByteRegion(copying: bytes(7, from: 100)), to: "quote\"d")
    try writer.append([0x80, 0x3F], to: "scalar")
    return try writer.finish()
  }

  @Test("what is written reads back, aligned to 64 bytes")
  func roundTrips() throws {
    let folder = try TemporaryFolder()
    #expect(try write(to: folder) == ["model.safetensors"])
    let files = try CheckpointFiles(directory: folder.url.path)
    #expect(files.names == ["a", "empty", "quote\"d", "scalar"])
    #expect(try files.tensor("a", shape: [3, 5]).bytes.bytes() == bytes(60, from: 1))
    #expect(try files.tensor("quote\"d").bytes.bytes() == bytes(7, from: 100))
    #expect(try files.tensor("scalar").floats() == [1])
    #expect(try files.tensor("empty").shape == [0, 4])
    let file = try Data(contentsOf: folder.file("model.safetensors"))
    #expect((file.count - 69) % 64 == 0)
  }

  @Test("shards split between tensors, and an index names them")
  func writesShards() throws {
    let folder = try TemporaryFolder()
    let names = try write(to: folder, shard: 60)
    #expect(
      names == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
      ])
    let files = try CheckpointFiles(directory: folder.url.path)
    #expect(files.files.count == 2)
    #expect(try files.tensor("scalar").floats() == [1])
    #expect(try files.tensor("a").bytes.bytes() == bytes(60, from: 1))
  }

  @Test("nothing bears its final name before the end")
  func isAtomic() throws {
    let folder = try TemporaryFolder()
    do {
      var writer = try SafetensorsWriter(directory: folder.url.path, tensors: tensors)
      try writer.append(bytes(60, from: 1), to: "a")
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder.url.path)
          == ["model.safetensors.partial"])
    }
    #expect(throws: SafetensorsError.noWeights(directory: folder.url.path)) {
      try CheckpointFiles(directory: folder.url.path)
    }
  }

  @Test("a tensor declared twice and a folder that is not there are refused")
  func refuses() throws {
    #expect(throws: SafetensorsWriterError.duplicateTensor(name: "a")) {
      _ = try SafetensorsWriter(directory: ".", tensors: [tensors[0], tensors[0]])
    }
    let folder = try TemporaryFolder()
    let absent = folder.url.path + "/absent"
    var writer = try SafetensorsWriter(directory: absent, tensors: tensors)
    #expect(
      throws: SafetensorsWriterError.cannotCreate(
        path: absent + "/model.safetensors.partial", errno: 2)
    ) { try writer.append(bytes(60, from: 1), to: "a") }
  }
}
