import ClusterControl
import Foundation
import ImageProcessing
import Inference
import JSONScanning
import ModelConfiguration
import Serving
import TestSupport
import Testing

/// Two servers of a tiny checkpoint that sees, and a gateway in front of them.
private struct SeeingCluster {
  let engines: [Engine]
  let nodes: [HTTPServer]
  let gateway: GatewayEngine
  let front: HTTPServer
  let image: String

  /// `nodeRules` changes by which rules the nodes read images.
  init(
    change: (inout HTTPServerOptions) -> Void = { _ in },
    nodeRules: (inout ImagePreprocessorConfiguration) -> Void = { _ in }
  ) async throws {
    let images = try TinyImages("vision-f32")
    let folder = try ModelFolder(path: images.directory)
    image = try Data(contentsOf: URL(fileURLWithPath: images.png)).base64EncodedString()
    let key = Array("0123456789abcdef".utf8)
    var engines: [Engine] = []
    var nodes: [HTTPServer] = []
    for _ in 0..<2 {
      var options = EngineOptions()
      options.contextLength = 1024
      options.sequenceLimit = 4
      let engine = Engine(folder, options: options)
      try engine.waitUntilLoaded()
      var settings = APISettings()
      settings.clusterKey = key
      let api = APIServer(engine: engine, settings: settings)
      let text = try CheckpointText(
        directory: folder.path, vocabularySize: engine.model?.vocabularySize ?? 0)
      var rules = try #require(try ModelFolder.imagePreprocessing(directory: folder.path))
      nodeRules(&rules)
      let reader = try ImageReader(
        folder, preprocessor: ImagePreprocessor(configuration: rules)
      ) { text.id(of: $0) }
      api.install(text, images: reader)
      var listening = HTTPServerOptions()
      listening.port = 0
      change(&listening)
      nodes.append(try HTTPServer(options: listening, handler: api))
      engines.append(engine)
    }
    var file = ClusterFile(
      path: "cluster.json",
      nodes: nodes.enumerated().map {
        ClusterNode(id: "a\($0)", role: .attention, host: "127.0.0.1", port: $1.port)
      }, key: key)
    file.timeouts.heartbeat = .milliseconds(20)
    gateway = try GatewayEngine(file) { _ in }
    for _ in 0..<1000 where gateway.peers.contains(where: { !$0.isUp }) {
      try await Task.sleep(for: .milliseconds(10))
    }
    let api = APIServer(engine: gateway, settings: APISettings())
    let text = try CheckpointText(
      directory: folder.path, vocabularySize: gateway.model?.vocabularySize ?? 0)
    let reader = try ImageReader(forwardingFrom: folder.path) { text.id(of: $0) }
    api.install(text, images: reader)
    var listening = HTTPServerOptions()
    listening.port = 0
    front = try HTTPServer(options: listening, handler: api)
    self.engines = engines
    self.nodes = nodes
  }

  func ask(_ port: Int, images: [String], detail: String = "auto") async -> TestAPI.Answer {
    var parts: [JSONValue] = images.map {
      ["type": "image_url", "image_url": ["url": .string($0), "detail": .string(detail)]]
    }
    parts.append(["type": "text", "text": "What?"])
    let body: JSONValue = [
      "messages": [["role": "user", "content": .array(parts)]], "max_tokens": 6, "temperature": 0,
      "ignore_eos": true, "logprobs": true,
    ]
    return await TestAPI.post(port: port, "/v1/chat/completions", body)
  }

  func stop() async {
    await front.stop()
    gateway.stop()
    for node in nodes { await node.stop() }
    for engine in engines { engine.stop() }
  }
}

@Suite("Images through a gateway", .serialized)
struct GatewayImagesTests {
  @Test("a gateway answers about images as its nodes do, and counts their tokens")
  func passesImages() async throws {
    let cluster = try await SeeingCluster()
    #expect(cluster.gateway.takesImages)
    let url = "data:image/png;base64," + cluster.image
    for (images, detail) in [([url], "auto"), ([url], "low"), ([url, url], "auto")] {
      let direct = await cluster.ask(cluster.nodes[0].port, images: images, detail: detail)
      let through = await cluster.ask(cluster.front.port, images: images, detail: detail)
      #expect(through.status == 200, "\(through.body)")
      #expect(through.json["choices"]?[0]?["logprobs"] == direct.json["choices"]?[0]?["logprobs"])
      let usage = through.json["usage"]
      #expect(usage?["prompt_tokens"] == direct.json["usage"]?["prompt_tokens"])
      #expect(usage?["prompt_tokens_details"]?["image_tokens"]?.integer == 11 * images.count)
    }
    await cluster.stop()
  }

  @Test("a file that is no image is refused by the gateway, by its field")
  func refusesDamage() async throws {
    let cluster = try await SeeingCluster()
    let answer = await cluster.ask(
      cluster.front.port, images: ["data:image/png;base64,iVBORw0KGgo="])
    #expect(answer.status == 400)
    #expect(answer.body.contains("messages[0].content[0].image_url.url"))
    await cluster.stop()
  }

  @Test("nodes that read images by other rules refuse them, and say what to do")
  func refusesOtherRules() async throws {
    let cluster = try await SeeingCluster(nodeRules: { $0.wholeImageSide = 4 })
    let url = "data:image/png;base64," + cluster.image
    let answer = await cluster.ask(cluster.front.port, images: [url])
    #expect(answer.status == 500)
    #expect(answer.body.contains("--image-"))
    // The nodes go on.
    #expect(cluster.gateway.peers.allSatisfy { $0.isUp })
    await cluster.stop()
  }

  @Test("images that are too large for a node's body limit are refused at once")
  func refusesLarge() async throws {
    let cluster = try await SeeingCluster(change: { $0.maximumBodyByteCount = 600 })
    let url = "data:image/png;base64," + cluster.image
    let answer = await cluster.ask(cluster.front.port, images: [url])
    #expect(answer.status == 500)
    #expect(answer.body.contains("--max-body-size"))
    await cluster.stop()
  }
}
