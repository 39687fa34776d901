import Foundation
import TestSupport
import Testing

/// What whoever runs the server relies on: flags, logs, metrics, TLS, health, draining.
@Suite(.serialized) struct ServerOperationTests {
  private static let model = Fixtures.path("tiny/moe-f32")

  @Test("flag, then environment, then file, then default")
  func precedence() async throws {
    let folder = try TemporaryFolder()
    let file = folder.file("serve.json")
    let keys =
      #"{"served-model-name": ["from-file"], "api-key": "file-key", "max-model-len": 900}"#
    try Data(keys.utf8).write(to: file)
    struct Models: Decodable {
      struct Model: Decodable {
        let id: String
        let max_model_len: Int
      }
      let data: [Model]
    }
    func model(_ flags: [String], _ environment: [String: String], key: String) async throws
      -> Models.Model
    {
      let server = try await TestServer(model: Self.model, flags, environment: environment)
      #expect(try server.ask("GET", "/v1/models").status == 401)
      let answer = try server.ask(
        "GET", "/v1/models", headers: ["Authorization: Bearer \(key)"])
      #expect(answer.status == 200, "\(answer.text)")
      let models = try answer.json(Models.self)
      return models.data[0]
    }
    let config = ["--config", file.path]
    let fromFile = try await model(config, [:], key: "file-key")
    #expect(fromFile.id == "from-file" && fromFile.max_model_len == 900)
    let environment = [
      "STEP3_SERVED_MODEL_NAME": "from-environment", "STEP3_MAX_MODEL_LEN": "800",
      "STEP3_CONFIG": file.path,
    ]
    let fromEnvironment = try await model([], environment, key: "file-key")
    #expect(fromEnvironment.id == "from-environment" && fromEnvironment.max_model_len == 800)
    let fromFlag = try await model(
      ["--served-model-name", "from-flag", "--api-key", "k"], environment, key: "k")
    #expect(fromFlag.id == "from-flag" && fromFlag.max_model_len == 800)
  }

  @Test("one line of JSON a request with its id and counts, none for probes, no prompt text")
  func requestLog() async throws {
    struct Line: Decodable {
      let id: String
      let path: String
      let status: Int
      let prompt_tokens: Int
      let completion_tokens: Int
      let finish: String?
    }
    let server = try await TestServer(model: Self.model)
    let body = #"{"prompt":"secretword","max_tokens":3,"ignore_eos":true}"#
    let named = try server.ask(
      "POST", "/v1/completions", body, headers: ["x-request-id: my-own-id"])
    #expect(named.headers["x-request-id"] == "my-own-id")
    for path in ["/health", "/ready", "/metrics", "/load", "/version"] {
      let answer = try server.ask("GET", path)
      #expect(answer.status == 200)
      #expect(answer.headers["x-request-id"]?.isEmpty == false)
    }
    #expect(try server.post("/v1/completions", "{}").status == 400)
    #expect(try server.ask("GET", "/nowhere").status == 404)
    try await server.process.wait { $0.errors.contains("/nowhere") }
    let garbage = try HTTPClient(port: server.port)
    garbage.send("GARBAGE\r\n\r\n")
    #expect(garbage.answer().status == 400)
    try await server.process.wait { $0.errors.split(separator: "\n").count == 7 }
    let lines = server.process.errors.split(separator: "\n").filter { $0.hasPrefix("{") }
      .compactMap { try? JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
    // A line is written after its answer is sent, so the order of quick ones is not fixed.
    #expect(lines.map(\.status).sorted() == [200, 400, 400, 404])
    #expect(lines.first?.id == "my-own-id" && lines.first?.path == "/v1/completions")
    #expect(lines.first?.completion_tokens == 3 && lines.first?.finish == "length")
    #expect(!server.process.errors.contains("secretword"))
  }

  @Test("metrics carry our names, and vLLM's when asked; every family is declared once")
  func metrics() async throws {
    let server = try await TestServer(model: Self.model, ["--metrics-compat", "vllm"])
    _ = try server.post("/v1/completions", #"{"prompt":"a b c","max_tokens":4,"ignore_eos":true}"#)
    let text = try server.ask("GET", "/metrics").text
    let families = [
      "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens_total",
      "generation_tokens_total", "prompt_tokens_cached_total", "num_preemptions_total",
      "prefix_cache_queries_total", "prefix_cache_hits_total", "mm_cache_queries_total",
      "mm_cache_hits_total", "request_success_total", "admission_rejections_total",
      "time_to_first_token_seconds", "inter_token_latency_seconds",
      "request_time_per_output_token_seconds", "e2e_request_latency_seconds",
      "request_queue_time_seconds", "request_inference_time_seconds",
      "request_prefill_time_seconds", "request_decode_time_seconds", "request_prompt_tokens",
      "request_generation_tokens", "request_params_max_tokens",
      "request_max_num_generation_tokens", "iteration_tokens_total", "request_params_n",
      "request_num_preemptions", "cache_config_info", "http_requests_total",
      "http_request_duration_seconds",
    ]
    for prefix in ["step3:", "vllm:"] {
      for family in families {
        let declarations = text.components(separatedBy: "# TYPE \(prefix)\(family) ").count - 1
        #expect(declarations == 1, "\(prefix)\(family)")
      }
    }
    #expect(text.contains(#"step3:generation_tokens_total{model_name="moe-f32",engine="0"} 4"#))
    for family in ["load_progress", "weights_bytes", "rss_bytes", "expert_tokens_total"] {
      #expect(text.contains("step3:\(family){"), "\(family)")
    }
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      #expect(Double(line.split(separator: " ").last ?? "") != nil, "\(line)")
    }
  }

  @Test("health is answered while a prompt takes all threads")
  func healthDuringPrefill() async throws {
    let server = try await TestServer(model: Self.model, ["--max-num-batched-tokens", "4096"])
    let long = String(repeating: "many words in here ", count: 400)
    let client = try HTTPClient(port: server.port)
    let body = #"{"prompt":"\#(long)","max_tokens":1}"#
    client.send(HTTPClient.bytes("POST", "/v1/completions", body: Array(body.utf8)))
    var during = 0
    for _ in 0..<2000 {
      let answer = try server.ask("GET", "/health")
      #expect(answer.status == 200)
      let load = try server.load()
      if load.running_requests > 0 { during += 1 }
      if during >= 3 { break }
    }
    #expect(during >= 3)
    #expect(client.answer().status == 200)
  }

  @Test("TLS with a certificate and key, and what is wrong with them")
  func tls() async throws {
    let folder = try TemporaryFolder()
    let (certificate, key) = (folder.file("cert.pem").path, folder.file("key.pem").path)
    let made = try await Self.tool(
      "openssl",
      [
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate,
        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
      ])
    #expect(made.status == 0)
    let server = try await TestServer(
      model: Self.model, ["--ssl-certfile", certificate, "--ssl-keyfile", key])
    let request = """
      POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
      Content-Type: application/json\r\nContent-Length: 58\r\n\r\n\
      {"prompt":"abc","max_tokens":5,"stream":true,"seed":  1  }
      """
    let input = folder.file("request")
    try Data(request.utf8).write(to: input)
    let answer = try await Self.tool(
      "openssl",
      [
        "s_client", "-connect", "localhost:\(server.port)", "-CAfile", certificate,
        "-verify_return_error", "-servername", "localhost", "-quiet",
      ], input: input)
    #expect(answer.output.contains("HTTP/1.1 200 OK"), "\(answer.output)")
    #expect(answer.output.contains("data: [DONE]"))
    // Plain HTTP to a TLS port is no answer, and no harm.
    #expect(try server.ask("GET", "/health").status == 0)
    #expect(server.process.isRunning)

    let half = try await Step3Process.run(
      ["serve", "--model", Self.model, "--port", "0", "--ssl-certfile", certificate])
    #expect(half.exitCode == 2 && half.errors.contains("--ssl-keyfile"))
    try Data("nonsense".utf8).write(to: URL(fileURLWithPath: key))
    let broken = try await Step3Process.run([
      "serve", "--model", Self.model, "--port", "0", "--ssl-certfile", certificate,
      "--ssl-keyfile", key,
    ])
    #expect(broken.exitCode == 2 && broken.errors.contains("key"))
  }

  @Test("SIGTERM lets an answer finish, refuses new ones, and exits 143")
  func drain() async throws {
    let server = try await TestServer(model: Self.model)
    let client = try HTTPClient(port: server.port)
    let body = #"{"prompt":"a","max_tokens":1500,"ignore_eos":true,"stream":true}"#
    client.send(HTTPClient.bytes("POST", "/v1/completions", body: Array(body.utf8)))
    _ = client.read(through: Array("\n\n".utf8))
    let second = try HTTPClient(port: server.port)
    server.process.send(signal: SIGTERM)
    try await server.process.wait { $0.errors.contains("draining") }
    let refused = second.ask("POST", "/v1/completions", #"{"prompt":"a"}"#)
    #expect(refused.status == 503 && refused.headers["retry-after"] != nil)
    let rest = client.read(through: Array("[DONE]".utf8)) ?? []
    #expect(String(decoding: rest, as: UTF8.self).contains(#""finish_reason":"length""#))
    #expect(try await server.process.result().exitCode == 143)
  }

  /// Runs a tool of the system with a file as its input.
  private static func tool(
    _ name: String, _ arguments: [String], input: URL? = nil
  ) async throws -> (status: Int32, output: String) {
    let folder = try TemporaryFolder()
    let output = folder.file("output")
    try Data().write(to: output)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [name] + arguments
    process.standardOutput = try FileHandle(forWritingTo: output)
    process.standardError = FileHandle.nullDevice
    process.standardInput =
      try input.map { try FileHandle(forReadingFrom: $0) }
      ?? FileHandle.nullDevice
    try process.run()
    while process.isRunning { try await Task.sleep(for: .milliseconds(5)) }
    let text = String(decoding: try Data(contentsOf: output), as: UTF8.self)
    return (process.terminationStatus, text)
  }
}
