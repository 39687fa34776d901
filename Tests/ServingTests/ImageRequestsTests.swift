import Foundation
import Inference
import JSONScanning
import Serving
import TestSupport
import Testing

/// A server over a tiny checkpoint that sees.
private struct SeeingServer {
  let engine: Engine
  let server: HTTPServer
  let image: String

  init(_ name: String = "vision-f32", change: (inout APISettings) -> Void = { _ in }) async throws {
    let images = try TinyImages(name)
    let folder = try ModelFolder(path: images.directory)
    var options = EngineOptions()
    options.contextLength = 1024
    options.sequenceLimit = 4
    engine = Engine(folder, options: options)
    try engine.waitUntilLoaded()
    var settings = APISettings()
    change(&settings)
    let api = APIServer(engine: engine, settings: settings)
    let text = try CheckpointText(
      directory: folder.path, vocabularySize: engine.model?.vocabularySize ?? 0)
    api.install(text, images: try ImageReader(folder) { text.id(of: $0) })
    var listening = HTTPServerOptions()
    listening.port = 0
    server = try HTTPServer(options: listening, handler: api)
    image = try Data(contentsOf: URL(fileURLWithPath: images.png)).base64EncodedString()
  }

  func post(_ path: String, _ body: JSONValue) async -> (status: Int, json: JSONValue) {
    let text = body.text()
    let client = RawClient(port: server.port)
    client.send(
      "POST \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        + "Content-Length: \(text.utf8.count)\r\n\r\n" + text)
    let answer = await client.receiveAll()
    let status = Int(answer.dropFirst(9).prefix(3)) ?? 0
    let start = answer.range(of: "\r\n\r\n")?.upperBound ?? answer.endIndex
    return (status, (try? JSONValue(parsing: String(answer[start...]))) ?? .null)
  }

  func stop() async {
    await server.stop()
    engine.stop()
  }
}

private func chat(_ content: JSONValue) -> JSONValue {
  [
    "messages": [["role": "user", "content": content]], "max_tokens": 5, "temperature": 0,
    "ignore_eos": true,
  ]
}

private func part(_ url: String) -> JSONValue {
  ["type": "image_url", "image_url": ["url": .string(url)]]
}

@Suite(.serialized) struct ImageRequestsTests {
  @Test("an image gives the same answer through every API, and is counted")
  func everyAPI() async throws {
    let server = try await SeeingServer()
    let text: JSONValue = ["type": "text", "text": "What?"]
    // The tower makes 9 tokens of the image, and two stand around them.
    let imageTokens = 11
    let first = await server.post(
      "/v1/chat/completions", chat([part("data:image;base64," + server.image), text]))
    #expect(first.status == 200, "\(first.json)")
    let usage = first.json["usage"]
    #expect(usage?["prompt_tokens_details"]?["image_tokens"]?.integer == imageTokens)
    let message = first.json["choices"]?[0]?["message"]
    let answer = message?["reasoning_content"]?.string ?? message?["content"]?.string
    #expect(answer?.isEmpty == false)

    let anthropic = await server.post(
      "/v1/messages",
      [
        "max_tokens": 5, "temperature": 0,
        "messages": [
          [
            "role": "user",
            "content": [
              [
                "type": "image",
                "source": [
                  "type": "base64", "media_type": "image/png", "data": .string(server.image),
                ],
              ], ["type": "text", "text": "What?"],
            ],
          ]
        ],
      ])
    #expect(anthropic.status == 200, "\(anthropic.json)")
    let inputs = anthropic.json["usage"]?["input_tokens"]?.integer ?? 0
    let cached = anthropic.json["usage"]?["cache_read_input_tokens"]?.integer ?? 0
    let total = usage?["prompt_tokens"]?.integer ?? -1
    #expect(inputs == total || inputs + cached == total)

    let responses = await server.post(
      "/v1/responses",
      [
        "max_output_tokens": 5, "temperature": 0,
        "input": [
          [
            "role": "user",
            "content": [
              [
                "type": "input_image",
                "image_url": .string("data:image/png;base64," + server.image),
              ], ["type": "input_text", "text": "What?"],
            ],
          ]
        ],
      ])
    #expect(responses.status == 200, "\(responses.json)")
    #expect(responses.json["usage"]?["input_tokens"]?.integer == total)
    let counted = await server.post(
      "/tokenize",
      ["messages": [["role": "user", "content": [part("data:," + "x"), text]]]])
    #expect(counted.status == 400)
    await server.stop()
  }

  @Test("what is wrong with an image is said by its path")
  func errors() async throws {
    let server = try await SeeingServer { $0.imageLimit = 2 }
    let good = part("data:image/png;base64," + server.image)
    for (content, path, words) in [
      ([part("data:image/png;base64,@@@")], "messages[0].content[0].image_url.url", "base64"),
      (
        [good, part("data:image/png;base64,aGVsbG8=")], "messages[0].content[1].image_url.url",
        "JPEG"
      ),
      ([part("https://example.org/x.png")], "messages[0].content[0].image_url.url", "fetched"),
      ([part("file:///etc/passwd")], "messages[0].content[0].image_url.url", "scheme"),
      ([good, good, good], "messages[0].content[2].image_url.url", "--limit-images"),
    ] as [([JSONValue], String, String)] {
      let answer = await server.post("/v1/chat/completions", chat(.array(content)))
      #expect(answer.status == 400)
      #expect(answer.json["error"]?["param"]?.string == path, "\(answer.json)")
      #expect(answer.json["error"]?["message"]?.string?.contains(words) == true, "\(answer.json)")
    }
    // A placeholder that somebody writes is text, or it is refused; it never takes an image's place.
    let literal = await server.post(
      "/v1/chat/completions", chat([["type": "text", "text": "<im_patch>"], good]))
    #expect(
      literal.status == 400
        || literal.json["usage"]?["prompt_tokens_details"]?["image_tokens"]?.integer == 11)
    let raw = await server.post(
      "/v1/completions", ["prompt": "a <im_patch> b", "max_tokens": 1])
    #expect(raw.status == 400)
    await server.stop()
  }

  @Test("a model that takes text only says so")
  func textOnly() async throws {
    let api = try TestAPI(ScriptedEngine("hi"))
    let answer = await api.post(
      "/v1/chat/completions", chat([part("data:image/png;base64,aGVsbG8=")]))
    #expect(answer.status == 400)
    #expect(answer.json["error"]?["param"]?.string == "messages[0].content[0].image_url.url")
    #expect(answer.json["error"]?["message"]?.string?.contains("no images") == true)
  }
}
