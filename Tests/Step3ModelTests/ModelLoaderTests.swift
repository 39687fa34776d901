import Foundation
import JSONScanning
import Kernels
import ModelConfiguration
import Step3Model
import Tensors
import TestSupport
import Testing

private func compute() throws -> Compute {
  Compute(kernels: try KernelSet.select(.reference), threadCount: 1)
}

private func configuration(_ folder: TemporaryFolder) throws -> TextConfiguration {
  let bytes = [UInt8](try Data(contentsOf: folder.file("config.json")))
  return try Step3Configuration(json: JSONValue(parsing: bytes), path: "config.json").text
}

private func load(
  _ folder: TemporaryFolder, _ edit: (inout TextConfiguration) -> Void = { _ in }
) throws -> TextDecoder {
  var text = try configuration(folder)
  edit(&text)
  var loader = ModelLoader(
    files: try CheckpointFiles(directory: folder.url.path), configuration: text)
  return try loader.load(activation: .float32, compute: try compute()).decoder
}

@Suite struct ModelLoaderTests {
  @Test("every tiny checkpoint loads and uses all of its text tensors")
  func usesEverything() throws {
    for name in TinyCheckpoint.names {
      let folder = try TemporaryFolder(copying: "tiny/" + name)
      var loader = ModelLoader(
        files: try CheckpointFiles(directory: folder.url.path),
        configuration: try configuration(folder))
      _ = try loader.load(activation: .bfloat16, compute: try compute())
      #expect(loader.unusedNames.isEmpty, "\(name): \(loader.unusedNames)")
    }
  }

  @Test("a tensor of another shape than config.json demands is named")
  func wrongShape() throws {
    let folder = try TemporaryFolder(copying: "tiny/moe-f32")
    do {
      _ = try load(folder) { $0.sharedExpertWidth += 1 }
      Issue.record("a wrong width was accepted")
    } catch let error as SafetensorsError {
      guard case .wrongShape(let tensor, _, _, _) = error else { throw error }
      #expect(tensor.contains("share_expert"))
    }
  }

  @Test("a missing tensor is named")
  func missing() throws {
    let folder = try TemporaryFolder(copying: "tiny/moe-f32")
    do {
      _ = try load(folder) {
        $0.layerCount += 1
        $0.isMixtureLayer.append(false)
      }
      Issue.record("a missing layer was accepted")
    } catch let error as SafetensorsError {
      guard case .missingTensor(let tensor, _) = error else { throw error }
      #expect(tensor.contains("layers."))
    }
  }

  @Test("E4M3 without its factors, and integers, are refused by name")
  func wrongElementType() throws {
    let folder = try TemporaryFolder(copying: "tiny/dense-f32")
    let name = "model.safetensors"
    var bytes = [UInt8](try Data(contentsOf: folder.file(name)))
    // The same number of bytes per element, so only the type is wrong.
    let header = String(decoding: bytes, as: UTF8.self)
    #expect(header.contains(#""F32""#))
    let (float, integer) = (Array(#""F32""#.utf8), Array(#""I32""#.utf8))
    for index in 0..<bytes.count - 5 where Array(bytes[index..<index + 5]) == float {
      bytes.replaceSubrange(index..<index + 5, with: integer)
    }
    try Data(bytes).write(to: folder.file(name))
    do {
      _ = try load(folder)
      Issue.record("integers were accepted as weights")
    } catch let error as SafetensorsError {
      guard case .wrongElementType(_, _, let found, _) = error else { throw error }
      #expect(found == "I32")
    }
  }

  @Test("a tied checkpoint has one embedding, and counts it once")
  func tied() throws {
    let folder = try TemporaryFolder(copying: "tiny/tied-f32")
    let decoder = try load(folder)
    #expect(decoder.isTied)
    let traffic = ModelTraffic(decoder: decoder, feedForward: [])
    #expect(traffic.parameterCounts[.head] == nil)
  }
}
